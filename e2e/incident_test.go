// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// c1Finding is what C1 publishes of a finding, as far as an incident starts with
// it.
type c1Finding struct {
	Annotations map[string]string `json:"annotations"`
	DecoyTarget struct {
		DecoyID string `json:"decoyId"`
	} `json:"decoyTarget"`
	Exposed *struct {
		FingerprintPrefix string `json:"fingerprintPrefix"`
	} `json:"decoyPubliclyExposedEvidence"`
}

// findingsOf asks C1 for the findings of a decoy, as its console does.
func findingsOf(t *testing.T, e *vaulttest.Engine, decoyID string) []c1Finding {
	t.Helper()
	client, err := c1test.NewHTTPClient(e.Emulator.CACertPEM())
	require.NoError(t, err)
	body, err := json.Marshal(object{"decoyIds": []string{decoyID}})
	require.NoError(t, err)
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Tenant.URL()+"/api/v1/findings/search", bytes.NewReader(body))
	require.NoError(t, err)
	rq.Header.Set("Authorization", "Bearer "+e.Tenant.StaticToken())
	rq.Header.Set("Content-Type", "application/json")
	response, err := client.Do(rq)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	require.Equal(t, http.StatusOK, response.StatusCode)
	var found struct {
		List []c1Finding `json:"list"`
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&found))
	return found.List
}

func TestAFindingAsC1PublishesItLeadsToEachCopy(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	responder := e.Client(tokenFor(t, e.Server, e.Mount+"-responder", fmt.Sprintf("path %q { capabilities = [\"update\"] }", e.Path("lookup"))))
	lookUp := func(data object) object {
		t.Helper()
		secret, err := responder.Logical().Write(e.Path("lookup"), data)
		require.NoError(t, err)
		return secret.Data
	}
	id := e.Tenant.Decoy(c1test.KindConnectorClient)
	e.BindDecoy(e.Mount, "bait", id, object{"annotate": true})
	first := e.MustWrite("decoy-creds/bait", object{"placement": "web-1:/srv/.env"})
	second := e.MustWrite("decoy-creds/bait", object{"placement": "web-2:/srv/.env"})

	// A thief uses the newest copy with one of C1's own clients.
	require.Error(t, e.Login(second))
	found := findingsOf(t, e, id)
	require.Len(t, found, 1)
	require.Equal(t, "web-2:/srv/.env", found[0].Annotations["vault/placement"], "the finding itself says where the copy was")
	then := lookUp(object{"decoy_id": found[0].DecoyTarget.DecoyID})
	require.Equal(t, "web-2:/srv/.env", then["placement"])
	planted := then["planted"].([]any)
	require.Len(t, planted, 2)
	require.Equal(t, "web-1:/srv/.env", planted[1].(object)["placement"])
	require.Equal(t, first.Data["fingerprint_sha256"], planted[1].(object)["fingerprint_sha256"])

	// C1's scanners find the other one published.
	require.NotEmpty(t, e.Tenant.ExposeDecoy(id, first.Data["fingerprint_sha256"].(string)))
	prefix := ""
	for _, f := range findingsOf(t, e, id) {
		if f.Exposed != nil {
			prefix = f.Exposed.FingerprintPrefix
		}
	}
	require.Len(t, prefix, 12)
	require.Equal(t, "web-1:/srv/.env", lookUp(object{"fingerprint_prefix": prefix})["placement"])
	require.Equal(t, then, lookUp(object{"client_id": second.Data["client_id"]}))

	// The binding's read shows it after the next check, here: the next vend.
	e.MustWrite("decoy-creds/bait", nil)
	shown := e.MustRead("decoys/bait").Data
	used, err := time.Parse(time.RFC3339, shown["last_used_at"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), used, time.Hour)
	require.Equal(t, false, shown["disabled"])
}

func TestVaultReadsNoBodyOfADelete(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.Tenant.SetSemantics(c1test.Overlapping)
	bind := func() {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"on_lease_end": "keep"})
	}
	bind()
	for range 3 {
		e.MustRead("connector-creds/github")
	}
	rq := e.Root.NewRequest(http.MethodDelete, "/v1/"+e.Path("connectors/github"))
	require.NoError(t, rq.SetJSONBody(object{"revoke": true}))
	response, err := e.Root.RawRequestWithContext(t.Context(), rq) //nolint:staticcheck // nothing else sends a body with a DELETE
	require.NoError(t, err)
	var answer struct{ Warnings []string }
	require.NoError(t, response.DecodeJSON(&answer))
	require.NoError(t, response.Body.Close())
	require.Len(t, alive(e), 3, "what it asked for did not reach the engine")
	require.Len(t, answer.Warnings, 1)
	require.Contains(t, answer.Warnings[0], "?revoke=true", "the answer says how to ask")
	for _, id := range alive(e) {
		require.Contains(t, answer.Warnings[0], id)
	}

	bind()
	printed := command(t, e, "delete", e.Path("connectors/github"), "revoke=true")
	require.NotContains(t, printed, "WARNING")
	require.Empty(t, alive(e), "as the warning said")
}

func TestMovingAMountEndsItsLeases(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t, vaulttest.Options{})
	server.RegisterPlugin()
	e := server.Engine("before", c1test.Options{})
	e.BindConnector(e.Mount, "leased", e.Tenant.Connector(), nil)
	leased := e.MustRead("connector-creds/leased")
	other := e.Tenant.NewConnector("other")
	bindScheduled(e, "kept", other, object{"rotation_period": "24h"})
	kept := e.MustRead("connector-creds/kept")

	command(t, e, "secrets", "move", "before", "after")
	require.Error(t, e.Login(leased), "as the operations guide says")
	require.NoError(t, e.Login(kept))
	e.Mount = "after"
	require.Equal(t, kept.Data["client_secret"], e.MustRead("connector-creds/kept").Data["client_secret"])
	requireHealthy(t, e)
}
