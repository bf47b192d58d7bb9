// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// order sends an order that must be obeyed, and reads its answer.
func (f *fixture) order(t *testing.T, method, path, body string, out any) {
	t.Helper()
	answer, err := f.do(t, method, "/_emulator/"+path, body, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.status, "%s %s: %s", method, path, answer.body)
	if out != nil {
		answer.decode(t, out)
	}
}

func TestOrdersShowTheState(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{TLS: true})
	minted := f.rotateConnector(t, f.Connector())
	bait := f.rotateDecoy(t, f.Decoy(c1test.KindAccessToken))
	require.Error(t, f.use(t, bait))

	var seeds c1test.Seeds
	f.order(t, http.MethodGet, "seeds", "", &seeds)
	require.Equal(t, f.Seeds(), seeds)
	require.Equal(t, f.Decoy(c1test.KindAccessToken), seeds.Decoys["access_token"])
	var journal []c1test.Entry
	f.order(t, http.MethodGet, "journal", "", &journal)
	require.Len(t, journal, 3)
	var found []c1test.Finding
	f.order(t, http.MethodGet, "findings", "", &found)
	require.Len(t, found, 1)
	var alive []c1test.Credential
	f.order(t, http.MethodGet, fmt.Sprintf("alive?app_id=%s&connector_id=%s", minted.AppID, minted.ConnectorID), "", &alive)
	require.Len(t, alive, 1)
	require.Equal(t, minted.ID, alive[0].ID)
	var requests map[string]int
	f.order(t, http.MethodGet, "requests", "", &requests)
	require.Equal(t, 1, requests[c1test.OpRotateConnector])
	var secrets []string
	f.order(t, http.MethodGet, "secrets", "", &secrets)
	require.Contains(t, secrets, minted.ClientSecret)

	shown, err := json.Marshal([]any{journal, found, alive})
	require.NoError(t, err)
	for _, secret := range secrets {
		require.NotContains(t, string(shown), secret)
	}
}

func TestOrdersChangeTheState(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.order(t, http.MethodPost, "settings", `{"semantics":"exclusive","credential_ttl":"1h","decoys":false,
		"connectors":false,"findings":false,"revoked":"shown","token_errors":"grpc"}`, nil)
	code, _ := f.login(t, nil).failure(t)
	require.Equal(t, 3, code)
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPost, rotatePath, rotateBody(f.Connector())).status)
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPost, "/api/v1/findings/search", "").status)
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, "/api/v1/decoys", "").status)
	f.order(t, http.MethodPost, "settings", `{"decoys":true,"connectors":true,"findings":true}`, nil)
	require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, "/api/v1/decoys", "").status)

	var ref c1test.ConnectorRef
	f.order(t, http.MethodPost, "connectors", `{"display_name":"GitHub"}`, &ref)
	body, err := json.Marshal(ref)
	require.NoError(t, err)
	for range 2 {
		f.order(t, http.MethodPost, "connectors/rotate", string(body), nil)
	}
	alive := f.AliveCredentials(ref)
	require.Len(t, alive, 1, "exclusive")
	require.False(t, alive[0].ExpiresAt.IsZero())
	f.order(t, http.MethodDelete, "credentials/"+alive[0].ID, "", nil)
	require.Empty(t, f.AliveCredentials(ref))
	require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, credentialPath(ref, alive[0].ID), "").status, "shown")
	var sibling c1test.ConnectorRef
	f.order(t, http.MethodPost, "connectors", `{"app_id":"`+ref.AppID+`"}`, &sibling)
	require.Equal(t, ref.AppID, sibling.AppID)
	f.order(t, http.MethodPost, "connectors/delete", string(body), nil)

	var made struct {
		ID string `json:"decoy_id"`
	}
	f.order(t, http.MethodPost, "decoys", `{"kind":"DECOY_KIND_ACCESS_TOKEN","display_name":"Bait"}`, &made)
	before := f.DecoyFingerprint(made.ID)
	require.NotEmpty(t, before)
	f.order(t, http.MethodPost, "decoys/"+made.ID+"/rotate", "", nil)
	require.NotEqual(t, before, f.DecoyFingerprint(made.ID))
	var exposed struct {
		ID string `json:"finding_id"`
	}
	f.order(t, http.MethodPost, "decoys/"+made.ID+"/expose", `{"fingerprint":"`+before+`"}`, &exposed)
	require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, "/api/v1/findings/"+exposed.ID, "").status)
	f.order(t, http.MethodDelete, "decoys/"+made.ID, "", nil)

	bearer := f.StaticToken()
	f.order(t, http.MethodPost, "revoke-tokens", "", nil)
	require.Error(t, f.UseToken(t.Context(), bearer))
}

