// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
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

// goodClaims are those of C1's own clients, and no more.
func goodClaims(f *fixture, clientID string, now time.Time) map[string]any {
	return map[string]any{
		"iss": clientID, "sub": clientID, "aud": []string{f.Audience()},
		"iat": now.Unix(), "nbf": now.Add(-2 * time.Minute).Unix(), "exp": now.Add(2 * time.Minute).Unix(),
	}
}

// sign signs claims with the key in a secret-token secret.
func sign(t *testing.T, clientSecret string, claims, header map[string]any) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(clientSecret, "secret-token:conductorone.com:v1:"))
	require.NoError(t, err)
	var key jose.JSONWebKey
	require.NoError(t, key.UnmarshalJSON(raw))
	require.IsType(t, ed25519.PrivateKey{}, key.Key)
	return signWith(t, jose.SigningKey{Algorithm: jose.EdDSA, Key: key.Key}, claims, header)
}

func signWith(t *testing.T, key jose.SigningKey, claims, header map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(key, options)
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

// Each of C1's clients sends another form, and C1 takes them all; nothing that
// says a form is the only one is documented.
func TestAssertionsOfAllClientsAreTaken(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.Identity()
	type object = map[string]any
	none := object{}
	for name, test := range map[string]struct{ header, claims object }{
		"SDK: nonce in the header":       {object{"nonce": "n"}, none},
		"DPoP client: no nonce":          {none, none},
		"connector: aud is a string":     {object{"nonce": "n"}, object{"aud": f.Audience()}},
		"several audiences":              {none, object{"aud": []string{"elsewhere", f.Audience()}}},
		"typ":                            {object{"typ": "JWT"}, none},
		"kid":                            {object{"kid": "k"}, none},
		"jti":                            {none, object{"jti": "j"}},
		"a claim of somebody's own":      {none, object{"nonce": "n"}},
		"no iat":                         {none, object{"iat": nil}},
		"no nbf":                         {none, object{"nbf": nil}},
		"an old iat":                     {none, object{"iat": clockStart.Add(-time.Hour).Unix()}},
		"a clock half a minute ahead":    {none, object{"iat": clockStart.Add(30 * time.Second).Unix(), "nbf": clockStart.Add(30 * time.Second).Unix()}},
		"as long as an assertion may be": {none, object{"exp": clockStart.Add(5 * time.Minute).Unix()}},
	} {
		claims := goodClaims(f, me.ClientID, clockStart)
		for claim, value := range test.claims {
			claims[claim] = value
			if value == nil {
				delete(claims, claim)
			}
		}
		form := assertionForm(me.ClientID, sign(t, me.ClientSecret, claims, test.header))
		for range 2 { // C1 documents no check of replays, and not every client could pass one
			assert.Equal(t, http.StatusOK, f.login(t, form).status, name)
		}
	}
}

// The emulator's own client logs in exactly as C1's clients do.
func TestLoginSendsWhatC1sClientsSend(t *testing.T) {
	t.Parallel()
	var now clock
	for form, want := range map[c1test.LoginForm]struct {
		nonce bool
		aud   any
	}{
		c1test.LoginSDK:       {true, []any{"acme.c1.test"}},
		c1test.LoginConnector: {true, "acme.c1.test"},
		c1test.LoginDPoP:      {false, []any{"acme.c1.test"}},
	} {
		e := c1test.StartT(t, c1test.Options{Now: now.now, Offline: true})
		me := e.Default().Identity()
		_, err := e.Default().LoginAs(t.Context(), form, me.ClientID, me.ClientSecret)
		require.NoError(t, err)
		var assertion []string
		for _, s := range e.Secrets() {
			if parts := strings.Split(s, "."); len(parts) == 3 {
				assertion = parts
			}
		}
		require.Len(t, assertion, 3)
		var header, claims map[string]any
		for i, out := range []*map[string]any{&header, &claims} {
			raw, err := base64.RawURLEncoding.DecodeString(assertion[i])
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(raw, out))
		}
		nonce, hasNonce := header["nonce"].(string)
		require.Equal(t, want.nonce, hasNonce, form)
		if hasNonce {
			raw, err := base64.RawURLEncoding.DecodeString(nonce)
			require.NoError(t, err)
			require.Len(t, raw, 16)
			delete(header, "nonce")
		}
		require.Equal(t, map[string]any{"alg": "EdDSA"}, header, form)
		require.Equal(t, map[string]any{
			"iss": me.ClientID, "sub": me.ClientID, "aud": want.aud, "iat": float64(clockStart.Unix()),
			"nbf": float64(clockStart.Unix() - 120), "exp": float64(clockStart.Unix() + 120),
		}, claims, form)
	}
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
		"no expiry":            func(c map[string]any) { delete(c, "exp") },
		"expired":              func(c map[string]any) { c["exp"] = clockStart.Unix() },
		"too long":             func(c map[string]any) { c["exp"] = clockStart.Add(6 * time.Minute).Unix() },
		"other audiences":      func(c map[string]any) { c["aud"] = []string{"elsewhere", "nowhere"} },
		"no audience":          func(c map[string]any) { delete(c, "aud") },
		"no issuer":            func(c map[string]any) { delete(c, "iss") },
		"issued in the future": func(c map[string]any) { c["iat"] = clockStart.Add(2 * time.Minute).Unix() },
		"not valid yet":        func(c map[string]any) { c["nbf"] = clockStart.Add(2 * time.Minute).Unix() },
	} {
		claims := goodClaims(f, me.ClientID, clockStart)
		change(claims)
		answer := f.login(t, assertionForm(me.ClientID, sign(t, me.ClientSecret, claims, nil)))
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
		assert.Equal(t, "invalid_client", answer.oauthError(t), name)
	}
	claims := goodClaims(f, me.ClientID, clockStart)
	for name, assertion := range map[string]string{
		"another's key":     sign(t, other.ClientSecret, claims, nil),
		"another algorithm": signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, claims, nil),
		"no JWT":            "a.b.c",
	} {
		answer := f.login(t, assertionForm(me.ClientID, assertion))
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
	}
	require.Zero(t, f.Changes(c1test.OpToken))
}

func TestAudienceCanBeSet(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{Audience: "acme.conductor.one"})
	require.Equal(t, "acme.conductor.one", f.Audience())
	require.NoError(t, f.Login(t.Context(), f.Identity().ClientID, f.Identity().ClientSecret))
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
		"token exchange":     {with("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), "unsupported_grant_type"},
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
		"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "Authorization": "Basic eDp5", "DPoP": "x",
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

func TestLoginSaysWhatIsWrongWithASecretWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	payload := strings.TrimPrefix(f.Identity().ClientSecret, "secret-token:conductorone.com:v1:")
	for secret, payload := range map[string]string{
		"secret-token:conductorone.com:v1:%%%":                              "%%%",
		"secret-token:conductorone.com:v1:bm8ga2V5":                         "bm8ga2V5",
		"secret-token:conductorone.com:v1:eyJrdHkiOiJvY3QiLCJrIjoiYWFhYSJ9": "eyJrdHkiOiJvY3QiLCJrIjoiYWFhYSJ9",
		"secret-token:conductorone.com:v2:" + payload:                       payload,
		"Secret-Token:" + payload:                                           payload,
	} {
		err := f.Login(t.Context(), f.Identity().ClientID, secret)
		require.Error(t, err)
		require.NotContains(t, fmt.Sprint(err), payload)
	}
	require.Zero(t, f.Requests(""), "nothing was sent")
	require.NoError(t, f.Login(t.Context(), f.Identity().ClientID, "any:thing:v1:"+payload), "C1's clients look at no more")
}
