// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
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
func callEverything(ctx context.Context, client *c1api.Client, c1 *c1test.Tenant, connector c1test.ConnectorRef, decoy string) map[string]error {
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

	_, errs[c1test.OpListDecoys] = client.ListDecoys(ctx, 0)
	_, errs[c1test.OpGetDecoy] = client.GetDecoy(ctx, decoy)
	_, _, errs[c1test.OpRotateDecoy] = client.RotateDecoy(ctx, decoy)
	_, errs[c1test.OpUpdateDecoy] = client.UpdateDecoy(ctx,
		&c1api.Decoy{ID: decoy, Disabled: true, Annotations: map[string]string{"owner": "red team"}}, "annotations", "disabled")
	_, _, errs[c1test.OpCreateDecoy] = client.CreateDecoy(ctx, c1api.NewDecoy{
		DisplayName: "Bait", UserClientCredential: &c1api.NewUserClientCredentialDecoy{UserID: c1.User()},
	})
	errs[c1test.OpDeleteDecoy] = client.DeleteDecoy(ctx, decoy)
	return errs
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
			for op, err := range callEverything(ctx, f.client(t, id), f.c1, f.c1.Connector(), decoy) {
				assert.NoError(t, err, op)
			}
		}
	}
	f.createEveryKind(t)

	denied := f.client(t, f.c1.NewIdentity(c1test.Denied()))
	for op, err := range callEverything(ctx, denied, f.c1, f.c1.Connector(), f.c1.Decoy(c1test.KindAccessToken)) {
		assert.Equal(t, op != c1test.OpIntrospect, c1api.IsReason(err, c1api.ReasonForbidden), "%s: %v", op, err)
	}
	missing := c1test.ConnectorRef{AppID: "no/such app", ConnectorID: "nöpe"}
	for op, err := range callEverything(ctx, f.client(t, f.c1.Identity()), f.c1, missing, "no such/decoy") {
		exists := op == c1test.OpIntrospect || op == c1test.OpListDecoys || op == c1test.OpCreateDecoy
		assert.Equal(t, !exists, err != nil, "%s: %v", op, err)
	}
	stranger := f.clientWith(t, c1api.Options{AccessToken: "no-such-token"})
	for op, err := range callEverything(ctx, stranger, f.c1, f.c1.Connector(), f.c1.Decoy(c1test.KindAccessToken)) {
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
	for op, err := range callEverything(ctx, f.clientWith(t, c1api.Options{AccessToken: "any"}), f.c1, f.c1.Connector(), "any") {
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

// createEveryKind creates one decoy of each kind through the client.
func (f *fixture) createEveryKind(t *testing.T) {
	t.Helper()
	client := f.client(t, f.c1.Identity())
	for name, in := range map[string]c1api.NewDecoy{
		"user client credential": {UserClientCredential: &c1api.NewUserClientCredentialDecoy{UserID: f.c1.User()}},
		"connector client":       {ConnectorClient: &c1api.NewConnectorClientDecoy{}},
		"access token":           {AccessToken: &c1api.NewAccessTokenDecoy{SubjectUserID: f.c1.User(), ExpiresIn: "3600s"}},
		"workload federation":    {WorkloadFederation: []byte(`{"issuer": "https://issuer.example"}`)},
	} {
		in.DisplayName, in.Annotations = name, map[string]string{"planted": "build server"}
		decoy, material, err := client.CreateDecoy(t.Context(), in)
		require.NoError(t, err, name)
		require.Equal(t, name, decoy.DisplayName)
		require.NotNil(t, material, name)
	}
}
