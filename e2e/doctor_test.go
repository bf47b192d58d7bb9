// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// doctor runs scripts/doctor.sh for a mount, and returns what it says and whether all
// is well.
func doctor(t *testing.T, e *vaulttest.Engine, token string, args ...string) (says string, well bool) {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "scripts", "doctor.sh"))
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), script, append(args, e.Mount)...)
	server := vaulttest.ServerUnderTest(t)
	cmd.Env = append(append(os.Environ(), "VAULT_BIN="+server.Path), server.Environment(e.Addr(), token)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, string(out))
		require.Equal(t, 1, exit.ExitCode(), string(out))
	}
	return string(out), !errors.As(err, &exit)
}

func TestTheDoctorFindsWhatOnlyTheOutsideSees(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	binary := filepath.Join(e.Dir(), "plugins", vaulttest.PluginName)
	tune := func(keys ...string) {
		t.Helper()
		require.NoError(t, e.Root.Sys().TuneMountAllowNil(e.Mount, api.TuneMountConfigInput{AuditNonHMACResponseKeys: &keys}))
	}
	says, well := doctor(t, e, e.Root.Token(), "-binary", binary)
	require.True(t, well, says)
	require.Contains(t, says, "nothing is wrong")
	require.NotContains(t, says, "warning")
	tune("fingerprint_sha256")
	says, well = doctor(t, e, e.Root.Token(), "-binary", binary)
	require.True(t, well, says)
	require.Contains(t, says, "warning  audit: this mount has decoys")

	// With what the script says that its token needs, and no more.
	token := tokenFor(t, e.Server, "doctor", `
path "sys/mounts/c1" { capabilities = ["read"] }
path "sys/plugins/catalog/secret/*" { capabilities = ["read", "sudo"] }
path "c1/check" { capabilities = ["update"] }`)
	says, well = doctor(t, e, token, "-binary", binary)
	require.True(t, well, says)

	tune("fingerprint_sha256", "client_secret")
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, []byte("another binary"), 0o600))
	gone := e.Tenant.NewConnector("gone")
	e.BindConnector(e.Mount, "gone", gone, nil)
	e.Tenant.DeleteConnector(gone)
	says, well = doctor(t, e, token, "-binary", other)
	require.False(t, well, says)
	require.Contains(t, says, "client_secret is shown in clear in the audit log")
	require.Contains(t, says, "Vault will not start it again")
	require.Contains(t, says, "error    connectors/gone: ")
	require.Contains(t, says, "cure: if it is gone at C1, delete the binding")
	tune("version")
	_, err := e.Root.Logical().Delete(e.Path("connectors/gone"))
	require.NoError(t, err)

	// A version that waits for a reload: what the doctor prescribes for it is done.
	command, sum := e.InstallPlugin("v0.2.0-test")
	for _, args := range [][]string{
		{"plugin", "register", "-sha256=" + sum, "-command=" + command, "-version=v0.2.0-test", "secret", vaulttest.PluginName},
		{"secrets", "tune", "-plugin-version=v0.2.0-test", e.Mount},
	} {
		_, stderr, code := e.CLI("", args...)
		require.Zero(t, code, stderr)
	}
	says, well = doctor(t, e, token)
	require.False(t, well, says)
	require.Contains(t, says, "it is pinned to v0.2.0-test and runs "+vaulttest.PluginVersion)
	cure := regexp.MustCompile(`cure: (\w+ plugin reload .*)`).FindStringSubmatch(says)
	require.NotNil(t, cure, says)
	require.Equal(t, vaulttest.ServerUnderTest(t).CLI(), strings.Fields(cure[1])[0], "the name that its users know")
	out, err := e.Shell(t.TempDir(), cure[1])
	require.NoError(t, err, out)
	says, well = doctor(t, e, token)
	require.True(t, well, says)
	require.Contains(t, says, "version v0.2.0-test")

	// All pages are looked at.
	for i := range 120 {
		name := string(rune('a'+i%26)) + string(rune('a'+i/26))
		e.BindConnector(e.Mount, "many-"+name, e.Tenant.NewConnector(name), object{"verify": false})
	}
	before := e.Tenant.Requests(c1test.OpGetConnector)
	says, well = doctor(t, e, token)
	require.True(t, well, says)
	require.Equal(t, 121, e.Tenant.Requests(c1test.OpGetConnector)-before)
}
