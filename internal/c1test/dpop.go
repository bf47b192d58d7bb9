// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	proofHeader = "DPoP"
	proofType   = "dpop+jwt"
	schemeDPoP  = "DPoP"
)

// proof is a DPoP proof (RFC 9449, 4.2) that its own key signed.
type proof struct {
	claims     proofClaims
	thumbprint string // of the key (RFC 7638)
}

type proofClaims struct {
	ID        string           `json:"jti"`
	Method    string           `json:"htm"`
	URL       string           `json:"htu"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	TokenHash string           `json:"ath,omitempty"`
	Nonce     *string          `json:"nonce,omitempty"`
}

// parseProof returns the proof, or what is wrong with it.
func parseProof(serialized string) (*proof, string) {
	token, err := jwt.ParseSigned(serialized, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	switch {
	case err != nil && strings.Contains(strings.ToLower(err.Error()), "jwk"): // go-jose takes no private one
		return nil, "the proof's jwk must be a public key"
	case err != nil:
		return nil, "the proof is not a JWT signed with EdDSA or ES256"
	}
	header := token.Headers[0]
	if header.ExtraHeaders[jose.HeaderType] != proofType {
		return nil, "the proof's typ must be " + proofType
	}
	if header.JSONWebKey == nil {
		return nil, "the proof's header needs jwk"
	}
	p := &proof{}
	if err := token.Claims(header.JSONWebKey.Key, &p.claims); err != nil {
		return nil, "the proof's signature or claims are wrong"
	}
	sum, err := header.JSONWebKey.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "the proof's jwk has no thumbprint"
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p, ""
}

// check returns what is wrong with the claims for a request with this access
// token ("" = none), or "". Nonce and jti are not its business.
func (p *proof) check(method, target, accessToken string, now time.Time, window time.Duration) string {
	c := p.claims
	switch {
	case c.ID == "":
		return "the proof needs jti"
	case c.IssuedAt == nil:
		return "the proof needs iat"
	case c.IssuedAt.Time().Before(now.Add(-window)):
		return "the proof's iat is too old"
	case c.IssuedAt.Time().After(now.Add(window)):
		return "the proof's iat lies in the future"
	case c.Method != method:
		return "the proof's htm is not the request's method"
	case !sameTarget(c.URL, target):
		return "the proof's htu is not the request's URL"
	case accessToken != "" && c.TokenHash != tokenHash(accessToken):
		return "the proof's ath is not the access token's hash"
	default:
		return ""
	}
}

// tokenHash is the ath of an access token.
func tokenHash(accessToken string) string {
	sum := sha256.Sum256([]byte(accessToken))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sameTarget compares two URLs without query and fragment, as RFC 9449, 4.3 says:
// normalised by scheme.
func sameTarget(a, b string) bool {
	one, two := target(a), target(b)
	return one != "" && one == two
}

func target(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme { // url.Parse makes it lower case
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host + u.EscapedPath()
}

// badProof is why a proof is refused.
type badProof struct {
	code        string // OAuth error code
	description string
	nonce       string // to try again with
}

// onToken is the refusal by the token endpoint (RFC 9449, 5 and 8).
func (b *badProof) onToken() answer {
	a := oauthFail(http.StatusBadRequest, b.code, b.description)
	if b.nonce != "" {
		a.header[nonceHeader] = b.nonce
	}
	return a
}

// onAPI is the refusal by the API (RFC 9449, 7.1 and 9).
func (b *badProof) onAPI() answer {
	a := fail(http.StatusUnauthorized, codeUnauthenticated, "%s: %s", b.code, b.description)
	a.header = map[string]string{
		"WWW-Authenticate": `DPoP error="` + b.code + `", error_description="` + b.description + `", algs="EdDSA ES256"`,
	}
	if b.nonce != "" {
		a.header[nonceHeader] = b.nonce
	}
	return a
}

func invalidProof(problem string) *badProof {
	return &badProof{code: "invalid_dpop_proof", description: problem}
}

// proofOf returns the request's proof, nil when it has none, or why it is
// refused; t.mu is held. A proof that is refused for its nonce alone counts as
// used.
func (t *Tenant) proofOf(rq *request, at proofPlace, accessToken string) (*proof, *badProof) {
	sent := rq.Header.Values(proofHeader)
	switch len(sent) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, invalidProof("there must be one DPoP header")
	}
	p, problem := parseProof(sent[0])
	if problem == "" {
		problem = p.check(rq.Method, t.URL()+rq.URL.EscapedPath(), accessToken, rq.now, t.dpop.window)
	}
	if problem == "" && t.dpop.replayed(p.claims.ID, rq.now) {
		problem = "the proof's jti was used before"
	}
	if problem != "" {
		return nil, invalidProof(problem)
	}
	if refusal := t.dpop.checkNonce(at, p.claims.Nonce); refusal != nil {
		return nil, refusal
	}
	return p, nil
}
