// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	// C1 takes at most five minutes; its own SDKs ask for two. The way back
	// covers a clock that is somewhat ahead.
	assertionLifetime = 2 * time.Minute
	assertionLeeway   = 2 * time.Minute

	nonceBytes = 16
)

// signAssertion signs the JWT by which a client proves its identity at the
// token endpoint (RFC 7523), in the form of C1's own SDKs: the nonce stands in
// the protected header, and there are no claims beyond these six. The audience
// is the token endpoint's own host, never the one in the client ID: an
// assertion is worth nothing at another host.
func signAssertion(key *jose.JSONWebKey, clientID, audience string, now time.Time) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		&jose.SignerOptions{NonceSource: randomNonce{}},
	)
	if err != nil {
		return "", fmt.Errorf("cannot sign an assertion: %w", err)
	}
	return jwt.Signed(signer).Claims(struct {
		jwt.Claims

		Audience []string `json:"aud"` // jwt.Audience writes a single one as a string
	}{
		Claims: jwt.Claims{
			Issuer:    clientID,
			Subject:   clientID,
			Expiry:    jwt.NewNumericDate(now.Add(assertionLifetime)),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now.Add(-assertionLeeway)),
		},
		Audience: []string{audience},
	}).Serialize()
}

// randomNonce makes the nonces of C1's SDKs: 16 random bytes in hex.
type randomNonce struct{}

// Nonce implements jose.NonceSource.
func (randomNonce) Nonce() (string, error) {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails
	return hex.EncodeToString(nonce), nil
}
