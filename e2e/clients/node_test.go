// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const nodeExample = "../../examples/node"

func TestNodeVaultReadsThePlainPath(t *testing.T) {
	followByNode(t, "node-vault, plain path", "[node](../examples/node): AppRole, a program of 100 lines", func(s *story) (string, time.Duration) {
		return s.credsPath(), 0
	})
}

func TestNodeVaultReadsByKVVersion2(t *testing.T) {
	followByNode(t, "node-vault, KV version 2", "[node](../examples/node): AppRole, a program of 100 lines; reads each 15 s here", func(s *story) (string, time.Duration) {
		return "data/" + s.credsPath(), refreshInterval
	})
}

func followByNode(t *testing.T, name, needs string, how func(*story) (path string, interval time.Duration)) {
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s", program)
		}
	}
	modules, err := installNodeModules()
	require.NoError(t, err)
	follow(t, client{
		name: name, needs: needs,
		ran: fmt.Sprintf("%s on Node %s", nodeVaultVersion(t, modules), programVersion(t, "node", "--version")),
		start: func(s *story) {
			path, interval := how(s)
			script := s.replace(s.example("node/follow.js"), strconv.Quote(s.Path(s.credsPath())), strconv.Quote(s.Path(path)),
				`approle = "approle"`, fmt.Sprintf("approle = %q", filepath.Base(s.approle(path))))
			if interval > 0 {
				script = s.replace(script, "interval = 60;", fmt.Sprintf("interval = %d;", int(interval.Seconds())))
			}
			s.save("follow.js", script)
			s.save("package.json", s.example("node/package.json"))
			require.NoError(s.t, os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(s.dir, "node_modules")))
			s.StartProgram("follow.js", s.dir, nil, append([]string{"node", "follow.js"}, s.consumerCommand()...)...)
			s.requireOneConsumer()
		},
	})
}

// nodeVaultVersion is that of the package which was installed.
func nodeVaultVersion(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "node_modules", "node-vault", "package.json"))
	require.NoError(t, err)
	var found struct{ Version string }
	require.NoError(t, json.Unmarshal(raw, &found))
	return found.Version
}

// installNodeModules does once what the README of the examples says, and returns a
// directory with node_modules.
var installNodeModules = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "c1-node-")
	if err != nil {
		return "", err
	}
	vaulttest.OnExit(func() { _ = os.RemoveAll(dir) })
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join(nodeExample, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return dir, nil
})
