// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// provingC1 is a C1 that wants DPoP proofs and checks them as RFC 9449, section 4.3,
// says, with nothing of the client's code. A nonce that it did not ask for is wrong.
type provingC1 struct {
	fake       *fakeC1
	tokenNonce string // "" is none; a request without it is challenged
	apiNonce   string
	tokenType  string // "" is DPoP
	elsewhere  map[string]string

	mu      sync.Mutex
	seen    map[string]bool // jti
	keys    map[string]bool // thumbprints
	proofs  []string
	refused []string
}

func newProvingC1() *provingC1 {
	p := &provingC1{seen: map[string]bool{}, keys: map[string]bool{}}
	p.fake = &fakeC1{token: p.token, api: func(_ int, r *http.Request) reply {
		if refused, ok := p.api(r); !ok {
			return refused
		}
		return reply{header: p.elsewhere, body: goodCredential}
	}}
	return p
}

func (p *provingC1) token(n int, r *http.Request) reply {
	value := fmt.Sprintf("bound-%d", n)
	switch fault := p.check(r, "", p.tokenNonce); fault {
	case "":
	case errorNonce:
		return reply{status: 400, header: map[string]string{"DPoP-Nonce": p.tokenNonce}, body: `{"error":"use_dpop_nonce"}`}
	default:
		return reply{status: 400, body: `{"error":"invalid_dpop_proof","error_description":"` + fault + `"}`}
	}
	kind := p.tokenType
	if kind == "" {
		kind = "DPoP"
	}
	return reply{body: fmt.Sprintf(`{"access_token":%q,"token_type":%q,"expires_in":600}`, value, kind)}
}

func (p *provingC1) api(r *http.Request) (refused reply, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "Bearer" && p.tokenType != "" && r.Header.Get("DPoP") == "" {
		return reply{}, true
	}
	fault := "no DPoP scheme"
	if scheme == "DPoP" {
		fault = p.check(r, token, p.apiNonce)
	}
	switch fault {
	case "":
		return reply{}, true
	case errorNonce:
		return reply{status: 401, header: map[string]string{
			"DPoP-Nonce": p.apiNonce, "WWW-Authenticate": `DPoP algs="EdDSA ES256", error="use_dpop_nonce", error_description="a nonce, please"`,
		}}, false
	default:
		p.mu.Lock()
		p.refused = append(p.refused, fault)
		p.mu.Unlock()
		return reply{status: 401, header: map[string]string{"WWW-Authenticate": `DPoP error="invalid_dpop_proof"`}}, false
	}
}

// check returns what is wrong with the proof of a request, "" for nothing.
func (p *provingC1) check(r *http.Request, token, nonce string) string {
	if len(r.Header.Values("DPoP")) != 1 {
		return "there is not exactly one proof"
	}
	parsed, err := jose.ParseSignedCompact(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return "the proof is no JWS"
	}
	header := parsed.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" || header.JSONWebKey == nil || !header.JSONWebKey.IsPublic() {
		return "the header has another type, or no public key"
	}
	payload, err := parsed.Verify(header.JSONWebKey)
	if err != nil {
		return "the signature is wrong"
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return "the claims are none"
	}
	thumb, _ := header.JSONWebKey.Thumbprint(crypto.SHA256)
	want := map[string]any{
		"htm": r.Method, "htu": "https://" + r.URL.Host + r.URL.EscapedPath(), "jti": claims["jti"], "iat": claims["iat"],
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		want["ath"] = b64(sum[:])
	}
	given, _ := claims["nonce"].(string)
	if given != "" {
		want["nonce"] = given
	}
	if fmt.Sprint(want) != fmt.Sprint(claims) {
		return "the claims are wrong"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	jti, _ := claims["jti"].(string)
	if len(jti) < 16 || p.seen[jti] {
		return "the jti was used before"
	}
	p.seen[jti], p.keys[b64(thumb)] = true, true
	p.proofs = append(p.proofs, r.Header.Get("DPoP"))
	iat, _ := claims["iat"].(float64)
	if time.Now().Add(p.fake.skew).Sub(time.Unix(int64(iat), 0)).Abs() > time.Minute {
		return "the iat is wrong"
	}
	switch {
	case given == nonce:
		return ""
	case nonce == "":
		return "no nonce was asked for"
	default:
		return errorNonce
	}
}

// withProofs makes the client start with proofs.
func withProofs(o *Options) { o.DPoP = true }

func rotates(t *testing.T, c *Client) {
	t.Helper()
	_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
}

func TestProofsAreLearnedFromTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	key, _ := newSecret(t)
	for name, edit := range map[string]func(*Options){
		"plain secret": func(*Options) {}, "assertion": withKey(key), "identity token": withFederation(numbered()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newProvingC1()
				c, logged := newClient(t, p.fake, edit, withRetries(0))
				require.False(t, c.Health().DPoP)
				rotates(t, c)
				require.Equal(t, 2, p.fake.mints, "one without a proof, one with")
				require.Len(t, p.fake.requests, 1)
				require.Equal(t, "DPoP bound-2", p.fake.requests[0].header.Get("Authorization"))
				require.True(t, c.Health().DPoP)

				time.Sleep(time.Hour)
				rotates(t, c)
				_, err := c.listsConnector(t.Context(), "app", "conn/with a slash")
				require.ErrorContains(t, err, "not a page", "what counts is that the proof of a URL with a query was good")
				require.Equal(t, 3, p.fake.mints, "from then on with a proof at once")
				require.Len(t, p.fake.requests, 3)
				require.Len(t, p.keys, 1, "one key for the life of the client")
				require.Empty(t, p.refused)
				for _, proof := range p.proofs {
					require.NotContains(t, logged.String(), proof)
				}
			})
		})
	}
}

func TestProofsFromTheStart(t *testing.T) {
	t.Parallel()
	p := newProvingC1()
	c, _ := newClient(t, p.fake, withProofs, withRetries(0))
	require.True(t, c.Health().DPoP)
	rotates(t, c)
	require.Equal(t, 1, p.fake.mints)

	other := newProvingC1()
	c, _ = newClient(t, other.fake, withProofs)
	rotates(t, c)
	for key := range other.keys {
		require.NotContains(t, p.keys, key, "each client has a key of its own")
	}
}

func TestProofsAreLearnedFromTheAPI(t *testing.T) {
	t.Parallel()
	p := newProvingC1()
	p.fake.token = func(n int, r *http.Request) reply {
		if r.Header.Get("DPoP") == "" {
			return tokenReply("plain", 600)
		}
		return p.token(n, r)
	}
	c, _ := newClient(t, p.fake, withRetries(0))
	rotates(t, c)
	require.Equal(t, 2, p.fake.mints)
	require.Len(t, p.fake.requests, 2)
	require.Equal(t, "Bearer plain", p.fake.requests[0].header.Get("Authorization"))
	require.Equal(t, "DPoP bound-2", p.fake.requests[1].header.Get("Authorization"))
}

func TestNonceIsAskedForOnceAndRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvingC1()
		p.tokenNonce, p.apiNonce = "nonce-of-the-token-endpoint", "nonce-of-the-api"
		c, _ := newClient(t, p.fake, withProofs, withRetries(0))
		rotates(t, c)
		require.Equal(t, 2, p.fake.mints)
		require.Len(t, p.fake.requests, 2, "the first was challenged, which says that C1 did nothing")

		time.Sleep(time.Hour)
		rotates(t, c)
		require.Equal(t, 3, p.fake.mints)
		require.Len(t, p.fake.requests, 3)

		p.apiNonce = "the-next-nonce"
		rotates(t, c)
		require.Len(t, p.fake.requests, 5)

		p.elsewhere = map[string]string{"DPoP-Nonce": "one-more-nonce"}
		rotates(t, c)
		p.apiNonce = "one-more-nonce"
		rotates(t, c)
		require.Len(t, p.fake.requests, 7, "a nonce in any answer is that of the next request")
		require.Empty(t, p.refused)
	})
}

func TestLearningAndNonceTogether(t *testing.T) {
	t.Parallel()
	p := newProvingC1()
	p.tokenNonce = "nonce"
	c, _ := newClient(t, p.fake, withRetries(0))
	rotates(t, c)
	require.Equal(t, 3, p.fake.mints, "no proof, no nonce, both")
}

func TestChallengesNeverLoop(t *testing.T) {
	t.Parallel()
	const asks = `DPoP error="use_dpop_nonce"`
	for name, c := range map[string]struct {
		api      func(int, *http.Request) reply
		requests int
		mints    int
		says     string
	}{
		"another nonce each time": {func(n int, _ *http.Request) reply {
			return reply{status: 401, header: map[string]string{"WWW-Authenticate": asks, "DPoP-Nonce": fmt.Sprintf("n%d", n)}}
		}, 2, 1, "another nonce"},
		"no nonce beside the challenge": {always(reply{status: 401, header: map[string]string{"WWW-Authenticate": asks}}), 2, 2, "new access token"},
		"a nonce that cannot be":        {always(reply{status: 401, header: map[string]string{"WWW-Authenticate": asks, "DPoP-Nonce": `a "b"`}}), 2, 2, "new access token"},
		"bad proof": {always(reply{status: 401, header: map[string]string{
			"WWW-Authenticate": `DPoP error="invalid_dpop_proof"`, "DPoP-Nonce": "n",
		}}), 2, 2, "new DPoP proof"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvingC1()
			p.fake.api = c.api
			client, _ := newClient(t, p.fake, withProofs)
			_, err := client.RotateConnectorCredential(t.Context(), "app", "conn")
			require.Contains(t, failedFor(t, err, ReasonIdentity).Message, c.says)
			require.Len(t, p.fake.requests, c.requests)
			require.Equal(t, c.mints, p.fake.mints)
		})
	}
	for name, c := range map[string]struct {
		token func(int, *http.Request) reply
		mints int
	}{
		"bad proof": {always(reply{status: 400, body: `{"error":"invalid_dpop_proof"}`}), 2},
		"another nonce each time": {func(n int, _ *http.Request) reply {
			return reply{status: 400, header: map[string]string{"DPoP-Nonce": fmt.Sprintf("n%d", n)}, body: `{"error":"use_dpop_nonce"}`}
		}, 3},
		"in C1's words": {always(reply{status: 401, body: `{"code":16,"message":"a DPoP proof is missing"}`}), 2},
	} {
		t.Run(name+", token", func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{token: c.token}
			client, _ := newClient(t, f)
			_, err := client.Introspect(t.Context())
			require.Contains(t, failedFor(t, err, ReasonIdentity).Message, "C1 refused the DPoP proof (")
			require.Equal(t, c.mints, f.mints)
			require.False(t, client.Health().DPoP, "what was never taken is not sent from the start")
		})
	}
}

