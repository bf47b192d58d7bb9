// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestConfiguringAndBindingRotatesNothing(t *testing.T) {
	t.Parallel()
	s := vaulttest.Shared(t)
	emulator := s.Emulator(c1test.Options{})
	tenant := emulator.Default()
	s.Mount("story")
	vault := func(stdin string, args ...string) string {
		t.Helper()
		stdout, stderr, code := s.CLI(stdin, args...)
		require.Zero(t, code, stderr)
		return stdout
	}
	vault(tenant.Identity().ClientSecret, "write", "story/config", "client_id="+tenant.Identity().ClientID,
		"client_secret=-", "url="+tenant.URL(), "ca_cert="+emulator.CACertPEM())
	shown := vault("", "read", "story/config")
	require.Contains(t, shown, "signed_assertion")
	require.NotContains(t, shown, "client_secret ")

	vault("", "write", "story/connectors/github", "app_id="+tenant.Connector().AppID,
		"connector_id="+tenant.Connector().ConnectorID, "rotate_on=read", "metadata=team=identity")
	vault("", "write", "story/decoys/bait", "decoy_id="+tenant.Decoy(c1test.KindConnectorClient), "rotate_on=write")
	require.Contains(t, vault("", "list", "story/connectors"), "github")
	require.Contains(t, vault("", "read", "story/connectors/github"), "map[team:identity]")
	require.Zero(t, tenant.Changes(c1test.OpRotateConnector)+tenant.Changes(c1test.OpRotateDecoy))

	var vended api.Secret
	require.NoError(t, json.Unmarshal([]byte(vault("", "read", "-format=json", "story/connector-creds/github")), &vended))
	require.NoError(t, tenant.Login(t.Context(), vended.Data["client_id"].(string), vended.Data["client_secret"].(string)))
}

func TestReadAndWriteRotateAndVendALiveCredential(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	connector := e.Tenant.Connector()
	e.BindConnector(e.Mount, "github", connector, nil)

	first := e.MustRead("connector-creds/github")
	require.NoError(t, e.Login(first))
	require.Equal(t, connector.AppID, first.Data["app_id"])
	require.Equal(t, connector.ConnectorID, first.Data["connector_id"])
	require.Equal(t, fingerprint(first.Data["client_secret"]), first.Data["fingerprint_sha256"])
	require.EqualValues(t, 1, integer(t, first.Data["version"]))
	require.NotEmpty(t, first.LeaseID)
	require.True(t, first.Renewable)
	require.Positive(t, first.LeaseDuration)

	second := e.MustWrite("connector-creds/github", object{"placement": "ci"})
	require.NoError(t, e.Login(second))
	require.EqualValues(t, 2, integer(t, second.Data["version"]))
	require.NotEqual(t, first.Data["credential_id"], second.Data["credential_id"])
	require.Equal(t, 2, rotations(e), "one request to C1 for each vend")
	requireHealthy(t, e)
}

func TestARotateOnWriteBindingRefusesReads(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"rotate_on": "write"})

	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, 400, "rotate_on=write", "write connector-creds/github")
	require.Zero(t, rotations(e))
	require.NoError(t, e.Login(e.MustWrite("connector-creds/github", nil)))
}

func TestAWrappedAnswerOpensOnceAndStaysRevocable(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	for name, c := range map[string]struct {
		binding, caller string
		want            int
	}{
		"as the caller asks":             {"0", "90s", 90},
		"as the binding says":            {"60s", "", 60},
		"the caller asks for less":       {"60s", "20s", 20},
		"the caller cannot ask for more": {"60s", "300s", 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := e.With(t)
			connector := e.Tenant.NewConnector("Okta")
			binding := "b" + c.binding + c.caller
			e.BindConnector(e.Mount, binding, connector, object{"wrap_ttl": c.binding})
			client := e.Client(e.Root.Token())
			client.SetWrappingLookupFunc(func(string, string) string { return c.caller })

			wrapped, err := client.Logical().Read(e.Path("connector-creds/" + binding))
			require.NoError(t, err)
			require.NotNil(t, wrapped.WrapInfo)
			require.Equal(t, c.want, wrapped.WrapInfo.TTL)
			require.Empty(t, wrapped.Data, "whoever carries it sees nothing")

			opened, err := e.Root.Logical().Unwrap(wrapped.WrapInfo.Token)
			require.NoError(t, err)
			require.NoError(t, e.Login(opened))
			_, err = e.Root.Logical().Unwrap(wrapped.WrapInfo.Token)
			requireRefused(t, err, 400, "wrapping token is not valid")

			require.NoError(t, e.Root.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: opened.LeaseID, Sync: true}))
			require.Empty(t, e.Tenant.AliveCredentials(connector))
		})
	}
}

