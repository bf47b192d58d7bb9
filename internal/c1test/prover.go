// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Prover makes the DPoP proofs of one key.
type Prover struct{ key ed25519.PrivateKey }

// NewProver returns a Prover with a new Ed25519 key.
func NewProver() *Prover {
	_, key, _ := ed25519.GenerateKey(rand.Reader) // crypto/rand never fails since Go 1.24
	return &Prover{key: key}
}

// Thumbprint returns the thumbprint of the key (RFC 7638), which tokens are
// bound to.
func (p *Prover) Thumbprint() string {
	jwk := jose.JSONWebKey{Key: p.key.Public()}
	sum, _ := jwk.Thumbprint(crypto.SHA256) // an Ed25519 key always has one
	return base64.RawURLEncoding.EncodeToString(sum)
}

// Prove returns a proof for one request. The access token and the nonce are ""
// where there is none.
func (p *Prover) Prove(method, target, accessToken, nonce string, now time.Time) (string, error) {
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType(proofType)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: p.key}, options)
	if err != nil {
		return "", fmt.Errorf("prepare to sign the proof: %w", err)
	}
	claims := proofClaims{
		ID: base64.RawURLEncoding.EncodeToString(randomBytes(16)), Method: method, URL: target, IssuedAt: jwt.NewNumericDate(now),
	}
	if accessToken != "" {
		claims.TokenHash = tokenHash(accessToken)
	}
	if nonce != "" {
		claims.Nonce = &nonce
	}
	signed, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign the proof: %w", err)
	}
	return signed, nil
}
