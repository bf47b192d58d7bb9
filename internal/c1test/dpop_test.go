// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// holder is a caller with a key, who sends what a test tells it to.
type holder struct {
	*fixture
	key    ed25519.PrivateKey
	header map[string]any // of its proofs, on top of the right ones
}

func newHolder(t *testing.T, f *fixture) *holder {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return &holder{fixture: f, key: key}
}

// public is the key as a proof carries it.
func (h *holder) public() jose.JSONWebKey { return jose.JSONWebKey{Key: h.key.Public()} }

// claims are those of a good proof.
func (h *holder) claims(method, path, accessToken string) map[string]any {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": h.URL() + path, "iat": clockStart.Unix()}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return claims
}

func (h *holder) prove(t *testing.T, claims map[string]any) string {
	t.Helper()
	header := map[string]any{"typ": "dpop+jwt", "jwk": h.public()}
	maps.Copy(header, h.header)
	maps.DeleteFunc(header, func(_ string, value any) bool { return value == nil })
	return signWith(t, jose.SigningKey{Algorithm: jose.EdDSA, Key: h.key}, claims, header)
}

const tokenPath = "/auth/v1/token"

// ask posts a login with proofs, none included.
func (h *holder) ask(t *testing.T, id c1test.Identity, proofs ...string) reply {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+tokenPath, strings.NewReader(secretForm(id).Encode()))
	require.NoError(t, err)
	rq.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rq.Header["Dpop"] = proofs
	response, err := h.http.Do(rq)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	return read(t, response)
}

// login returns an access token that is bound to the holder's key.
func (h *holder) login(t *testing.T, id c1test.Identity) string {
	t.Helper()
	answer := h.ask(t, id, h.prove(t, h.claims(http.MethodPost, tokenPath, "")))
	require.Equal(t, http.StatusOK, answer.status, "%s", answer.body)
	require.Equal(t, "DPoP", answer.field(t, "token_type"))
	value, isString := answer.field(t, "access_token").(string)
	require.True(t, isString)
	return value
}

const introspectPath = "/api/v1/auth/introspect"

// introspect calls the API with what the test wants in the headers.
func (h *holder) introspect(t *testing.T, authorization, proof string) reply {
	t.Helper()
	header := map[string]string{"Authorization": authorization}
	if proof != "" {
		header["DPoP"] = proof
	}
	answer, err := h.do(t, http.MethodGet, introspectPath+"?x=y", "", header)
	require.NoError(t, err)
	return answer
}

// badClaims are changes that spoil a proof, with what C1 says to each.
func badClaims() map[string]struct {
	change func(map[string]any)
	why    string
} {
	return map[string]struct {
		change func(map[string]any)
		why    string
	}{
		"no jti":                 {func(c map[string]any) { delete(c, "jti") }, "jti"},
		"no iat":                 {func(c map[string]any) { delete(c, "iat") }, "iat"},
		"stale iat":              {func(c map[string]any) { c["iat"] = clockStart.Unix() - 61 }, "iat is too old"},
		"iat in the future":      {func(c map[string]any) { c["iat"] = clockStart.Unix() + 61 }, "iat lies in the future"},
		"no htm":                 {func(c map[string]any) { delete(c, "htm") }, "htm"},
		"wrong htm":              {func(c map[string]any) { c["htm"] = http.MethodPut }, "htm"},
		"htm in lower case":      {func(c map[string]any) { c["htm"] = "get" }, "htm"},
		"no htu":                 {func(c map[string]any) { delete(c, "htu") }, "htu"},
		"wrong htu":              {func(c map[string]any) { c["htu"] = "https://elsewhere.example" + introspectPath }, "htu"},
		"htu of another path":    {func(c map[string]any) { c["htu"] = strings.Replace(c["htu"].(string), "/v1/", "/v2/", 1) }, "htu"},
		"htu without a host":     {func(c map[string]any) { c["htu"] = introspectPath }, "htu"},
		"unexpected nonce":       {func(c map[string]any) { c["nonce"] = "n" }, "nobody asked for"},
		"an empty nonce":         {func(c map[string]any) { c["nonce"] = "" }, "nobody asked for"},
		"claims of a wrong type": {func(c map[string]any) { c["jti"] = 7 }, "claims"},
	}
}

