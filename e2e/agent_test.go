// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestVaultAgentRendersRenewsAndRendersAnew(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	// The Agent renews during the lease; its maximum ends it soon.
	short := object{"ttl": "6s", "max_ttl": "15s"}
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), short)
	e.BindDecoy(e.Mount, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), object{"rotate_on": "write", "ttl": "6s", "max_ttl": "15s"})
	dir := agentDirectory(t, e)
	e.StartAgent(dir)

	rendered := filepath.Join(dir, "out", "connector.env")
	first := eventuallyEnv(t, rendered, "")
	require.NoError(t, login(t, e, first["BATON_CLIENT_ID"], first["BATON_CLIENT_SECRET"]))
	info, err := os.Stat(rendered)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	planted := filepath.Join(dir, "out", "web-1.env")
	bait := eventuallyEnv(t, planted, "")
	requireSameShape(t, rendered, planted)
	require.Error(t, login(t, e, bait["BATON_CLIENT_ID"], bait["BATON_CLIENT_SECRET"]))
	finding := e.Tenant.Findings()[0]
	found := e.MustWrite("lookup", object{"fingerprint_sha256": finding.Fingerprint}).Data
	require.Equal(t, "web-1:/srv/app/.env", found["placement"])
	require.Equal(t, "bait", found["binding"])
	require.NotEmpty(t, found["entity_id"], "AppRole made an entity for the Agent")

	second := eventuallyEnv(t, rendered, first["BATON_CLIENT_SECRET"])
	require.NoError(t, login(t, e, second["BATON_CLIENT_ID"], second["BATON_CLIENT_SECRET"]))
	vaulttest.Eventually(t, 30*time.Second, func() error {
		if login(t, e, first["BATON_CLIENT_ID"], first["BATON_CLIENT_SECRET"]) == nil {
			return errors.New("the credential outlives its lease")
		}
		return nil
	})
	records := e.Records("connectors/github")
	started := parseTime(t, records[len(records)-1]["finished_at"])
	again := parseTime(t, records[len(records)-2]["finished_at"])
	require.Greater(t, again.Sub(started), 6*time.Second, "the lease was renewed before it ended")
	requireHealthy(t, e)
}

// requireSameShape checks that bait gives itself away by nothing: its file has
// the lines of a real one, and not a character besides the values.
func requireSameShape(t *testing.T, genuine, bait string) {
	t.Helper()
	shape := func(path string) string {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var names strings.Builder
		for line := range strings.Lines(string(raw)) {
			name, value, found := strings.Cut(line, "=")
			require.True(t, found && strings.HasSuffix(value, "\n"), "each line is NAME=value")
			names.WriteString(name + "=\n")
		}
		return names.String()
	}
	require.Equal(t, "BATON_CLIENT_ID=\nBATON_CLIENT_SECRET=\n", shape(bait))
	require.Equal(t, shape(genuine), shape(bait))
	of := func(path string) os.FileMode {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Mode()
	}
	require.Equal(t, of(genuine), of(bait))
}

// agentDirectory copies examples/agent, for this engine's mount, and does what
// the README beside it says.
func agentDirectory(t *testing.T, e *vaulttest.Engine) string {
	t.Helper()
	return agentsOf(t, e, "agent", "c1-agent")()
}

// agentsOf does once for an example what its README says, and returns what makes
// a directory with a copy of the example for one Agent of this engine's mount.
func agentsOf(t *testing.T, e *vaulttest.Engine, example, name string) func() string {
	t.Helper()
	vault := func(stdin string, args ...string) string {
		t.Helper()
		stdout, stderr, code := e.CLI(stdin, args...)
		require.Zero(t, code, stderr)
		return stdout
	}
	auth := e.Mount + "-approle"
	vault("", "auth", "enable", "-path="+auth, "approle")
	vault(examplePolicy(t, e, example+"/policy.hcl"), "policy", "write", e.Mount+"-agent", "-")
	role := "auth/" + auth + "/role/" + name
	vault("", "write", role, "token_policies="+e.Mount+"-agent", "token_period=1h")

	onMount := strings.NewReplacer(`"c1/`, `"`+e.Mount+`/`)
	return func() string {
		t.Helper()
		dir := t.TempDir()
		save := func(name, content string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		}
		files, err := filepath.Glob(filepath.Join("..", "examples", example, "*.tpl"))
		require.NoError(t, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			save(filepath.Base(file), onMount.Replace(string(raw)))
		}
		config, err := os.ReadFile(filepath.Join("..", "examples", example, "agent.hcl"))
		require.NoError(t, err)
		save("agent.hcl", strings.Replace(onMount.Replace(string(config)), `method "approle" {`, `method "approle" {
    mount_path = "auth/`+auth+`"`, 1))
		save("role-id", vault("", "read", "-field=role_id", role+"/role-id"))
		save("secret-id", vault("", "write", "-f", "-field=secret_id", role+"/secret-id"))
		return dir
	}
}

// eventuallyEnv waits for a rendered file of NAME=value lines in which no value
// is the given one.
func eventuallyEnv(t *testing.T, path, old string) map[string]string {
	t.Helper()
	var env map[string]string
	vaulttest.Eventually(t, time.Minute, func() error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		env = map[string]string{}
		for line := range strings.Lines(string(raw)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if value == old && old != "" {
				return fmt.Errorf("%s still holds the old one", filepath.Base(path))
			}
			env[name] = value
		}
		return nil
	})
	return env
}

func login(t *testing.T, e *vaulttest.Engine, id, secret string) error {
	t.Helper()
	require.NotEmpty(t, id)
	require.NotEmpty(t, secret)
	return e.Tenant.Login(t.Context(), id, secret)
}

func parseTime(t *testing.T, value any) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, value.(string))
	require.NoError(t, err)
	return at
}