func TestEveryKindOfDecoyVendsItsMaterial(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	for kind, want := range map[c1test.Kind]struct {
		materialType, secret string
		fields               []string
	}{
		c1test.KindUserClientCredential: {"client_credential", "client_secret", []string{"client_id", "client_secret"}},
		c1test.KindConnectorClient:      {"client_credential", "client_secret", []string{"client_id", "client_secret"}},
		c1test.KindAccessToken:          {"access_token", "access_token", []string{"access_token"}},
		c1test.KindWorkloadFederation:   {"workload_federation", "", []string{"workload_federation_trust_id"}},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			e := e.With(t)
			id := e.Tenant.Decoy(kind)
			e.BindDecoy(e.Mount, string(kind), id, nil)
			vended := e.MustWrite("decoy-creds/"+string(kind), object{"placement": "web-1:/srv/.env"})

			require.Equal(t, id, vended.Data["decoy_id"])
			require.Equal(t, string(kind), vended.Data["kind"])
			require.Equal(t, want.materialType, vended.Data["material_type"])
			require.Equal(t, object{"environment": "production"}, vended.Data["annotations"])
			require.Empty(t, vended.Warnings)
			for _, field := range []string{"client_id", "client_secret", "access_token", "workload_federation_trust_id"} {
				if slices.Contains(want.fields, field) {
					require.NotEmpty(t, vended.Data[field], field)
				} else {
					require.NotContains(t, vended.Data, field)
				}
			}
			if want.secret == "" {
				require.Empty(t, vended.Data["fingerprint_sha256"])
			} else {
				require.Equal(t, fingerprint(vended.Data[want.secret]), vended.Data["fingerprint_sha256"])
			}
			require.Equal(t, e.Tenant.DecoyFingerprint(id), vended.Data["fingerprint_sha256"])

			require.NoError(t, e.Root.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: vended.LeaseID, Sync: true}))
			require.Equal(t, vended.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(id), "bait stays planted")
		})
	}
}

func TestAFindingLeadsToWhoseCopyItWas(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	kinds := []c1test.Kind{c1test.KindConnectorClient, c1test.KindUserClientCredential, c1test.KindAccessToken}
	for _, kind := range kinds {
		e.BindDecoy(e.Mount, string(kind), e.Tenant.Decoy(kind), nil)
	}
	pipeline := e.Client(tokenFor(t, e.Server, e.Mount+"-pipeline",
		fmt.Sprintf("path %q { capabilities = [\"update\"] }", e.Mount+"/decoy-creds/*")))

	for _, kind := range kinds {
		planted, err := pipeline.Logical().Write(e.Path("decoy-creds/"+string(kind)), object{"placement": "web-1:/srv/app/.env"})
		require.NoError(t, err)
		later := e.MustWrite("decoy-creds/"+string(kind), object{"placement": "web-2"})
		findings := len(e.Tenant.Findings())

		if kind == c1test.KindAccessToken {
			require.Error(t, e.Tenant.UseToken(t.Context(), planted.Data["access_token"].(string)))
		} else {
			require.Error(t, e.Login(planted))
		}
		require.Len(t, e.Tenant.Findings(), findings+1)
		finding := e.Tenant.Findings()[findings]

		found := e.MustWrite("lookup", object{"fingerprint_sha256": finding.Fingerprint}).Data
		require.Equal(t, string(kind), found["binding"])
		require.Equal(t, "decoy", found["kind"])
		require.Equal(t, finding.DecoyID, found["decoy_id"])
		require.Equal(t, "web-1:/srv/app/.env", found["placement"])
		require.Equal(t, "token-"+e.Mount+"-pipeline", found["display_name"])
		require.Equal(t, "issued", found["outcome"])
		require.Equal(t, "127.0.0.1", found["remote_address"])
		require.Equal(t, planted.RequestID, found["request_id"])
		require.Equal(t, false, found["current"], "somebody vended a newer one since")
		require.EqualValues(t, 1, integer(t, found["version"]))
		_, err = time.Parse(time.RFC3339, found["finished_at"].(string))
		require.NoError(t, err)

		newest := e.MustWrite("lookup", object{"fingerprint_sha256": later.Data["fingerprint_sha256"]}).Data
		require.Equal(t, true, newest["current"])
		require.Equal(t, "web-2", newest["placement"])
	}
	_, err := e.Write("lookup", object{"fingerprint_sha256": fingerprint("somebody else's secret")})
	requireRefused(t, err, 404, "no record of that fingerprint")
}