func TestProofsOfTokenRequestsAreChecked(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.NewIdentity(c1test.RequireDPoP())
	h := newHolder(t, f)
	refused := func(name, why string, answer reply) {
		t.Helper()
		assert.Equal(t, http.StatusBadRequest, answer.status, name)
		assert.Equal(t, "invalid_dpop_proof", answer.oauthError(t), name)
		assert.Contains(t, answer.field(t, "error_description"), why, name)
	}
	for name, bad := range badClaims() {
		claims := h.claims(http.MethodPost, tokenPath, "")
		bad.change(claims)
		refused(name, bad.why, h.ask(t, me, h.prove(t, claims)))
	}
	good := func() map[string]any { return h.claims(http.MethodPost, tokenPath, "") }
	other := newHolder(t, f)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		header map[string]any
		why    string
	}{
		"no typ":               {map[string]any{"typ": nil}, "typ"},
		"another typ":          {map[string]any{"typ": "JWT"}, "typ"},
		"no jwk":               {map[string]any{"jwk": nil}, "needs jwk"},
		"a private key as jwk": {map[string]any{"jwk": jose.JSONWebKey{Key: h.key}}, "public key"},
		"a secret as jwk":      {map[string]any{"jwk": jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32))}}, "public key"},
		"another's key as jwk": {map[string]any{"jwk": other.public()}, "signature"},
		"a key of another alg": {map[string]any{"jwk": jose.JSONWebKey{Key: rsaKey.Public()}}, "signature"},
	} {
		h.header = test.header
		refused(name, test.why, h.ask(t, me, h.prove(t, good())))
	}
	h.header = nil

	refused("no proof", "prove possession", h.ask(t, me))
	refused("two proofs", "one DPoP header", h.ask(t, me, h.prove(t, good()), h.prove(t, good())))
	refused("no JWT", "not a JWT", h.ask(t, me, "x"))
	refused("another algorithm", "not a JWT", h.ask(t, me, signWith(t, jose.SigningKey{Algorithm: jose.RS256, Key: rsaKey}, good(),
		map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: rsaKey.Public()}})))
	refused("a bad proof that nobody wanted", "not a JWT", h.ask(t, f.Identity(), "x"))
	require.Zero(t, f.Changes(c1test.OpToken))

	proof := h.prove(t, good())
	require.Equal(t, http.StatusOK, h.ask(t, me, proof).status)
	refused("a replayed jti", "jti was used before", h.ask(t, me, proof))
	now.advance(time.Minute)
	refused("a replayed jti, a minute later", "jti was used before", h.ask(t, me, proof))
	now.advance(time.Second)
	refused("a stale one", "too old", h.ask(t, me, proof))
}

func TestProofsOfAPIRequestsAreChecked(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	h := newHolder(t, f)
	token := h.login(t, f.NewIdentity(c1test.RequireDPoP()))
	good := func() map[string]any { return h.claims(http.MethodGet, introspectPath, token) }
	refused := func(name, code, why string, answer reply) {
		t.Helper()
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
		challenge := answer.header.Get("WWW-Authenticate")
		assert.True(t, strings.HasPrefix(challenge, `DPoP error="`+code+`"`), "%s: %s", name, challenge)
		assert.Contains(t, challenge, why, name)
		grpc, _ := answer.failure(t)
		assert.Equal(t, 16, grpc, name)
	}
	for name, bad := range badClaims() {
		claims := good()
		bad.change(claims)
		refused(name, "invalid_dpop_proof", bad.why, h.introspect(t, "DPoP "+token, h.prove(t, claims)))
	}
	withoutHash, wrongHash := good(), h.claims(http.MethodGet, introspectPath, "another token")
	delete(withoutHash, "ath")
	other := newHolder(t, f)
	bearer := f.StaticToken()
	refused("no ath", "invalid_dpop_proof", "ath", h.introspect(t, "DPoP "+token, h.prove(t, withoutHash)))
	refused("wrong ath", "invalid_dpop_proof", "ath", h.introspect(t, "DPoP "+token, h.prove(t, wrongHash)))
	refused("no proof", "invalid_dpop_proof", "missing", h.introspect(t, "DPoP "+token, ""))
	refused("another's key", "invalid_token", "another key", h.introspect(t, "DPoP "+token, other.prove(t, good())))
	refused("as a bearer", "invalid_token", "no bearer", h.introspect(t, "Bearer "+token, h.prove(t, good())))
	refused("a bearer as DPoP", "invalid_token", "not bound", h.introspect(t, "DPoP "+bearer, h.prove(t, h.claims(http.MethodGet, introspectPath, bearer))))

	claims := good()
	claims["htu"] = strings.ToUpper(f.URL()[:4]) + f.URL()[4:] + introspectPath + "?z=1#fragment"
	proof := h.prove(t, claims)
	require.Equal(t, http.StatusOK, h.introspect(t, "dpop "+token, proof).status, "query, fragment and case do not count")
	refused("a replayed jti", "invalid_dpop_proof", "jti was used before", h.introspect(t, "DPoP "+token, proof))

	f.SetDPoPWindow(5 * time.Minute)
	now.advance(4 * time.Minute)
	require.Equal(t, http.StatusOK, h.introspect(t, "DPoP "+token, h.prove(t, good())).status)
	now.advance(10 * time.Minute)
	require.Equal(t, http.StatusUnauthorized, h.introspect(t, "DPoP "+token, h.prove(t, good())).status, "expired")
}

