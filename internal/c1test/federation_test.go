// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func exchangeForm(clientID, subjectToken string) url.Values {
	return url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {clientID},
		"subject_token": {subjectToken}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
	}
}

func TestWorkloadExchangesItsTokenForAnAccessToken(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	issuer := c1test.NewIssuer("https://ci.example")
	workload := f.NewFederatedIdentity(issuer.Trust("job"))
	require.True(t, strings.HasSuffix(workload.ClientID, "/wfe"))
	require.Empty(t, workload.ClientSecret)

	answer := f.login(t, exchangeForm(workload.ClientID, issuer.Token("job", f.Audience(), clockStart)))
	require.Equal(t, http.StatusOK, answer.status, "%s", answer.body)
	require.Equal(t, "Bearer", answer.field(t, "token_type"))
	require.Equal(t, "urn:ietf:params:oauth:token-type:access_token", answer.field(t, "issued_token_type"))
	bearer, _ := answer.field(t, "access_token").(string)
	who, err := f.callWith(t, bearer, http.MethodGet, introspectPath, "")
	require.NoError(t, err)
	require.NotEmpty(t, who.field(t, "userId"))
	require.NotEmpty(t, who.field(t, "permissions"))

	// SPIFFE's tokens have no iat, which C1 takes as they come.
	_, err = f.LoginFederated(t.Context(), workload.ClientID, issuer.Sign(map[string]any{
		"sub": "job", "aud": []string{"elsewhere", f.Audience()}, "exp": clockStart.Unix() + 60,
	}))
	require.NoError(t, err)
	anyone := f.NewFederatedIdentity(issuer.Trust(""), c1test.Denied(c1test.OpListDecoys))
	bearer, err = f.LoginFederated(t.Context(), anyone.ClientID, issuer.Token("whoever", f.Audience(), clockStart))
	require.NoError(t, err)
	refused, err := f.callWith(t, bearer, http.MethodGet, "/api/v1/decoys", "")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, refused.status)

	for _, c := range f.LiveCredentials() {
		require.NotEqual(t, workload.ClientID, c.ClientID, "a trust is no credential")
	}
	require.Contains(t, f.emulator.Secrets(), bearer)
	require.True(t, f.DeleteIdentity(workload.ClientID))
	_, err = f.LoginFederated(t.Context(), workload.ClientID, issuer.Token("job", f.Audience(), clockStart))
	require.EqualError(t, err, "invalid_client")
}

func TestSubjectTokensAreChecked(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	issuer, impostor := c1test.NewIssuer("https://ci.example"), c1test.NewIssuer("https://ci.example")
	workload := f.NewFederatedIdentity(issuer.Trust("job"))
	good := func() map[string]any {
		return map[string]any{"sub": "job", "aud": f.Audience(), "iat": clockStart.Unix(), "exp": clockStart.Unix() + 60}
	}
	at := func(d time.Duration) int64 { return clockStart.Add(d).Unix() }
	for name, test := range map[string]struct {
		change func(map[string]any)
		why    string
	}{
		"another issuer":       {func(c map[string]any) { c["iss"] = "https://elsewhere.example" }, "issuer"},
		"another audience":     {func(c map[string]any) { c["aud"] = "elsewhere" }, "audience"},
		"audience with a port": {func(c map[string]any) { c["aud"] = strings.TrimPrefix(f.URL(), "http://") }, "audience"},
		"audience is the URL":  {func(c map[string]any) { c["aud"] = f.URL() }, "audience"},
		"no audience":          {func(c map[string]any) { delete(c, "aud") }, "audience"},
		"no expiry":            {func(c map[string]any) { delete(c, "exp") }, "expiry"},
		"expired":              {func(c map[string]any) { c["exp"] = at(-6 * time.Second) }, "expiry"},
		"too old":              {func(c map[string]any) { c["iat"] = at(-601 * time.Second) }, "age"},
		"from the future":      {func(c map[string]any) { c["iat"] = at(61 * time.Second) }, "age"},
		"not valid yet":        {func(c map[string]any) { c["nbf"] = at(61 * time.Second) }, "age"},
		"another subject":      {func(c map[string]any) { c["sub"] = "another job" }, "condition"},
		"no subject":           {func(c map[string]any) { delete(c, "sub") }, "condition"},
	} {
		claims := good()
		test.change(claims)
		answer := f.login(t, exchangeForm(workload.ClientID, issuer.Sign(claims)))
		assert.Equal(t, http.StatusBadRequest, answer.status, name)
		assert.Equal(t, "invalid_grant", answer.oauthError(t), name)
		assert.True(t, strings.HasPrefix(answer.field(t, "error_description").(string), test.why+":"), "%s: %s", name, answer.body)
	}
	for name, subjectToken := range map[string]string{"no JWT": "x", "another's key": impostor.Sign(good())} {
		require.Equal(t, "invalid_grant", f.login(t, exchangeForm(workload.ClientID, subjectToken)).oauthError(t), name)
	}
	require.Zero(t, f.Changes(c1test.OpToken))
	old := good()
	old["iat"] = at(-10 * time.Minute)
	require.Equal(t, http.StatusOK, f.login(t, exchangeForm(workload.ClientID, issuer.Sign(old))).status)
}

func TestGrantsAreForTheirOwnClientsOnly(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	issuer := c1test.NewIssuer("https://ci.example")
	workload := f.NewFederatedIdentity(issuer.Trust(""))
	good := exchangeForm(workload.ClientID, issuer.Token("job", f.Audience(), time.Now()))
	with := func(form url.Values, name, value string) url.Values {
		changed := url.Values{}
		for k, v := range form {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	for name, test := range map[string]struct {
		form url.Values
		want string
	}{
		"unknown workload":               {with(good, "client_id", "brave-otter-00001@127.0.0.1/wfe"), "invalid_client"},
		"exchange without a trust":       {with(good, "client_id", f.Identity().ClientID), "unauthorized_client"},
		"workload with a secret":         {with(secretForm(f.Identity()), "client_id", workload.ClientID), "unauthorized_client"},
		"no subject token":               {with(good, "subject_token", ""), "invalid_request"},
		"another type of token":          {with(good, "subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), "invalid_request"},
		"no type":                        {with(good, "subject_token_type", ""), "invalid_request"},
		"a secret besides":               {with(good, "client_secret", "x"), "invalid_request"},
		"a subject token with a secret":  {with(secretForm(f.Identity()), "subject_token", "x"), "invalid_request"},
		"client credentials, no subject": {with(with(good, "grant_type", "client_credentials"), "subject_token", ""), "invalid_request"},
	} {
		assert.Equal(t, test.want, f.login(t, test.form).oauthError(t), name)
	}
	require.Zero(t, f.Changes(c1test.OpToken))
}

func TestWorkloadsTokenCanBeBoundToAKey(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	issuer := c1test.NewIssuer("https://ci.example")
	workload := f.NewFederatedIdentity(issuer.Trust(""), c1test.RequireDPoP())
	subjectToken := issuer.Token("job", f.Audience(), time.Now())
	_, err := f.LoginFederated(t.Context(), workload.ClientID, subjectToken)
	require.EqualError(t, err, "invalid_dpop_proof")
	prover := c1test.NewProver()
	token, err := c1test.Login(t.Context(), f.http, c1test.LoginRequest{
		URL: f.URL(), ClientID: workload.ClientID, SubjectToken: subjectToken, Now: time.Now(), Prover: prover,
	})
	require.NoError(t, err)
	require.NoError(t, f.UseTokenProved(t.Context(), prover, token))
}
