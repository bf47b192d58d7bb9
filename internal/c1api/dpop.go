// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	dpopScheme      = "DPoP" // of Authorization, the token type and the header of a proof
	dpopNonceHeader = "DPoP-Nonce"
	proofType       = "dpop+jwt"
	maxNonceLength  = 1024
)

// OAuth's error codes that ask for a proof, or for another one (RFC 9449, sections
// 7.1 and 8).
const (
	errorBadProof = "invalid_dpop_proof"
	errorNonce    = "use_dpop_nonce"
)

// server is one of the two that nonces come from. RFC 9449 (section 9) tells not to
// confuse theirs, and C1 refuses a nonce that it did not give.
type server int

const (
	tokenServer server = iota
	apiServer
)

// serverAt is the server that answers for a path of the tenant.
func serverAt(path string) server {
	if path == tokenPath {
		return tokenServer
	}
	return apiServer
}

// prover proves the possession of a key (DPoP, RFC 9449), to which C1 then binds
// the access tokens: who steals one cannot use it. The key is made when it is first
// needed and lives as long as the client.
type prover struct {
	unprintable

	wanted atomic.Bool // token requests carry a proof from the beginning
	signer func() (jose.Signer, error)
	nonces [2]atomic.Pointer[string] // the newest of each server, nil: it gave none
}

func newProver(atOnce bool) *prover {
	p := &prover{signer: sync.OnceValues(newProofSigner)}
	p.wanted.Store(atOnce)
	return p
}

func newProofSigner() (jose.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType(proofType),
	)
}

// purpose is what a proof is for: one request, with an access token or, at the token
// endpoint, without.
type purpose struct {
	unprintable

	method string
	target *url.URL
	token  string    // "" for none
	nonce  string    // "" when the server gave none, since it then takes none
	at     time.Time // on C1's clock
}

// proof signs the proof of one request (RFC 9449, section 4.2).
func (p *prover) proof(of purpose) (string, error) {
	signer, err := p.signer()
	if err != nil {
		return "", errors.New("cannot make a DPoP key")
	}
	return jwt.Signed(signer).Claims(struct {
		ID        string `json:"jti"`
		Method    string `json:"htm"`
		URL       string `json:"htu"`
		IssuedAt  int64  `json:"iat"`
		TokenHash string `json:"ath,omitempty"`
		Nonce     string `json:"nonce,omitempty"`
	}{
		ID:        rand.Text(),
		Method:    of.method,
		URL:       withoutQuery(of.target),
		IssuedAt:  of.at.Unix(),
		TokenHash: tokenHash(of.token),
		Nonce:     of.nonce,
	}).Serialize()
}

// withoutQuery is a proof's htu: the URL of the request as it was sent, without query
// and fragment.
func withoutQuery(u *url.URL) string {
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// tokenHash is a proof's ath, "" without a token.
func tokenHash(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// nonce is what a server wants to see in the next proof, "" for nothing.
func (p *prover) nonce(of server) string {
	if n := p.nonces[of].Load(); n != nil {
		return *n
	}
	return ""
}

// learn takes the nonce that any answer may give for the proofs after it (RFC 9449,
// section 8.2).
func (p *prover) learn(of server, h http.Header) {
	if n := nonceIn(h); n != "" {
		p.nonces[of].Store(&n)
	}
}

// nonceIn is the nonce that an answer gives, "" for none or for one that cannot be
// (RFC 9449, section 8.1).
func nonceIn(h http.Header) string {
	n := h.Get(dpopNonceHeader)
	if len(n) > maxNonceLength || strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		return ""
	}
	return n
}

// proving sends token requests with a proof: x/oauth2 has no place for a header.
type proving struct {
	proof string
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (p proving) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context()) // a RoundTripper must not change its request
	req.Header.Set(dpopScheme, p.proof)
	return p.next.RoundTrip(req)
}