func TestOrdersKeepIdentities(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	type made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	var bound, beside, person, workload made
	f.order(t, http.MethodPost, "identities", `{"display_name":"Vault","require_dpop":true,"expires_in":"720h",
		"scoped_roles":["Auditor"],"source_cidrs":["127.0.0.0/8"]}`, &bound)
	f.order(t, http.MethodPost, "identities", `{"beside":"`+bound.ID+`"}`, &beside)
	f.order(t, http.MethodPost, "identities", `{"personal":true,"plain":true}`, &person)
	var alive []c1test.OwnCredential
	f.order(t, http.MethodGet, "identities", "", &alive)
	require.Len(t, alive, 5, "two are seeded")
	require.Equal(t, f.live(t, bound.ID).ServicePrincipalID, f.live(t, beside.ID).ServicePrincipalID)
	require.Equal(t, []string{"Auditor"}, f.live(t, bound.ID).ScopedRoles)
	require.True(t, f.live(t, person.ID).Personal)
	require.NoError(t, f.Login(t.Context(), beside.ID, beside.Secret))

	f.order(t, http.MethodPost, "settings", `{"dpop_nonces":{"token":true,"api":true},"dpop_window":"2m"}`, nil)
	f.order(t, http.MethodPost, "rotate-dpop-nonces", "", nil)
	prover := c1test.NewProver()
	token, err := f.LoginProved(t.Context(), prover, bound.ID, bound.Secret)
	require.NoError(t, err)
	require.NoError(t, f.UseTokenProved(t.Context(), prover, token))

	issuer := c1test.NewIssuer("https://ci.example")
	trust, err := json.Marshal(issuer.Trust("job"))
	require.NoError(t, err)
	f.order(t, http.MethodPost, "identities/federated", string(trust), &workload)
	f.order(t, http.MethodPost, "settings", `{"dpop_nonces":{}}`, nil)
	_, err = f.LoginFederated(t.Context(), workload.ID, issuer.Token("job", f.Audience(), time.Now()))
	require.NoError(t, err)

	f.order(t, http.MethodPost, "identities/delete", `{"client_id":"`+beside.ID+`"}`, nil)
	f.order(t, http.MethodPost, "identities/expire", `{"client_id":"`+person.ID+`"}`, nil)
	require.Len(t, f.LiveCredentials(), 3)
	for path, body := range map[string]string{
		"identities/delete": `{"client_id":"never-was"}`, "identities/expire": `{"client_id":"` + person.ID + `"}`,
		"identities": `{"beside":"never-was"}`,
	} {
		answer, err := f.do(t, http.MethodPost, "/_emulator/"+path, body, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, answer.status, path)
	}
	for path, body := range map[string]string{
		"identities/federated": `{"issuer":"x"}`, "identities": `{"source_cidrs":["x"]}`, "settings": `{"dpop_window":"x"}`,
	} {
		answer, err := f.do(t, http.MethodPost, "/_emulator/"+path, body, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, answer.status, path)
	}
}

func TestOrdersSetFaultsAndBarriers(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	var added struct{ ID int }
	f.order(t, http.MethodPost, "faults", `{"op":"rotateDecoy","times":1,"status":503,"retry_after":"1","delay":"1ms","clock_offset":"1h"}`, &added)
	answer, err := f.rotateRaw(t)
	require.NoError(t, err)
	require.Equal(t, 503, answer.status)
	var listed []struct {
		ID, Hits, Status int
		Delay            string
		Set              map[string]any
	}
	f.order(t, http.MethodGet, "faults", "", &listed)
	require.Len(t, listed, 1)
	require.Equal(t, 1, listed[0].Hits)
	require.Empty(t, listed[0].Set)
	require.Equal(t, 503, listed[0].Status)
	require.Equal(t, "1ms", listed[0].Delay)
	f.order(t, http.MethodDelete, fmt.Sprint("faults/", added.ID), "", nil)

	f.order(t, http.MethodPost, "faults", `{"op":"getDecoy","times":1,"set":{"decoy.lastUsedAt":"","decoy.kind":null}}`, &added)
	shaped := f.call(t, http.MethodGet, "/api/v1/decoys/"+f.Decoy(c1test.KindConnectorClient), "")
	require.Empty(t, shaped.field(t, "decoy", "lastUsedAt"))
	require.Nil(t, shaped.field(t, "decoy", "kind"))

	f.order(t, http.MethodPost, "faults", `{"op":"rotateDecoy","times":1,"commit_late":true}`, &added)
	_, err = f.rotateRaw(t)
	require.ErrorIs(t, err, io.EOF)
	f.order(t, http.MethodPost, fmt.Sprintf("faults/%d/commit", added.ID), "", nil)
	require.Eventually(t, func() bool { return f.Changes(c1test.OpRotateDecoy) == 1 }, 5*time.Second, time.Millisecond)
	f.order(t, http.MethodDelete, "faults", "", nil)

	f.order(t, http.MethodPost, "barriers", `{"op":"rotateDecoy","when":"before_commit"}`, &added)
	var state struct {
		Arrived bool
		Held    int
	}
	f.order(t, http.MethodGet, fmt.Sprint("barriers/", added.ID), "", &state)
	require.False(t, state.Arrived)
	answered := make(chan error)
	go func() {
		_, err := f.rotateRaw(t)
		answered <- err
	}()
	f.order(t, http.MethodGet, fmt.Sprintf("barriers/%d?wait=30s", added.ID), "", &state)
	require.True(t, state.Arrived)
	require.Equal(t, 1, state.Held)
	f.order(t, http.MethodPost, fmt.Sprintf("barriers/%d/release", added.ID), "", nil)
	require.NoError(t, <-answered)
}