func TestNoncesAreAskedForWhereTheyAreSwitchedOn(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.NewIdentity(c1test.RequireDPoP())
	h := newHolder(t, f)
	ask := func(nonce string) reply {
		claims := h.claims(http.MethodPost, tokenPath, "")
		if nonce != "" {
			claims["nonce"] = nonce
		}
		return h.ask(t, me, h.prove(t, claims))
	}
	f.SetDPoPNonces(true, false)
	challenge := ask("")
	require.Equal(t, http.StatusBadRequest, challenge.status)
	require.Equal(t, "use_dpop_nonce", challenge.oauthError(t))
	nonce := challenge.header.Get("DPoP-Nonce")
	require.NotEmpty(t, nonce)
	require.Equal(t, "use_dpop_nonce", ask("wrong").oauthError(t))
	require.Equal(t, http.StatusOK, ask(nonce).status)

	f.SetTokenErrors(c1test.TokenErrorsGRPC)
	challenge = ask("")
	_, message := challenge.failure(t)
	require.Contains(t, message, "use_dpop_nonce")
	require.Equal(t, nonce, challenge.header.Get("DPoP-Nonce"), "in either form")
	f.SetTokenErrors(c1test.TokenErrorsOAuth)

	f.RotateDPoPNonces()
	challenge = ask(nonce)
	require.Equal(t, "use_dpop_nonce", challenge.oauthError(t))
	require.NotEqual(t, nonce, challenge.header.Get("DPoP-Nonce"))
	answer := ask(challenge.header.Get("DPoP-Nonce"))
	require.Equal(t, http.StatusOK, answer.status)
	token, _ := answer.field(t, "access_token").(string)

	call := func(nonce string) reply {
		claims := h.claims(http.MethodGet, introspectPath, token)
		if nonce != "" {
			claims["nonce"] = nonce
		}
		return h.introspect(t, "DPoP "+token, h.prove(t, claims))
	}
	require.Equal(t, http.StatusOK, call("").status)
	require.Contains(t, call(challenge.header.Get("DPoP-Nonce")).header.Get("WWW-Authenticate"), "nobody asked for", "the API wants none")
	f.SetDPoPNonces(false, true)
	challenge = call("")
	require.Equal(t, http.StatusUnauthorized, challenge.status)
	require.Contains(t, challenge.header.Get("WWW-Authenticate"), `DPoP error="use_dpop_nonce"`)
	require.Equal(t, http.StatusOK, call(challenge.header.Get("DPoP-Nonce")).status)
	require.Equal(t, http.StatusOK, ask("").status, "the token endpoint wants none")
}

func TestProofBindsTheTokenOfAnyCredential(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	h := newHolder(t, f)
	token := h.login(t, f.Identity())
	require.EqualError(t, f.UseToken(t.Context(), token), "C1 answered 401")
	proof := h.prove(t, h.claims(http.MethodGet, introspectPath, token))
	require.Equal(t, http.StatusOK, h.introspect(t, "DPoP "+token, proof).status)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	jwk := jose.JSONWebKey{Key: key.Public()}
	signed := signWith(t, jose.SigningKey{Algorithm: jose.ES256, Key: key}, h.claims(http.MethodPost, tokenPath, ""),
		map[string]any{"typ": "dpop+jwt", "jwk": jwk})
	require.Equal(t, http.StatusOK, h.ask(t, f.Identity(), signed).status, "ES256 is taken too")
}

func TestTheEmulatorsOwnDPoPClientAnswersChallenges(t *testing.T) {
	t.Parallel()
	for _, offline := range []bool{false, true} {
		f := start(t, c1test.Options{Offline: offline})
		me := f.NewIdentity(c1test.RequireDPoP())
		prover := c1test.NewProver()
		require.EqualError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret), "invalid_dpop_proof")
		for _, nonces := range []bool{false, true} {
			f.SetDPoPNonces(nonces, nonces)
			token, err := f.LoginProved(t.Context(), prover, me.ClientID, me.ClientSecret)
			require.NoError(t, err)
			require.NoError(t, f.UseTokenProved(t.Context(), prover, token))
			require.EqualError(t, f.UseTokenProved(t.Context(), c1test.NewProver(), token), "C1 answered 401")
			require.EqualError(t, f.UseToken(t.Context(), token), "C1 answered 401")
		}
		_, err := f.LoginAs(t.Context(), c1test.LoginDPoP, me.ClientID, me.ClientSecret)
		require.NoError(t, err, "with a key of its own")
	}
	jwk := newHolder(t, nil).public()
	sum, err := jwk.Thumbprint(crypto.SHA256)
	require.NoError(t, err)
	require.Len(t, c1test.NewProver().Thumbprint(), len(base64.RawURLEncoding.EncodeToString(sum)))
}

func TestCredentialCreatedWithDPoPNeedsAProof(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	next := f.createOwn(t, f.NewIdentity(), `,"requireDpop":true`)
	require.True(t, next.Credential.RequireDpop)
	id := next.identity()
	require.EqualError(t, f.Login(t.Context(), id.ClientID, id.ClientSecret), "invalid_dpop_proof")
	_, err := f.LoginProved(t.Context(), c1test.NewProver(), id.ClientID, id.ClientSecret)
	require.NoError(t, err)
	require.True(t, f.live(t, id.ClientID).RequireDPoP)
}
