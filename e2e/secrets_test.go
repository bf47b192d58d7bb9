// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	_, stderr, code := e.CLI("", append(documentedTuning(t, 0), e.Mount)...)
	require.Zero(t, code, stderr)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended := e.MustWrite("connector-creds/github", object{"placement": "host-7"})

	var line string
	for l := range strings.Lines(e.AuditLog()) {
		if strings.Contains(l, vended.RequestID) && strings.Contains(l, `"type":"response"`) {
			line = l
		}
	}
	var entry struct{ Request, Response struct{ Data object } }
	require.NoError(t, json.Unmarshal([]byte(line), &entry))
	require.Equal(t, "host-7", entry.Request.Data["placement"])
	for field, value := range entry.Response.Data {
		if field == "client_secret" {
			require.Contains(t, value, "hmac-sha256:")
		} else {
			require.Equal(t, fmt.Sprint(vended.Data[field]), fmt.Sprint(value), field)
		}
	}
	require.Len(t, entry.Response.Data, len(vended.Data))
}

func TestTheAuditLogOfAMountWithDecoysGivesNoBaitAway(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	_, stderr, code := e.CLI("", append(documentedTuning(t, 1), e.Mount)...)
	require.Zero(t, code, stderr)
	bindExamples(e)
	began := len(e.AuditLog())
	bait := e.MustWrite("decoy-creds/bait", object{"placement": "web-1:/srv/app/.env"}).Data
	e.MustRead("decoys/bait")
	e.MustWrite("lookup", object{"fingerprint_sha256": bait["fingerprint_sha256"]})
	e.MustWrite("lookup", object{"decoy_id": bait["decoy_id"]})
	log := e.AuditLog()[began:]
	require.Contains(t, log, e.Path("decoy-creds/bait"))
	for _, telling := range []any{
		bait["client_id"], bait["fingerprint_sha256"], bait["decoy_id"], bait["display_name"], "web-1:/srv/app/.env",
	} {
		require.NotEmpty(t, telling)
		require.NotContains(t, log, `"`+telling.(string)+`"`)
	}
	vended := e.MustRead("connector-creds/github").Data
	log = e.AuditLog()[began:]
	for _, field := range []string{"app_id", "connector_id", "credential_id", "created_at"} {
		require.Contains(t, log, `"`+field+`":"`+vended[field].(string)+`"`)
	}
	require.NotContains(t, log, `"`+vended["client_id"].(string)+`"`)
}

// TestAQuotaOfVaultsHoldsAGreedyCallerBack runs the commands that the operations guide
// gives for it.
func TestAQuotaOfVaultsHoldsAGreedyCallerBack(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	e.BindConnector(e.Mount, "okta", e.Tenant.Connector(), object{"rotate_on": "schedule"})
	e.BindConnector(e.Mount, "hr", e.Tenant.NewConnector("HR"), object{"rotate_on": "schedule"})
	doc, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^vault (write sys/quotas/.*)$`).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, commands, 2)
	for _, command := range commands {
		_, stderr, code := e.CLI("", strings.Fields(command[1])...)
		require.Zero(t, code, stderr)
	}
	client := e.Client(e.Root.Token())
	client.SetMaxRetries(0)
	held := 0
	for range 100 {
		if _, err := client.Logical().Read(e.Path("connector-creds/okta")); err != nil {
			requireRefused(t, err, 429)
			held++
		}
	}
	require.Positive(t, held)
	require.NotEmpty(t, e.MustRead("connector-creds/hr").Data["client_id"], "others are not held back")
}

// documentedTuning returns the n-th command of docs/audit.md that names the keys
// which are safe in clear, without "vault" and the mount.
func documentedTuning(t *testing.T, n int) []string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "audit.md"))
	require.NoError(t, err)
	rest := string(doc)
	for range n + 1 {
		var found bool
		_, rest, found = strings.Cut(rest, "vault secrets tune \\\n")
		require.True(t, found)
	}
	command, _, found := strings.Cut(rest, " \\\n  c1\n")
	require.True(t, found)
	return append([]string{"secrets", "tune"}, strings.Fields(strings.ReplaceAll(command, "\\\n", " "))...)
}

func TestTheServersLogTellsOfEachRotationAndItsRequest(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	vended := e.MustWrite("decoy-creds/bait", nil)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, Times: 1, Status: 403})
	_, err := e.Write("decoy-creds/bait", nil)
	requireRefused(t, err, 502)
	failed := e.Records("decoys/bait")[0]

	logged := map[string]string{}
	for line := range strings.Lines(e.ServerLog()) {
		for _, id := range []string{vended.RequestID, failed["request_id"].(string)} {
			if strings.Contains(line, "request_id="+id) {
				logged[id] += line
			}
		}
	}
	require.Contains(t, logged[vended.RequestID], "[INFO]")
	require.Contains(t, logged[vended.RequestID], "outcome=issued")
	require.Contains(t, logged[failed["request_id"].(string)], "[WARN]")
	require.Contains(t, logged[failed["request_id"].(string)], "outcome=failed")
}
