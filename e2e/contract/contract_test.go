// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// fixture is an emulator behind a recorder.
type fixture struct {
	c1       *c1test.Tenant
	emulator *c1test.Emulator
	recorder *recorder
	bearer   string // of raw requests, "" = that of the seeded identity
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	emulator := c1test.StartT(t, c1test.Options{TLS: true})
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(emulator.CACertPEM())))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &fixture{
		c1: emulator.Default(), emulator: emulator,
		recorder: newRecorder(readDescription(t), transport),
	}
}

// client returns a real client that talks through the recorder.
func (f *fixture) client(t *testing.T, id c1test.Identity) *c1api.Client {
	t.Helper()
	return f.clientWith(t, c1api.Options{ClientID: id.ClientID, ClientSecret: id.ClientSecret})
}

func (f *fixture) clientWith(t *testing.T, o c1api.Options) *c1api.Client {
	t.Helper()
	o.URL, o.Transport = f.c1.URL(), f.recorder
	o.RequestTimeout, o.UserAgent = 10*time.Second, "contract-test"
	client, err := c1api.New(o)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// callEverything makes every call that the client has, and returns the errors
// by operation. The IDs are of things that exist unless the test says otherwise.
func callEverything(ctx context.Context, client *c1api.Client, connector c1test.ConnectorRef, decoy string) map[string]error {
	errs := map[string]error{}
	_, errs[c1test.OpIntrospect] = client.Introspect(ctx)
	_, errs[c1test.OpGetConnector] = client.GetConnector(ctx, connector.AppID, connector.ConnectorID)

	credentialID := "no-such-credential"
	var credential *c1api.ConnectorCredential
	credential, errs[c1test.OpRotateConnector] = client.RotateConnectorCredential(ctx, connector.AppID, connector.ConnectorID)
	if credential != nil {
		credentialID = credential.ID
	}
	_, errs[c1test.OpGetConnectorCredential] = client.GetConnectorCredential(ctx, connector.AppID, connector.ConnectorID, credentialID)
	errs[c1test.OpRevokeConnectorCredential] = client.RevokeConnectorCredential(ctx, connector.AppID, connector.ConnectorID, credentialID)

	_, _, errs[c1test.OpListDecoys] = client.ListDecoys(ctx)
	_, errs[c1test.OpGetDecoy] = client.GetDecoy(ctx, decoy)
	_, _, errs[c1test.OpRotateDecoy] = client.RotateDecoy(ctx, decoy)
	_, errs[c1test.OpUpdateDecoy] = client.UpdateDecoy(ctx,
		&c1api.Decoy{ID: decoy, Disabled: true, Annotations: map[string]string{"owner": "red team"}}, "annotations", "disabled")
	return errs
}

// manageOwn has a client make and end a credential of its own identity.
func manageOwn(ctx context.Context, client *c1api.Client, id c1test.Identity) map[string]error {
	errs := map[string]error{}
	who, err := client.Introspect(ctx)
	if err != nil {
		return map[string]error{"introspect": err}
	}
	owner, err := c1api.OwnerOf(id.ClientID, who)
	errs["owner"] = err
	made, _, err := client.CreateOwnCredential(ctx, owner, c1api.NewCredential{
		DisplayName: "made", Lifetime: 30 * 24 * time.Hour, AllowSourceCIDRs: []string{"127.0.0.0/8"},
	})
	if err != nil {
		return map[string]error{"create": err}
	}
	_, errs["list"] = client.OwnCredentials(ctx, owner)
	_, errs["get"] = client.OwnCredential(ctx, owner, made.ID)
	for _, again := range []string{"end", "end again"} {
		_, errs[again] = client.EndOwnCredential(ctx, owner, made.ID)
	}
	return errs
}

// lookForWhatIsGone asks for evidence, which takes further requests.
func lookForWhatIsGone(ctx context.Context, client *c1api.Client, c1 *c1test.Tenant) map[string]error {
	gone := map[string]error{}
	kept, deleted := c1.NewConnector("kept"), c1.NewConnector("deleted")
	c1.DeleteConnector(deleted)
	_, gone["a credential"] = client.ConnectorCredentialExistence(ctx, kept.AppID, kept.ConnectorID, "never-was")
	_, gone["a connector"] = client.ConnectorCredentialExistence(ctx, deleted.AppID, deleted.ConnectorID, "never-was")
	_, gone["an app"] = client.ConnectorCredentialExistence(ctx, "never-was", deleted.ConnectorID, "never-was")
	_, gone["a decoy"] = client.DecoyExistence(ctx, "never-was")
	_, gone["a revoked credential"] = client.EndConnectorCredential(ctx, kept.AppID, kept.ConnectorID, "never-was")
	return gone
}

func TestDescriptionIsValidAndCoversTheEmulator(t *testing.T) {
	t.Parallel()
	d := readDescription(t)
	valid, failures := d.validator.ValidateDocument()
	require.True(t, valid, "%v", failures)
	require.ElementsMatch(t, c1test.Operations(), d.operations())
}

// Every operation of the description is called by the real client and answered
// by the emulator, once with success and once with an error, and all of it fits.
func TestClientAndEmulatorKeepTheContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()

	for _, id := range []c1test.Identity{f.c1.Identity(), f.c1.PlainIdentity()} {
		for _, kind := range c1test.Kinds() {
			decoy := f.c1.NewDecoy(kind, "Bait", nil)
			for op, err := range callEverything(ctx, f.client(t, id), f.c1.Connector(), decoy) {
				assert.NoError(t, err, op)
			}
		}
	}
	for what, err := range lookForWhatIsGone(ctx, f.client(t, f.c1.Identity()), f.c1) {
		assert.NoError(t, err, what)
	}
	for _, options := range [][]c1test.IdentityOption{{c1test.DisplayName("vault")}, {c1test.PersonalClient()}} {
		id := f.c1.NewIdentity(options...)
		for op, err := range manageOwn(ctx, f.client(t, id), id) {
			assert.NoError(t, err, op)
		}
	}
	f.callWhatTheClientDoesNot(t)
	f.manageOwnCredentials(t)

	denied := f.client(t, f.c1.NewIdentity(c1test.Denied()))
	for op, err := range callEverything(ctx, denied, f.c1.Connector(), f.c1.Decoy(c1test.KindAccessToken)) {
		assert.Equal(t, op != c1test.OpIntrospect, c1api.IsReason(err, c1api.ReasonForbidden), "%s: %v", op, err)
	}
	missing := c1test.ConnectorRef{AppID: "no/such app", ConnectorID: "nöpe"}
	for op, err := range callEverything(ctx, f.client(t, f.c1.Identity()), missing, "no such/decoy") {
		exists := op == c1test.OpIntrospect || op == c1test.OpListDecoys
		assert.Equal(t, !exists, err != nil, "%s: %v", op, err)
	}
	stranger := f.clientWith(t, c1api.Options{AccessToken: "no-such-token"})
	for op, err := range callEverything(ctx, stranger, f.c1.Connector(), f.c1.Decoy(c1test.KindAccessToken)) {
		assert.True(t, c1api.IsReason(err, c1api.ReasonIdentity), "%s: %v", op, err)
	}
	unknown := f.client(t, c1test.Identity{ClientID: f.c1.Identity().ClientID, ClientSecret: "wrong"})
	_, err := unknown.Introspect(ctx)
	require.True(t, c1api.IsReason(err, c1api.ReasonIdentity), "%v", err)

	f.c1.SetDecoyFeature(false)
	_, err = f.client(t, f.c1.Identity()).GetDecoy(ctx, f.c1.Decoy(c1test.KindAccessToken))
	require.True(t, c1api.IsReason(err, c1api.ReasonNotFound), "%v", err)
	f.c1.SetDecoyFeature(true)

	f.c1.AddFault(c1test.Fault{Status: http.StatusTooManyRequests})
	for op, err := range callEverything(ctx, f.clientWith(t, c1api.Options{AccessToken: "any"}), f.c1.Connector(), "any") {
		assert.True(t, c1api.IsReason(err, c1api.ReasonRateLimited), "%s: %v", op, err)
	}
	f.c1.ClearFaults()
	f.c1.AddFault(c1test.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "1"})
	_, err = f.clientWith(t, c1api.Options{AccessToken: "any"}).Introspect(ctx)
	require.True(t, c1api.IsReason(err, c1api.ReasonUnavailable), "%v", err)

	assert.Empty(t, f.recorder.found())
	for _, op := range f.recorder.description.operations() {
		assert.Positive(t, f.recorder.saw(op, 2), "%s was never answered with success", op)
		assert.Positive(t, f.recorder.saw(op, 4), "%s was never answered with an error", op)
	}
}