func TestOrderForAnotherTenantReachesOneThatIsDown(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{Tenants: []string{"acme", "globex"}})
	globex := f.emulator.Tenant("globex")
	f.order(t, http.MethodPost, "settings?tenant=globex", `{"down":true}`, nil)
	up := func() bool { return globex.UseToken(t.Context(), globex.StaticToken()) == nil }
	require.Eventually(t, func() bool { return !up() }, 5*time.Second, time.Millisecond)
	f.order(t, http.MethodPost, "settings?tenant=globex", `{"down":false}`, nil)
	require.Eventually(t, up, 5*time.Second, time.Millisecond)
}

func TestTenantThatGoesDownByItsOwnPortAnswersFirstAndComesBack(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.order(t, http.MethodPost, "settings", `{"down":true,"up_after":"1ms"}`, nil)
	require.Eventually(t, func() bool {
		return f.UseToken(t.Context(), f.StaticToken()) == nil
	}, 5*time.Second, time.Millisecond)
}

func TestBadOrdersAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for order, want := range map[string]int{
		`POST faults {"op":"explode"}`:                     400,
		`POST faults {"delay":"soon"}`:                     400,
		`POST faults {"clock_offset":"soon"}`:              400,
		`POST faults {"status":1}`:                         400,
		`POST faults {"stauts":500}`:                       400,
		`POST faults`:                                      400,
		`POST faults/99/commit`:                            404,
		`DELETE faults/x`:                                  404,
		`POST barriers {"op":"token","when":"later"}`:      400,
		`POST barriers {"op":"explode"}`:                   400,
		`POST barriers {"when":"after_commit","count":-1}`: 400,
		`GET barriers/99`:                                  404,
		`POST barriers/99/release`:                         404,
		`POST settings {"semantics":"both"}`:               400,
		`POST settings {"decoys":false,"revoked":"both"}`:  400,
		`POST settings {"token_errors":"both"}`:            400,
		`POST faults {"set":{"a..b":1}}`:                   400,
		`POST faults {"set":["a"]}`:                        400,
		`POST decoys/x/expose {}`:                          404,
		`POST settings {"credential_ttl":"x"}`:             400,
		`POST settings {"up_after":"x"}`:                   400,
		`POST connectors {"name":"x"}`:                     400,
		`POST connectors/rotate {"app_id":"x"}`:            404,
		`POST connectors/delete {"app_id":"x"}`:            404,
		`DELETE credentials/x`:                             404,
		`POST decoys {"kind":"x"}`:                         404,
		`POST decoys/x/rotate`:                             404,
		`DELETE decoys/x`:                                  404,
		`GET journal?tenant=nobody`:                        404,
		`GET nothing`:                                      404,
		`PUT journal`:                                      405,
	} {
		method, rest, _ := strings.Cut(order, " ")
		path, body, _ := strings.Cut(rest, " ")
		answer, err := f.do(t, method, "/_emulator/"+path, body, nil)
		require.NoError(t, err, order)
		assert.Equal(t, want, answer.status, order)
	}
	require.Empty(t, f.Journal())
}

func TestAdminHelpNamesEveryOperation(t *testing.T) {
	t.Parallel()
	for _, op := range c1test.Operations() {
		require.Contains(t, c1test.AdminHelp, op)
	}
}