func TestHistoryAndStatusTellWhatHappened(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended := e.MustRead("connector-creds/github")
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Times: 1, Status: 403})
	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, 502)
	written := e.MustWrite("connector-creds/github", object{"placement": "host-7"})
	require.NoError(t, e.Root.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: vended.LeaseID, Sync: true}))

	records := e.Records("connectors/github")
	require.Len(t, records, 3, "newest first")
	require.Equal(t, "write", records[0]["reason"])
	require.Equal(t, "issued", records[0]["outcome"])
	require.Equal(t, "host-7", records[0]["placement"])
	require.Equal(t, written.Data["credential_id"], records[0]["credential_id"])
	require.Equal(t, written.RequestID, records[0]["request_id"])
	require.Equal(t, "failed", records[1]["outcome"])
	require.Contains(t, records[1]["error"], "403")
	require.Equal(t, "read", records[2]["reason"])
	require.Equal(t, vended.Data["fingerprint_sha256"], records[2]["fingerprint_sha256"])
	require.NotEmpty(t, records[2]["ended_at"], "its lease was revoked")
	require.Empty(t, records[0]["ended_at"])
	for _, r := range records {
		require.Equal(t, "root", r["display_name"])
		require.Equal(t, "127.0.0.1", r["remote_address"])
	}

	binding := e.MustRead("connectors/github").Data
	require.Equal(t, "ready", binding["state"])
	require.EqualValues(t, 2, integer(t, binding["version"]))
	require.EqualValues(t, 1, integer(t, binding["live_leases"]))
	require.Equal(t, written.Data["fingerprint_sha256"], binding["fingerprint_sha256"])

	status := e.MustRead("status").Data
	require.Equal(t, true, status["healthy"])
	require.Equal(t, true, status["configured"])
	require.Equal(t, vaulttest.PluginVersion, status["version"])
	require.Equal(t, e.Tenant.URL(), status["tenant"])
	require.Equal(t, "closed", status["breaker"])
}

func TestLongListsCanBePaged(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	for _, name := range []string{"d", "b", "a", "c"} {
		e.BindConnector(e.Mount, name, e.Tenant.NewConnector(name), nil)
	}
	for query, want := range map[string][]any{
		"":                {"a", "b", "c", "d"},
		"limit=2":         {"a", "b"},
		"after=b":         {"c", "d"},
		"after=a&limit=2": {"b", "c"},
		"after=bb":        {"c", "d"},
	} {
		params, err := url.ParseQuery("list=true&" + query)
		require.NoError(t, err)
		page, err := e.Root.Logical().ReadWithData(e.Path("connectors/"), params)
		require.NoError(t, err)
		require.Equal(t, want, page.Data["keys"], query)
	}
}

func TestDeletingABindingSaysWhatStaysAlive(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended := e.MustRead("connector-creds/github")

	answer, err := e.Root.Logical().Delete(e.Path("connectors/github"))
	require.NoError(t, err)
	require.Len(t, answer.Warnings, 1)
	require.Contains(t, answer.Warnings[0], "1 vended credential(s)")
	require.NoError(t, e.Login(vended), "deleting a binding ends nothing at C1")
	_, err = e.Read("connector-creds/github")
	requireRefused(t, err, 400, "no connector is bound")
	found := e.MustWrite("lookup", object{"fingerprint_sha256": vended.Data["fingerprint_sha256"]}).Data
	require.Equal(t, "github", found["binding"], "whose copy it was is still known")

	_, err = e.Root.Logical().Delete(e.Path("config"))
	requireRefused(t, err, 400, "pending")
	require.NoError(t, e.Root.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: vended.LeaseID, Sync: true}))
	require.Empty(t, alive(e))
	_, err = e.Root.Logical().Delete(e.Path("config"))
	require.NoError(t, err)
}
