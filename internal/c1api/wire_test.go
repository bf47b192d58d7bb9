// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What C1's own clients send, written down by hand from its description and
// from its SDKs. Bodies are compared as JSON; "" is no body at all.
var wire = map[string]struct{ method, path, query, body string }{
	"introspect":                  {"GET", "/api/v1/auth/introspect", "", ""},
	"get connector":               {"GET", "/api/v1/apps/app/connectors/conn", "", ""},
	"list connectors":             {"GET", "/api/v1/apps/app/connectors", "page_size=100", ""},
	"list apps":                   {"GET", "/api/v1/apps", "page_size=100", ""},
	"rotate connector credential": {"POST", "/api/v1/apps/connectors/credentials", "", `{"appId":"app","connectorId":"conn"}`},
	"get connector credential":    {"GET", "/api/v1/apps/app/connectors/conn/credentials/cred1", "", ""},
	"revoke connector credential": {"POST", "/api/v1/apps/app/connectors/conn/credentials/cred1", "", `{}`},
	"list own credentials":        {"GET", "/api/v1/service_principals/user1/credentials", "", ""},
	"get own credential":          {"GET", "/api/v1/service_principals/user1/credentials/cred1", "", ""},
	"create own credential":       {"POST", "/api/v1/service_principals/user1/credentials", "", `{"displayName":"d","expires":"7776000s"}`},
	"revoke own credential":       {"DELETE", "/api/v1/service_principals/user1/credentials/cred1", "", ""},
	"get decoy":                   {"GET", "/api/v1/decoys/decoy1", "", ""},
	"list decoys":                 {"GET", "/api/v1/decoys", "", ""},
	"rotate decoy":                {"POST", "/api/v1/decoys/decoy1/rotate", "", `{}`},
	"update decoy":                {"PATCH", "/api/v1/decoys/decoy1", "", `{"decoy":{"disabled":false},"updateMask":"disabled"}`},
}

func TestRequestsAreThoseOfC1sOwnClients(t *testing.T) {
	t.Parallel()
	require.Len(t, wire, len(everyCall))
	for op, want := range wire {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: always(reply{body: everyCall[op].good})}
			c, _ := newClient(t, f)
			require.NoError(t, everyCall[op].run(c, t.Context()))
			require.Len(t, f.requests, 1)
			sent := f.requests[0]
			require.Equal(t, []string{want.method, want.path, want.query}, []string{sent.method, sent.path, sent.query})
			headers := http.Header{
				"Accept":        {"application/json"},
				"Authorization": {"Bearer t1"},
				"User-Agent":    {"vault-plugin-c1/test"},
			}
			if want.body == "" {
				require.Empty(t, sent.body)
			} else {
				require.JSONEq(t, want.body, sent.body)
				headers.Set("Content-Type", "application/json")
			}
			require.Equal(t, headers, sent.header)
		})
	}
}

// askForToken makes one token request and returns its form and when it was
// made.
func askForToken(t *testing.T, edit ...func(*Options)) (url.Values, time.Time) {
	t.Helper()
	f := &fakeC1{token: func(_ int, r *http.Request) reply {
		require.Equal(t, "POST /auth/v1/token", r.Method+" "+r.URL.RequestURI())
		require.Equal(t, "application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
		require.Empty(t, r.Header.Get("Authorization"), "credentials go in the body only")
		return tokenReply("t1", 600)
	}}
	at := time.Now()
	c, _ := newClient(t, f, append(edit, withClock(func() time.Time { return at }))...)
	_, err := c.Introspect(t.Context())
	require.NoError(t, err)
	form, err := url.ParseQuery(f.forms[0])
	require.NoError(t, err)
	return form, at
}

func TestAssertionIsInTheFormOfC1sSDKs(t *testing.T) {
	t.Parallel()
	plain, public := newSecret(t)
	withID, publicWithID := newSecretWith(t, map[string]any{"kid": "key-1"})
	for name, c := range map[string]struct {
		secret string
		public ed25519.PublicKey
		kid    string
	}{"a key without kid": {plain, public, ""}, "a key with kid": {withID, publicWithID, "key-1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clientID = "hydra@elsewhere.example:9/ccc"
			form, at := askForToken(t, withKey(c.secret), func(o *Options) { o.URL, o.ClientID = "https://localhost:8443", clientID })
			assertion := form.Get("client_assertion")
			require.Equal(t, url.Values{
				"grant_type":            {"client_credentials"},
				"client_id":             {clientID},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {assertion},
			}, form)

			header, claims := openJWT(t, assertion, c.public)
			require.Regexp(t, "^[0-9a-f]{32}$", header["nonce"], "16 random bytes in hex")
			delete(header, "nonce")
			want := map[string]any{"alg": "EdDSA"}
			if c.kid != "" {
				want["kid"] = c.kid
			}
			require.Equal(t, want, header)
			require.Equal(t, map[string]any{
				"iss": clientID,
				"sub": clientID,
				"aud": []any{"localhost"}, // the token endpoint's host, without its port
				"iat": float64(at.Unix()),
				"exp": float64(at.Unix() + 120),
				"nbf": float64(at.Unix() - 120),
			}, claims)
		})
	}
}

func TestEachAssertionHasItsOwnNonce(t *testing.T) {
	t.Parallel()
	secret, public := newSecret(t)
	seen := map[any]bool{}
	for range 3 {
		form, _ := askForToken(t, withKey(secret))
		header, _ := openJWT(t, form.Get("client_assertion"), public)
		seen[header["nonce"]] = true
	}
	require.Len(t, seen, 3)
}

func TestPlainSecretGoesInTheBodyOnly(t *testing.T) {
	t.Parallel()
	form, _ := askForToken(t)
	require.Equal(t, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {testClientID}, "client_secret": {testPassword},
	}, form)
}

// openJWT checks the signature of a JWT by hand.
func openJWT(t *testing.T, token string, public ed25519.PublicKey) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		decoded[i], err = base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
	}
	require.True(t, ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), decoded[2]))
	require.NoError(t, json.Unmarshal(decoded[0], &header))
	require.NoError(t, json.Unmarshal(decoded[1], &claims))
	return header, claims
}

// Positive evidence takes these requests and no others.
func TestEvidenceIsAskedForInThisOrder(t *testing.T) {
	t.Parallel()
	notFound := reply{status: 404, body: `{"code":5,"message":"not found","details":[]}`}
	f := &fakeC1{api: inTurn(notFound, notFound, notFound, reply{body: `{"list":[]}`})}
	c, _ := newClient(t, f)
	_, err := c.EndConnectorCredential(t.Context(), "app", "conn", "cred1")
	require.NoError(t, err)
	var sent []string
	for _, r := range f.requests {
		sent = append(sent, r.method+" "+r.path)
	}
	require.Equal(t, []string{
		"POST /api/v1/apps/app/connectors/conn/credentials/cred1",
		"GET /api/v1/apps/app/connectors/conn/credentials/cred1",
		"GET /api/v1/apps/app/connectors/conn",
		"GET /api/v1/apps/app/connectors",
	}, sent)
}
