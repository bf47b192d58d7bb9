// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// parseSigningSecret returns the key of a secret-token: secret, judged as C1's own
// clients do: four parts between colons, of which the third is "v1" and the
// fourth the unpadded base64url of a JWK with an Ed25519 private key (RFC 8037).
// An error says what is wrong and never repeats the secret.
func parseSigningSecret(secret string) (*jose.JSONWebKey, error) {
	parts := strings.SplitN(secret, ":", 4)
	switch {
	case len(parts) < 4 || parts[3] == "":
		return nil, errors.New("the client secret is not complete: " + signingSecretForm)
	case parts[2] != secretTokenVersion:
		return nil, errors.New("the client secret is a secret-token: of a version other than v1, the only one that this plugin knows")
	case strings.Contains(parts[3], "="):
		return nil, errors.New("the client secret's key has base64 padding (=): it must be unpadded base64url")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		return nil, errors.New("the client secret's key is not base64url: is it complete?")
	}
	key := &jose.JSONWebKey{}
	if key.UnmarshalJSON(text) != nil { // its error could repeat a part of the key
		return nil, explainJWK(text)
	}
	if _, ok := key.Key.(ed25519.PrivateKey); !ok || !key.Valid() {
		return nil, explainJWK(text)
	}
	return key, nil
}

// explainJWK says why a JWK is not an Ed25519 private key.
func explainJWK(text []byte) error {
	var jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		D   string `json:"d"`
	}
	if json.Unmarshal(text, &jwk) != nil || jwk.Kty == "" {
		return errors.New("the client secret's key is not a JWK (a JSON object with kty)")
	}
	is32Bytes := func(encoded string) bool {
		b, err := base64.RawURLEncoding.DecodeString(encoded)
		return err == nil && len(b) == ed25519.SeedSize
	}
	switch {
	case jwk.Kty != "OKP" || jwk.Crv != "Ed25519":
		return errors.New("the client secret's key is not an Ed25519 key (kty OKP, crv Ed25519)")
	case jwk.D == "":
		return errors.New("the client secret holds a public key only (no d): a private key is needed")
	case !is32Bytes(jwk.D):
		return errors.New("the client secret's private key (d) is not 32 bytes of base64url")
	case !is32Bytes(jwk.X):
		return errors.New("the client secret's public key (x) is not 32 bytes of base64url")
	default:
		return errors.New("the client secret's key is not one to sign with: its public key (x) does not belong to its private key (d), or another of its fields is malformed")
	}
}
