// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// goodClaims are those of C1's own SDK.
func goodClaims(f *fixture, clientID, nonce string, now time.Time) map[string]any {
	return map[string]any{
		"iss": clientID, "sub": clientID, "aud": f.Audience(), "jti": nonce,
		"iat": now.Unix(), "nbf": now.Add(-2 * time.Minute).Unix(), "exp": now.Add(2 * time.Minute).Unix(),
	}
}

// sign signs claims with the key in a secret-token secret.
func sign(t *testing.T, clientSecret string, claims map[string]any) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(clientSecret, "secret-token:conductorone.com:v1:"))
	require.NoError(t, err)
	var key jose.JSONWebKey
	require.NoError(t, key.UnmarshalJSON(raw))
	require.IsType(t, ed25519.PrivateKey{}, key.Key)
	return signWith(t, jose.SigningKey{Algorithm: jose.EdDSA, Key: key.Key}, claims)
}

func signWith(t *testing.T, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	require.NoError(t, err)
	signed, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return signed
}

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
		sign(t, f.Identity().ClientSecret, goodClaims(f, f.Identity().ClientID, "n1", time.Now())))
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

func TestAssertionIsChecked(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me, other := f.Identity(), f.NewIdentity()
	for name, change := range map[string]func(map[string]any){
		"wrong issuer":         func(c map[string]any) { c["iss"] = other.ClientID },
		"wrong subject":        func(c map[string]any) { c["sub"] = other.ClientID },
		"wrong audience":       func(c map[string]any) { c["aud"] = "acme.conductor.one" },
		"audience with a port": func(c map[string]any) { c["aud"] = strings.TrimPrefix(f.URL(), "http://") },
		"two audiences":        func(c map[string]any) { c["aud"] = []string{f.Audience(), "elsewhere"} },
		"no nonce":             func(c map[string]any) { delete(c, "jti") },
		"no expiry":            func(c map[string]any) { delete(c, "exp") },
		"no issue time":        func(c map[string]any) { delete(c, "iat") },
		"expired":              func(c map[string]any) { c["exp"] = clockStart.Unix() },
		"too long":             func(c map[string]any) { c["exp"] = clockStart.Add(6 * time.Minute).Unix() },
		"issued in the future": func(c map[string]any) { c["iat"] = clockStart.Add(time.Minute).Unix() },
		"issued long ago":      func(c map[string]any) { c["iat"] = clockStart.Add(-6 * time.Minute).Unix() },
		"not valid yet":        func(c map[string]any) { c["nbf"] = clockStart.Add(time.Minute).Unix() },
	} {
		claims := goodClaims(f, me.ClientID, name, clockStart)
		change(claims)
		answer := f.login(t, assertionForm(me.ClientID, sign(t, me.ClientSecret, claims)))
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
		assert.Equal(t, "invalid_client", answer.oauthError(t), name)
	}
	claims := goodClaims(f, me.ClientID, "n", clockStart)
	for name, assertion := range map[string]string{
		"another's key":     sign(t, other.ClientSecret, claims),
		"another algorithm": signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, claims),
		"no JWT":            "a.b.c",
	} {
		answer := f.login(t, assertionForm(me.ClientID, assertion))
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
	}
	require.Zero(t, f.Changes(c1test.OpToken))
}

func TestAssertionIsGoodOnce(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now, Audience: "acme.conductor.one"})
	me := f.Identity()
	require.Equal(t, "acme.conductor.one", f.Audience())
	form := assertionForm(me.ClientID, sign(t, me.ClientSecret, goodClaims(f, me.ClientID, "once", clockStart)))
	require.Equal(t, http.StatusOK, f.login(t, form).status)
	replay := f.login(t, form)
	require.Equal(t, http.StatusUnauthorized, replay.status)
	require.Contains(t, string(replay.body), "used before")

	now.advance(10 * time.Minute)
	fresh := assertionForm(me.ClientID, sign(t, me.ClientSecret, goodClaims(f, me.ClientID, "once", now.now())))
	require.Equal(t, http.StatusOK, f.login(t, fresh).status, "an old nonce may come again")
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
	twice := with("client_id", "x")
	twice.Add("client_id", "y")
	for name, test := range map[string]struct {
		form url.Values
		want string
	}{
		"token exchange":     {with("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), "unsupported_grant_type"},
		"no grant type":      {with("grant_type", ""), "unsupported_grant_type"},
		"no client ID":       {with("client_id", ""), "invalid_request"},
		"no secret":          {with("client_secret", ""), "invalid_request"},
		"both credentials":   {with("client_assertion", "a.b.c"), "invalid_request"},
		"a type too many":    {with("client_assertion_type", "x"), "invalid_request"},
		"unknown parameter":  {with("scope", "x"), "invalid_request"},
		"repeated parameter": {twice, "invalid_request"},
		"unknown client":     {with("client_id", "brave-otter-00001@127.0.0.1/spc"), "invalid_client"},
		"wrong secret":       {with("client_secret", "wrong"), "invalid_client"},
	} {
		assert.Equal(t, test.want, f.login(t, test.form).oauthError(t), name)
	}

	basic, err := f.do(t, http.MethodPost, "/auth/v1/token", "grant_type=client_credentials", map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic eDp5",
	})
	require.NoError(t, err)
	require.Equal(t, "invalid_request", basic.oauthError(t), "header authentication")
	require.Equal(t, "invalid_dpop_proof", f.login(t, secretForm(f.NewIdentity(c1test.RequireDPoP()))).oauthError(t))
	require.Zero(t, f.Changes(c1test.OpToken))
	require.Equal(t, 12, f.Requests(c1test.OpToken))
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

func TestLoginSaysWhatIsWrongWithASecretWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for _, payload := range []string{"%%%", "bm8ga2V5", "eyJrdHkiOiJvY3QiLCJrIjoiYWFhYSJ9"} {
		err := f.Login(t.Context(), f.Identity().ClientID, "secret-token:conductorone.com:v1:"+payload)
		require.Error(t, err)
		require.NotContains(t, fmt.Sprint(err), payload)
	}
	require.Zero(t, f.Requests(""), "nothing was sent")
}
