// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// Every test of this package searches for secrets when it ends. This one shows
// that it would find them, in a place where Vault was told to write them.
func TestTheSearchForSecretsFindsThem(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	require.Empty(t, e.Leaks(e.Emulator.Secrets()))

	raw := filepath.Join(e.Dir(), "raw.log")
	require.NoError(t, e.Root.Sys().EnableAuditWithOptions("raw", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": raw, "log_raw": "true"},
	}))
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	e.BindDecoy(e.Mount, "bait", e.Tenant.Decoy(c1test.KindAccessToken), nil)
	known := map[string]bool{}
	for _, secret := range e.Emulator.Secrets() {
		known[secret] = true
	}
	vended := []any{
		e.MustRead("connector-creds/github").Data["client_secret"],
		e.MustWrite("decoy-creds/bait", nil).Data["access_token"],
	}
	for _, secret := range vended {
		require.False(t, known[secret.(string)], "it is new")
		require.Contains(t, e.Emulator.Secrets(), secret)
		require.Equal(t, []vaulttest.Leak{{Where: raw, Offset: e.Leaks([]string{secret.(string)})[0].Offset}}, e.Leaks([]string{secret.(string)}))
	}

	require.NoError(t, e.Root.Sys().DisableAudit("raw"))
	require.NoError(t, os.Remove(raw))
	require.Empty(t, e.Leaks(e.Emulator.Secrets()))
}

func TestTheAuditLogTellsWhatWasVendedWithoutSecrets(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	safe := []string{"fingerprint_sha256", "version", "credential_id"}
	require.NoError(t, e.Root.Sys().TuneMount(e.Mount, api.MountConfigInput{
		AuditNonHMACResponseKeys: safe, AuditNonHMACRequestKeys: []string{"placement"},
	}))
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended := e.MustWrite("connector-creds/github", object{"placement": "host-" + e.Mount})
	log := e.AuditLog()
	require.Contains(t, log, vended.Data["fingerprint_sha256"])
	require.Contains(t, log, vended.Data["credential_id"])
	require.Contains(t, log, "host-"+e.Mount)
	require.NotContains(t, log, vended.Data["client_secret"])
	require.NotContains(t, log, vended.Data["client_id"], "only what was named as safe is in clear")
}
