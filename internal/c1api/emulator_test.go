// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// connect returns a client of an emulated tenant.
func connect(t *testing.T, e *c1test.Emulator, id c1test.Identity) *c1api.Client {
	t.Helper()
	c, err := c1api.New(c1api.Options{
		URL: e.Default().URL(), ClientID: id.ClientID, ClientSecret: id.ClientSecret,
		CACertPEM: e.CACertPEM(), RequestTimeout: 10 * time.Second, UserAgent: "vault-plugin-c1/test",
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestEveryWayToAuthenticate(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant := e.Default()
	for _, id := range []c1test.Identity{tenant.Identity(), tenant.PlainIdentity()} {
		c := connect(t, e, id)
		who, err := c.Introspect(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, who.PrincipalID)
		require.EqualValues(t, 1, c.Health().TokenMints)
	}
	minted := tenant.Requests("token")

	static, err := c1api.New(c1api.Options{URL: tenant.URL(), AccessToken: tenant.StaticToken(), CACertPEM: e.CACertPEM()})
	require.NoError(t, err)
	t.Cleanup(static.Close)
	_, err = static.Introspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, minted, tenant.Requests("token"))
}

func TestConnectorCredentialFromRotationToItsEnd(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant, ref := e.Default(), e.Default().Connector()
	c := connect(t, e, tenant.Identity())

	connector, err := c.GetConnector(t.Context(), ref.AppID, ref.ConnectorID)
	require.NoError(t, err)
	require.NotEmpty(t, connector.DisplayName)

	cred, err := c.RotateConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID)
	require.NoError(t, err)
	require.NoError(t, c1api.CheckClientSecret(cred.ClientSecret))
	require.NoError(t, tenant.Login(t.Context(), cred.ClientID, cred.ClientSecret))

	read, err := c.GetConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
	require.NoError(t, err)
	require.Equal(t, cred.ClientID, read.ClientID)
	require.Empty(t, read.ClientSecret)

	found, err := c.ConnectorCredentialExistence(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
	require.NoError(t, err)
	require.False(t, found.Gone)
	require.Equal(t, read, found.Credential)

	why, err := c.EndConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
	require.NoError(t, err)
	require.Equal(t, "C1 revoked it", why)
	_, err = c.EndConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
	require.NoError(t, err, "ending it again changes nothing")
	found, err = c.ConnectorCredentialExistence(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
	require.NoError(t, err)
	require.True(t, found.Gone)
	require.NotEmpty(t, found.Why)
	require.Error(t, tenant.Login(t.Context(), cred.ClientID, cred.ClientSecret))
	require.Equal(t, 1, tenant.Requests("rotateConnector"))

	_, err = c.GetConnector(t.Context(), ref.AppID, "no-such-connector")
	require.True(t, c1api.IsReason(err, c1api.ReasonNotFound), err)
	require.True(t, c1api.AsError(err).FromC1)
}

func TestDecoyFromRotationToItsEnd(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant := e.Default()
	c := connect(t, e, tenant.Identity())

	for _, kind := range c1test.Kinds() {
		id := tenant.NewDecoy(kind, string(kind), map[string]string{"owner": "blue", "gone": "soon"})
		_, first, err := c.RotateDecoy(t.Context(), id)
		require.NoError(t, err, kind)
		require.Empty(t, first.Warnings)
		rotated, material, err := c.RotateDecoy(t.Context(), id)
		require.NoError(t, err)
		require.Empty(t, material.Warnings)
		require.Empty(t, rotated.Warnings)
		if first.Secret() != "" {
			require.NotEqual(t, first.Secret(), material.Secret())
			require.Equal(t, sha(material.Secret()), rotated.FingerprintSHA256)
		}

		decoy, err := c.UpdateDecoy(t.Context(), &c1api.Decoy{ID: id, Annotations: map[string]string{"gone": ""}}, "annotations")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"owner": "blue"}, decoy.Annotations)

		found, err := c.DecoyExistence(t.Context(), id)
		require.NoError(t, err)
		require.False(t, found.Gone)
		require.Equal(t, rotated.FingerprintSHA256, found.Decoy.FingerprintSHA256)

		tenant.DeleteDecoy(id)
		found, err = c.DecoyExistence(t.Context(), id)
		require.NoError(t, err)
		require.True(t, found.Gone)
		require.Contains(t, found.Why, "list of decoys")
	}
	all, more, err := c.ListDecoys(t.Context())
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, all, len(c1test.Kinds()))
}

func TestADecoyIsNotGoneBecauseTheFeatureIsOff(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant := e.Default()
	c := connect(t, e, tenant.Identity())
	tenant.SetDecoyFeature(false)
	_, _, err := c.RotateDecoy(t.Context(), tenant.Decoy(c1test.Kinds()[0]))
	require.ErrorContains(t, err, "early access")
	found, err := c.DecoyExistence(t.Context(), tenant.Decoy(c1test.Kinds()[0]))
	require.ErrorContains(t, err, "may be switched off")
	require.True(t, c1api.IsReason(err, c1api.ReasonNotFound))
	require.False(t, found.Gone)
}

