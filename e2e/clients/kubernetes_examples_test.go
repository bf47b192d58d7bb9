// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const kubernetesExamples = "../../examples/kubernetes"

func TestTheAPIServerTakesTheKubernetesExamples(t *testing.T) {
	t.Parallel()
	c := kubernetes(t)
	c.installCRDs(t, esoCRDs(t))
	vso := os.Getenv(vsoCRDsVariable)
	if vso != "" {
		c.installCRDs(t, vso)
	}
	require.NoError(t, c.applyFile(t.Context(), "connector.yaml", nil)) // the namespace of the others

	files, err := filepath.Glob(filepath.Join(kubernetesExamples, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			if vso == "" && strings.Contains(string(raw), "secrets.hashicorp.com/") {
				t.Skip("the definitions are not in a Go module: name their directory in " + vsoCRDsVariable)
			}
			dryRun := url.Values{"dryRun": {"All"}}
			require.NoError(t, c.apply(t.Context(), string(raw), dryRun))

			misspelt := strings.ReplaceAll(string(raw), "\nspec:\n", "\nspec:\n  misspelt: 1\n")
			if misspelt != string(raw) {
				require.ErrorContains(t, c.apply(t.Context(), misspelt, dryRun), "misspelt")
			}
		})
	}
}

// What the README tells people to type at Vault is typed here.
func TestTheCommandsOfTheKubernetesExamplesDo(t *testing.T) {
	t.Parallel()
	c, e := kubernetes(t), vaulttest.New(t, vaulttest.Options{})
	require.NoError(t, c.applyFile(t.Context(), "connector.yaml", nil))
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(kubernetesExamples)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubernetes-ca.pem"), c.ca.pem, 0o600))
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "\n```\n")
	require.True(t, found)
	commands, _, found := strings.Cut(rest, "\n```\n")
	require.True(t, found)
	connector := e.Tenant.Connector()
	commands = strings.NewReplacer(
		"app_id=…", "app_id="+connector.AppID, "connector_id=…", "connector_id="+connector.ConnectorID,
		"https://kubernetes.example.com:6443", c.url,
	).Replace(commands)
	require.NotContains(t, commands, "…", "what is left out must be known to this test")

	path := t.TempDir()
	require.NoError(t, os.Symlink(vaultBinary(t), filepath.Join(path, "vault")))
	shell := exec.CommandContext(t.Context(), "sh", "-eu", "-c", commands)
	shell.Dir = dir
	shell.Env = []string{
		"HOME=" + t.TempDir(), "PATH=" + path + ":" + os.Getenv("PATH"),
		"VAULT_ADDR=" + e.Addr(), "VAULT_TOKEN=" + e.Root.Token(),
	}
	printed, err := shell.CombinedOutput()
	e.Collect("what the README's commands printed", printed)
	require.NoError(t, err, "%s\n%s", commands, printed)

	token, err := c.token(t.Context(), "baton", "okta", "vault")
	require.NoError(t, err)
	login, err := e.Client("").Logical().Write("auth/k8s/login", map[string]any{"role": "okta", "jwt": token})
	require.NoError(t, err)
	reader := e.Client(login.Auth.ClientToken)
	for _, path := range []string{"c1/connector-creds/okta", "c1/data/connector-creds/okta"} {
		_, err := reader.Logical().Read(path)
		require.NoError(t, err, path)
	}
	_, err = reader.Logical().Write("c1/connector-creds/okta", nil)
	require.ErrorContains(t, err, "permission denied", "a write rotates")

	token, err = c.token(t.Context(), "baton", "okta", "somebody else")
	require.NoError(t, err)
	_, err = e.Client("").Logical().Write("auth/k8s/login", map[string]any{"role": "okta", "jwt": token})
	require.ErrorContains(t, err, "audience")
	require.NoError(t, c.apply(t.Context(), "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: other\n  namespace: baton\n", nil))
	token, err = c.token(t.Context(), "baton", "other", "vault")
	require.NoError(t, err)
	_, err = e.Client("").Logical().Write("auth/k8s/login", map[string]any{"role": "okta", "jwt": token})
	require.ErrorContains(t, err, "sub")
}
