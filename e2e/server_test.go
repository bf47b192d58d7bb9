// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// makeE2E asks make for the end-to-end tests, and returns what it printed.
func makeE2E(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", append([]string{"-C", "..", "--no-print-directory", "e2e"}, args...)...)
	// Not what the make that runs this test was given.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "MAKE") || name == "MFLAGS" || name == "SERVER"
	})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestMakeRunsTheseTestsOnTheServerThatItIsGiven(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	// Only what it would do, as if the pinned Vault had to be built.
	const buildsVault = "tools/vault"
	plan := func(args ...string) string {
		t.Helper()
		out, err := makeE2E(t, append([]string{"-n", "-W", "tools/vault/go.mod"}, args...)...)
		require.NoError(t, err, out)
		return out
	}
	out := plan()
	require.Contains(t, out, buildsVault)
	require.NotContains(t, out, "C1_E2E_VAULT")
	for given, want := range map[string]string{"/opt/my servers/bao": "/opt/my servers/bao", "my servers/bao": root + "/my servers/bao"} {
		out := plan("SERVER=" + given)
		require.NotContains(t, out, buildsVault)
		require.Contains(t, out, "cd e2e && C1_E2E_VAULT='"+want+"' ")
		require.Contains(t, out, "cd e2e/monitoring && C1_E2E_VAULT='"+want+"' ")
	}

	file := filepath.Join(t.TempDir(), "bao")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for given, why := range map[string]string{
		file + "-not": "there is no such file", "no/such/bao": "there is no such file", filepath.Dir(file): "there is no such file",
		file: "it is not executable",
	} {
		out, err := makeE2E(t, "SERVER="+given)
		require.Error(t, err)
		require.Contains(t, out, "SERVER="+given+": "+why)
		require.NotContains(t, out, "go test")
	}
}
