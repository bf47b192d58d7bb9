// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
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