// callWhatTheClientDoesNot makes the emulator's other operations fit too, each
// with success and with an error.
func (f *fixture) callWhatTheClientDoesNot(t *testing.T) {
	t.Helper()
	f.recorder.answersOnly = true
	defer func() { f.recorder.answersOnly = false }()
	const decoys, findings = "/api/v1/decoys", "/api/v1/findings"
	victim := f.c1.NewDecoy(c1test.KindAccessToken, "victim", nil)
	raised := f.c1.ExposeDecoy(victim, f.c1.DecoyFingerprint(victim))
	for _, call := range []struct {
		method, path, body string
		class              int
	}{
		{http.MethodGet, "/api/v1/apps/" + f.c1.Connector().AppID + "/connectors?page_size=1", "", 2},
		{http.MethodGet, "/api/v1/apps/never-was/connectors", "", 4},
		{http.MethodGet, "/api/v1/apps?page_size=1", "", 2},
		{http.MethodGet, "/api/v1/apps?page_size=many", "", 4},
		{http.MethodPost, decoys, `{"displayName":"a","annotations":{"planted":"build server"},"userClientCredential":{"userId":"` + f.c1.User() + `"}}`, 2},
		{http.MethodPost, decoys, `{"displayName":"b","connectorClient":{}}`, 2},
		{http.MethodPost, decoys, `{"displayName":"c","accessToken":{"subjectUserId":"` + f.c1.User() + `","expiresIn":"3600s"}}`, 2},
		{http.MethodPost, decoys, `{"displayName":"d","workloadFed":{"providerId":"p","servicePrincipalUserId":"` + f.c1.User() + `","conditionExpression":"true"}}`, 2},
		{http.MethodPost, decoys, `{"displayName":"e"}`, 4},
		{http.MethodPost, decoys + "/search", `{"query":"vic","pageSize":5}`, 2},
		{http.MethodPost, decoys + "/search", `{"pageSize":"many"}`, 4},
		{http.MethodPost, findings + "/search", `{"decoyIds":["` + victim + `"]}`, 2},
		{http.MethodPost, findings + "/search", `{"decoyIds":"one"}`, 4},
		{http.MethodGet, findings + "/" + raised, "", 2},
		{http.MethodGet, findings + "/never-was", "", 4},
		{http.MethodDelete, decoys + "/" + victim, "{}", 2},
		{http.MethodDelete, decoys + "/" + victim, "{}", 4},
	} {
		assert.Equal(t, call.class, f.raw(t, call.method, call.path, typeJSON, call.body)/100, "%s %s %s", call.method, call.path, call.body)
	}
}

const typeJSON = "application/json"

// raw sends a request with a token that is good, and returns the status.
func (f *fixture) raw(t *testing.T, method, path, contentType, body string) int {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, f.c1.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		rq.Header.Set("Content-Type", contentType)
	}
	if !strings.HasPrefix(path, "/auth/") {
		bearer := f.bearer
		if bearer == "" {
			bearer = f.c1.StaticToken()
		}
		rq.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := f.recorder.RoundTrip(rq)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}
