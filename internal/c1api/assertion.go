// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/rand"
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
)

// assertion signs the JWT by which a client proves its identity at the token
// endpoint (RFC 7523). The audience is the token endpoint's own host, never
// the one in the client ID: an assertion is worth nothing at another host.
func (k *signingKey) assertion(clientID, audience string, now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.EdDSA,
		Key:       jose.JSONWebKey{Key: k.private, KeyID: k.id},
	}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("cannot sign an assertion: %w", err)
	}
	return jwt.Signed(signer).Claims(struct {
		jwt.Claims

		Nonce string `json:"nonce"`
	}{
		Claims: jwt.Claims{
			Issuer:    clientID,
			Subject:   clientID,
			Audience:  jwt.Audience{audience},
			Expiry:    jwt.NewNumericDate(now.Add(assertionLifetime)),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now.Add(-assertionLeeway)),
			ID:        rand.Text(),
		},
		Nonce: rand.Text(),
	}).Serialize()
}
