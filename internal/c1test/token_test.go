// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func assertionForm(clientID, assertion string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
}

func secretForm(id c1test.Identity) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {id.ClientID}, "client_secret": {id.ClientSecret},
	}
}

func TestTokenEndpointTakesBothFormsOfSecrets(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{TLS: true, TokenTTL: 90 * time.Second})
	signed := assertionForm(f.Identity().ClientID,
		sign(t, f.Identity().ClientSecret, goodClaims(f, f.Identity().ClientID, time.Now()), nil))
	for name, form := range map[string]url.Values{
		"assertion":                signed,
		"plain secret":             secretForm(f.PlainIdentity()),
		"secret-token in the body": secretForm(f.Identity()),
	} {
		answer := f.login(t, form)
		require.Equal(t, http.StatusOK, answer.status, name)
		var out struct {
			AccessToken string `json:"access_token"`
			TokenType   string `json:"token_type"`
			ExpiresIn   int    `json:"expires_in"`
		}
		answer.decode(t, &out)
		assert.Equal(t, "Bearer", out.TokenType)
		assert.Equal(t, 90, out.ExpiresIn)
		assert.Equal(t, "no-store", answer.header.Get("Cache-Control"))
		assert.NoError(t, f.UseToken(t.Context(), out.AccessToken), name)
	}
	require.Equal(t, 3, f.Changes(c1test.OpToken))
}

func TestTokenEndpointRefusesWhatIsNoLogin(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	good := secretForm(f.PlainIdentity())
	with := func(name, value string) url.Values {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		if value == "" {
			form.Del(name)
		} else {
			form.Set(name, value)
		}
		return form
	}
	assertionWithoutType := assertionForm("x", "a.b.c")
	assertionWithoutType.Del("client_assertion_type")
	twice := with("client_id", "x")
	twice.Add("client_id", "y")
	for name, test := range map[string]struct {
		form url.Values
		want string
	}{
		"another grant":      {with("grant_type", "password"), "unsupported_grant_type"},
		"no grant type":      {with("grant_type", ""), "invalid_request"},
		"no assertion type":  {assertionWithoutType, "invalid_request"},
		"no client ID":       {with("client_id", ""), "invalid_request"},
		"no secret":          {with("client_secret", ""), "invalid_request"},
		"both credentials":   {with("client_assertion", "a.b.c"), "invalid_request"},
		"repeated parameter": {twice, "invalid_request"},
		"unknown client":     {with("client_id", "brave-otter-00001@127.0.0.1/spc"), "invalid_client"},
		"wrong secret":       {with("client_secret", "wrong"), "invalid_client"},
	} {
		assert.Equal(t, test.want, f.login(t, test.form).oauthError(t), name)
	}

	asJSON, err := f.do(t, http.MethodPost, "/auth/v1/token", `{"grant_type":"client_credentials"}`,
		map[string]string{"Content-Type": "application/json"})
	require.NoError(t, err)
	require.Equal(t, "invalid_request", asJSON.oauthError(t), "no form")
	require.Equal(t, "invalid_dpop_proof", f.login(t, secretForm(f.NewIdentity(c1test.RequireDPoP()))).oauthError(t))
	require.Zero(t, f.Changes(c1test.OpToken))
	require.Equal(t, 11, f.Requests(c1test.OpToken))
}

func TestTokenEndpointIgnoresWhatItDoesNotNeed(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	form := secretForm(f.PlainIdentity())
	form.Set("scope", "everything")
	form.Add("scope", "twice")
	form.Set("client_assertion", "")
	form.Set("client_assertion_type", "x")
	answer, err := f.do(t, http.MethodPost, "/auth/v1/token?x=y", form.Encode(), map[string]string{
		"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "Authorization": "Basic eDp5",
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.status)
}

func TestTokenEndpointRefusesInTheFormOfTheSwitch(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{TokenErrors: c1test.TokenErrorsGRPC})
	wrong := secretForm(f.PlainIdentity())
	wrong.Set("client_secret", "wrong")
	for _, test := range []struct {
		form         url.Values
		status, code int
		oauth        string
	}{
		{wrong, 401, 16, "invalid_client"},
		{url.Values{}, 400, 3, "invalid_request"},
	} {
		f.SetTokenErrors(c1test.TokenErrorsGRPC)
		answer := f.login(t, test.form)
		require.Equal(t, test.status, answer.status)
		code, message := answer.failure(t)
		require.Equal(t, test.code, code)
		require.Contains(t, message, test.oauth)
		require.Empty(t, answer.oauthError(t))
		f.SetTokenErrors(c1test.TokenErrorsOAuth)
		answer = f.login(t, test.form)
		require.Equal(t, test.status, answer.status)
		require.Equal(t, test.oauth, answer.oauthError(t))
	}
	f.SetTokenErrors(c1test.TokenErrorsGRPC)
	require.NoError(t, f.Login(t.Context(), f.Identity().ClientID, f.Identity().ClientSecret))
	require.EqualError(t, f.Login(t.Context(), f.Identity().ClientID, "wrong"), "C1 answered 401")
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now, TokenTTL: time.Minute})
	me := f.Identity()
	short, err := f.LoginToken(t.Context(), me.ClientID, me.ClientSecret)
	require.NoError(t, err)
	require.NoError(t, f.UseToken(t.Context(), short))
	now.advance(time.Minute)
	require.EqualError(t, f.UseToken(t.Context(), short), "C1 answered 401")

	static := f.StaticToken()
	now.advance(1000 * time.Hour)
	require.NoError(t, f.UseToken(t.Context(), static))
	f.RevokeTokens()
	require.EqualError(t, f.UseToken(t.Context(), static), "C1 answered 401")
	require.NotEqual(t, static, f.StaticToken())
	require.NoError(t, f.UseToken(t.Context(), f.StaticToken()))
}

func TestIdentitiesMayDoWhatTheyHaveRightsTo(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	decoy := "/api/v1/decoys/" + f.Decoy(c1test.KindAccessToken)
	for name, test := range map[string]struct {
		identity    c1test.Identity
		get, rotate int
	}{
		"all rights":   {f.Identity(), 200, 200},
		"no rights":    {f.NewIdentity(c1test.Denied()), 403, 403},
		"may not read": {f.NewIdentity(c1test.Denied(c1test.OpGetDecoy), c1test.PersonalClient()), 403, 200},
	} {
		bearer, err := f.LoginToken(t.Context(), test.identity.ClientID, test.identity.ClientSecret)
		require.NoError(t, err)
		require.NoError(t, f.UseToken(t.Context(), bearer), "introspection needs no right")
		got, err := f.callWith(t, bearer, http.MethodGet, decoy, "")
		require.NoError(t, err)
		assert.Equal(t, test.get, got.status, name)
		rotated, err := f.callWith(t, bearer, http.MethodPost, decoy+"/rotate", "{}")
		require.NoError(t, err)
		assert.Equal(t, test.rotate, rotated.status, name)
	}

	minted := f.RotateConnector(f.Connector())
	bearer, err := f.LoginToken(t.Context(), minted.ClientID, minted.ClientSecret)
	require.NoError(t, err)
	refused, err := f.callWith(t, bearer, http.MethodPost, rotatePath, rotateBody(f.Connector()))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, refused.status, "a connector manages nothing")
}