func TestAConnectorCredentialIsGoneOnlyWhenC1HoldsItNoLonger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*c1test.Tenant, c1test.ConnectorRef, string)
		gone   string
		says   string
	}{
		"alive":              {func(*c1test.Tenant, c1test.ConnectorRef, string) {}, "", ""},
		"revoked":            {func(t *c1test.Tenant, _ c1test.ConnectorRef, id string) { t.RevokeCredential(id) }, "still knows its connector", ""},
		"its connector gone": {func(t *c1test.Tenant, ref c1test.ConnectorRef, _ string) { t.DeleteConnector(ref) }, "the app's connectors", ""},
		"revoked and shown": {func(t *c1test.Tenant, _ c1test.ConnectorRef, id string) {
			t.SetRevokedAnswer(c1test.RevokedShown)
			t.RevokeCredential(id)
		}, "deleted since", ""},
		"its app gone":            {func(t *c1test.Tenant, ref c1test.ConnectorRef, _ string) { t.DeleteApp(ref.AppID) }, "list of apps", ""},
		"connectors switched off": {func(t *c1test.Tenant, _ c1test.ConnectorRef, _ string) { t.SetConnectorFeature(false) }, "", "may be switched off"},
		"a proxy's 404": {func(t *c1test.Tenant, _ c1test.ConnectorRef, id string) {
			t.AddFault(c1test.Fault{Object: id, Status: http.StatusNotFound, Body: "<html>"})
		}, "", "not in C1's own form"},
		"405": {func(t *c1test.Tenant, _ c1test.ConnectorRef, id string) {
			t.AddFault(c1test.Fault{Object: id, Status: http.StatusMethodNotAllowed})
		}, "", "405"},
		"501": {func(t *c1test.Tenant, _ c1test.ConnectorRef, id string) {
			t.AddFault(c1test.Fault{Object: id, Status: http.StatusNotImplemented})
		}, "", "501"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c1test.StartT(t, c1test.Options{TLS: true})
			tenant := e.Default()
			client := connect(t, e, tenant.Identity())
			ref := tenant.Connector()
			cred, err := client.RotateConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID)
			require.NoError(t, err)
			c.change(tenant, ref, cred.ID)
			found, err := client.ConnectorCredentialExistence(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
			require.Equal(t, c.gone != "", found.Gone)
			require.Contains(t, found.Why, c.gone)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			if !found.Gone {
				return
			}
			_, err = client.EndConnectorCredential(t.Context(), ref.AppID, ref.ConnectorID, cred.ID)
			require.NoError(t, err, "what is gone has ended")
		})
	}
}

func TestBothFormsOfTokenErrorsAreTold(t *testing.T) {
	t.Parallel()
	for _, form := range []c1test.TokenErrors{c1test.TokenErrorsOAuth, c1test.TokenErrorsGRPC} {
		e := c1test.StartT(t, c1test.Options{TLS: true})
		e.Default().SetTokenErrors(form)
		id := e.Default().Identity()
		id.ClientSecret = "wrong-plain-secret"
		_, err := connect(t, e, id).Introspect(t.Context())
		require.True(t, c1api.IsReason(err, c1api.ReasonIdentity), err)
		require.Regexp(t, `refused the client ID or its secret \(.+\)`, err.Error(), "with C1's own words")
	}
}

func TestTokenRevokedAtC1IsReplacedOnce(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant := e.Default()
	c := connect(t, e, tenant.Identity())
	_, err := c.Introspect(t.Context())
	require.NoError(t, err)
	tenant.RevokeTokens()
	_, err = c.RotateConnectorCredential(t.Context(), tenant.Connector().AppID, tenant.Connector().ConnectorID)
	require.NoError(t, err)
	require.Equal(t, 2, tenant.Requests("token"))
	require.Equal(t, 1, tenant.Changes("rotateConnector"))
}

func TestWrongClockIsCompensatedAgainstC1(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true})
	tenant := e.Default()
	tenant.AddFault(c1test.Fault{ClockOffset: 20 * time.Minute})
	c := connect(t, e, tenant.Identity())
	_, err := c.Introspect(t.Context())
	require.NoError(t, err)
	require.InDelta(t, (20 * time.Minute).Seconds(), c.Health().ClockOffset.Seconds(), 3)
}

func TestEveryLostAnswerIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	commitLate := make(chan struct{})
	close(commitLate)
	for name, fault := range map[string]c1test.Fault{
		"dropped before":  {DropBefore: true},
		"dropped after":   {DropAfter: true},
		"committed late":  {CommitLate: commitLate},
		"truncated":       {Truncate: true},
		"garbage":         {Garbage: true},
		"endless":         {Endless: true},
		"empty":           {EmptyAnswer: true},
		"no material":     {OmitMaterial: true},
		"no secret":       {OmitSecret: true},
		"500":             {Status: http.StatusInternalServerError},
		"gateway timeout": {StatusAfter: http.StatusGatewayTimeout},
		"redirect":        {Redirect: "https://localhost/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c1test.StartT(t, c1test.Options{TLS: true})
			tenant := e.Default()
			c := connect(t, e, tenant.Identity())
			rotate := map[string]func(context.Context) error{
				"rotateConnector": func(ctx context.Context) error {
					_, err := c.RotateConnectorCredential(ctx, tenant.Connector().AppID, tenant.Connector().ConnectorID)
					return err
				},
				"rotateDecoy": func(ctx context.Context) error {
					_, _, err := c.RotateDecoy(ctx, tenant.Decoy(c1test.Kinds()[0]))
					return err
				},
			}
			for op, call := range rotate {
				f := fault
				f.Op = op
				tenant.AddFault(f)
				err := call(t.Context())
				require.True(t, c1api.IsReason(err, c1api.ReasonUnknown), "%s: %v", op, err)
				require.Equal(t, 1, tenant.Requests(op), "sent once and never again")
			}
		})
	}
}
