// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer signs tokens of workloads, as a CI system or a cluster does.
type Issuer struct {
	url string
	key jose.JSONWebKey
}

// NewIssuer returns an issuer with a key pair of its own.
func NewIssuer(url string) *Issuer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("generate an issuer's key: %v", err)) // crypto/rand never fails
	}
	return &Issuer{url: url, key: jose.JSONWebKey{Key: private, KeyID: newAccessToken()[:8], Algorithm: string(jose.ES256), Use: "sig"}}
}

// Keys returns the issuer's public keys.
func (i *Issuer) Keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.Public()}}
}

// Trust returns the trust in this issuer's tokens, of one subject or of all ("").
func (i *Issuer) Trust(subject string) Trust {
	return Trust{Issuer: i.url, Keys: i.Keys(), Subject: subject}
}

// Sign signs claims; iss is the issuer's URL unless the claims have one.
func (i *Issuer) Sign(claims map[string]any) string {
	all := map[string]any{"iss": i.url}
	maps.Copy(all, claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		panic(fmt.Sprintf("prepare to sign as an issuer: %v", err)) // the key is right
	}
	signed, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		panic(fmt.Sprintf("sign as an issuer: %v", err)) // for claims that do not marshal
	}
	return signed
}

// Token signs a good token of a subject, valid for five minutes.
func (i *Issuer) Token(subject, audience string, now time.Time) string {
	return i.Sign(map[string]any{
		"sub": subject, "aud": []string{audience}, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
}
