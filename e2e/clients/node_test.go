// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const nodeExample = "../../examples/node"

func TestNodeVaultReadsThePlainPath(t *testing.T) {
	followByNode(t, "node-vault, heeding ttl", "[node](../examples/node): AppRole, a program of 100 lines", func(s *story) (string, time.Duration) {
		return s.credsPath(), 0
	})
}

func TestNodeVaultReadsByKVVersion2(t *testing.T) {
	followByNode(t, "node-vault, KV v2, every 15 s", "[node](../examples/node): AppRole, a program of 100 lines", func(s *story) (string, time.Duration) {
		return "data/" + s.credsPath(), refreshInterval
	})
}

func followByNode(t *testing.T, name, needs string, how func(*story) (path string, interval time.Duration)) {
	modules := nodeModules(t)
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

// nodeModules is a directory with the packages that the example needs.
func nodeModules(t *testing.T) string {
	t.Helper()
	requireNode(t)
	dir, err := installNodeModules()
	require.NoError(t, err)
	return dir
}

// requireNode skips a test where Node.js is not installed.
func requireNode(t *testing.T) {
	t.Helper()
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s", program)
		}
	}
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
var installNodeModules = sync.OnceValues(func() (string, error) { return installPackages(nodeExample) })

// installPackages copies the files of a Node.js program to a directory that is removed in
// the end, installs there what its package-lock.json says, and returns it.
func installPackages(program string) (string, error) {
	dir, err := os.MkdirTemp("", "c1-node-")
	if err != nil {
		return "", err
	}
	vaulttest.OnExit(func() { _ = os.RemoveAll(dir) })
	if err := os.CopyFS(dir, os.DirFS(program)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(context.Background(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return dir, nil
}

// What no story has: a token that ends, a Vault that does not answer, a connector that
// ends by itself.
func TestTheNodeProgramKeepsTheConnectorThroughAnOutageAndEndsWithIt(t *testing.T) {
	t.Parallel()
	modules := nodeModules(t)
	dir := t.TempDir()
	script, err := os.ReadFile(filepath.Join(nodeExample, "follow.js"))
	require.NoError(t, err)
	require.Contains(t, string(script), "const interval = 60;")
	files := map[string]string{
		"follow.js": strings.Replace(string(script), "const interval = 60;", "const interval = 0.05;", 1),
		"role-id":   "role\n", "secret-id": "login-secret\n", "package.json": `{"type": "module"}`,
		// It runs until it finds a file, or is stopped.
		"connector": "#!/bin/sh\necho \"$BATON_CLIENT_ID ${VAULT_TOKEN:-}\" >> started\nwhile [ ! -e end ]; do sleep 0.05; done\nexit 7\n",
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700))
	}
	require.NoError(t, os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")))
	vault := newUnsteadyVault(t)

	cmd := exec.CommandContext(t.Context(), "node", "follow.js", "./connector")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + vault.server.URL}
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	cmd.WaitDelay = time.Second
	require.NoError(t, cmd.Start())
	started := func(want ...string) {
		t.Helper()
		vaulttest.Eventually(t, time.Minute, func() error {
			raw, err := os.ReadFile(filepath.Join(dir, "started"))
			if string(raw) != strings.Join(want, " \n")+" \n" {
				return fmt.Errorf("started: %q, %w", raw, err)
			}
			return nil
		})
	}
	started("id-1")
	reads := vault.reads.Load()
	vaulttest.Eventually(t, time.Minute, func() error {
		if vault.reads.Load() < reads+5 {
			return errors.New("it does not read")
		}
		return nil
	})
	started("id-1") // it is not restarted for the same version

	vault.down.Store(true)
	refused := vault.refused.Load()
	vaulttest.Eventually(t, time.Minute, func() error {
		if vault.refused.Load() < refused+3 {
			return errors.New("it does not try again")
		}
		return nil
	})
	started("id-1")

	vault.version.Store(2)
	vault.ended.Store(true) // the token, while nobody was there
	vault.down.Store(false)
	started("id-1", "id-2")
	require.EqualValues(t, 2, vault.logins.Load())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "end"), nil, 0o600))
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 7, exit.ExitCode(), "so that whatever runs it starts it again")
	require.Contains(t, printed.String(), "the connector runs with version 2")
	for _, secret := range []string{"login-secret", "token-", "secret-1", "secret-2"} {
		require.NotContains(t, printed.String(), secret)
	}
}

// unsteadyVault knows AppRole, and one binding by KV version 2.
type unsteadyVault struct {
	server                          *httptest.Server
	down, ended                     atomic.Bool // ended: the next use of a token ends it
	version, logins, reads, refused atomic.Int64
}

func newUnsteadyVault(t *testing.T) *unsteadyVault {
	t.Helper()
	v := &unsteadyVault{}
	v.version.Store(1)
	v.server = httptest.NewServer(v)
	t.Cleanup(v.server.Close)
	return v
}

func (v *unsteadyVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch {
	case v.down.Load():
		v.refused.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case r.URL.Path == "/v1/auth/approle/login":
		answer = map[string]any{"auth": map[string]any{"client_token": fmt.Sprintf("token-%d", v.logins.Add(1))}}
	case v.ended.Swap(false), r.Header.Get("X-Vault-Token") != fmt.Sprintf("token-%d", v.logins.Load()):
		w.WriteHeader(http.StatusForbidden)
		return
	default:
		v.reads.Add(1)
		version := v.version.Load()
		answer = map[string]any{"data": map[string]any{
			"data":     map[string]any{"client_id": fmt.Sprintf("id-%d", version), "client_secret": fmt.Sprintf("secret-%d", version)},
			"metadata": map[string]any{"version": version},
		}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}