func TestBearerInAnswerToAProofIsUsedAsOne(t *testing.T) {
	t.Parallel()
	p := newProvingC1()
	p.tokenType = "Bearer"
	c, _ := newClient(t, p.fake, withProofs)
	rotates(t, c)
	require.Equal(t, "Bearer bound-1", p.fake.requests[0].header.Get("Authorization"))
	require.Empty(t, p.fake.requests[0].header.Values("DPoP"))
	require.False(t, c.Health().DPoP)
}

func TestProofsAreDatedByC1sClock(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{432 * time.Second, -432 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvingC1()
			p.fake.skew = skew
			c, _ := newClient(t, p.fake, withProofs, withRetries(0))
			rotates(t, c)
			require.Equal(t, 2, p.fake.mints, "one refused by the clock, one with C1's time")
			require.Len(t, p.fake.requests, 1)
			require.Empty(t, p.refused)
		})
	}
	synctest.Test(t, func(t *testing.T) { // a clock that is set while the token lives
		p := newProvingC1()
		c, _ := newClient(t, p.fake, withProofs, withRetries(0))
		rotates(t, c)
		p.fake.skew = time.Hour
		rotates(t, c)
		require.Equal(t, []string{"the iat is wrong"}, p.refused)
	})
	synctest.Test(t, func(t *testing.T) { // said when it does not help
		f := &fakeC1{skew: time.Hour, token: always(reply{status: 400, body: `{"error":"invalid_dpop_proof"}`})}
		c, _ := newClient(t, f, withProofs)
		_, err := c.Introspect(t.Context())
		require.Contains(t, failedFor(t, err, ReasonIdentity).Message, "this machine's clock is 1h0m")
		require.Equal(t, 2, f.mints)
	})
}

func TestStaticTokenCannotBeProven(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`DPoP error="use_dpop_nonce"`, `DPoP algs="EdDSA"`, `Bearer, DPoP error="invalid_dpop_proof"`} {
		f := &fakeC1{api: always(reply{status: 401, header: map[string]string{"WWW-Authenticate": answer, "DPoP-Nonce": "n"}})}
		c, _ := newClient(t, f, withBearer("static-bearer"))
		_, err := c.Introspect(t.Context())
		require.Contains(t, failedFor(t, err, ReasonIdentity).Message, "cannot be made for an access token that was issued to somebody else")
		require.Len(t, f.requests, 1)
	}
}

// The example of RFC 9449, section 7.1, with a key and a date of our own.
func TestProofHasTheStructureOfTheRFC(t *testing.T) {
	t.Parallel()
	const token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	target, err := url.Parse("https://resource.example.org/protectedresource?page=2#part")
	require.NoError(t, err)
	p := newProver(false)
	proof, err := p.proof(purpose{method: "GET", target: target, token: token, at: time.Unix(1562262618, 5)})
	require.NoError(t, err)

	var header struct {
		Jwk map[string]string `json:"jwk"`
	}
	raw := decodedPart(t, proof, 0)
	require.NoError(t, json.Unmarshal(raw, &header))
	x := header.Jwk["x"]
	require.JSONEq(t, `{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+x+`"}}`, string(raw))
	public := decodedPart(t, x, 0)
	require.Len(t, public, ed25519.PublicKeySize)
	_, claims := openJWT(t, proof, public)
	jti := claims["jti"]
	require.Equal(t, map[string]any{
		"jti": jti, "htm": "GET", "htu": "https://resource.example.org/protectedresource",
		"iat": float64(1562262618), "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
	}, claims)

	// RFC 7638, section 3: the required members in the order of their names.
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	parsed, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{jose.EdDSA})
	require.NoError(t, err)
	thumb, err := parsed.Signatures[0].Protected.JSONWebKey.Thumbprint(crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, sum[:], thumb)

	again, err := p.proof(purpose{method: "POST", target: target, nonce: "n-0S6_WzA2Mj", at: time.Unix(1562262618, 0)})
	require.NoError(t, err)
	_, claims = openJWT(t, again, public)
	require.NotEqual(t, jti, claims["jti"])
	require.Equal(t, "n-0S6_WzA2Mj", claims["nonce"])
	require.NotContains(t, claims, "ath")
}

func decodedPart(t *testing.T, token string, n int) []byte {
	t.Helper()
	part, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	require.NoError(t, err)
	return part
}
