// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	secretTokenScheme = "secret-token:" // RFC 8959
	secretTokenIssuer = "conductorone.com:"
	secretTokenV1     = "v1:"

	// maxSecretLength is far above what C1 makes (about 200 characters).
	maxSecretLength = 4096
)

// signingKey is the Ed25519 key inside a secret-token: secret.
type signingKey struct {
	private ed25519.PrivateKey
	id      string // the JWK's kid, may be empty
}

// CheckClientSecret says whether New would take the secret, in words that
// never repeat it. A secret-token: secret must be one of C1's version 1 with an
// Ed25519 private key; any other secret only has to be printable.
func CheckClientSecret(secret string) error {
	_, err := parseClientSecret(secret)
	return err
}

// parseClientSecret returns the key of a secret-token: secret, and nil for a
// plain one.
func parseClientSecret(secret string) (*signingKey, error) {
	switch {
	case secret == "":
		return nil, errors.New("the client secret is empty")
	case len(secret) > maxSecretLength:
		return nil, fmt.Errorf("the client secret is longer than %d characters", maxSecretLength)
	case !utf8.ValidString(secret):
		return nil, errors.New("the client secret is not text (invalid UTF-8)")
	case strings.ContainsFunc(secret, unicode.IsControl):
		return nil, errors.New("the client secret holds a control character (a line end at its end?)")
	case strings.TrimSpace(secret) != secret:
		return nil, errors.New("the client secret begins or ends with a space")
	}
	rest, isToken := strings.CutPrefix(secret, secretTokenScheme)
	if !isToken {
		return nil, nil
	}
	rest, ours := strings.CutPrefix(rest, secretTokenIssuer)
	if !ours {
		return nil, errors.New("the client secret is a secret-token: of another issuer than conductorone.com")
	}
	encoded, v1 := strings.CutPrefix(rest, secretTokenV1)
	if !v1 {
		return nil, errors.New("the client secret is a secret-token: of another version than v1, the only one that this plugin knows")
	}
	return parseJWK(encoded)
}

// parseJWK reads the base64url of an Ed25519 private key (RFC 8037).
func parseJWK(encoded string) (*signingKey, error) {
	if encoded == "" {
		return nil, errors.New("the client secret ends after its prefix: the key is missing")
	}
	if strings.Contains(encoded, "=") {
		return nil, errors.New("the client secret's key has base64 padding (=): it must be unpadded base64url")
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("the client secret's key is not base64url: is it complete?")
	}
	var jwk struct {
		Kty string  `json:"kty"`
		Crv string  `json:"crv"`
		X   string  `json:"x"`
		D   *string `json:"d"`
		Kid string  `json:"kid"`
	}
	// The decoder's own error could repeat part of the key.
	if json.Unmarshal(text, &jwk) != nil || jwk.Kty == "" {
		return nil, errors.New("the client secret's key is not a JWK (a JSON object with kty)")
	}
	if jwk.Kty != "OKP" || jwk.Crv != "Ed25519" {
		return nil, errors.New("the client secret's key is not an Ed25519 key (kty OKP, crv Ed25519)")
	}
	if jwk.D == nil || *jwk.D == "" {
		return nil, errors.New("the client secret holds a public key only (no d): a private key is needed")
	}
	seed, err := base64.RawURLEncoding.DecodeString(*jwk.D)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("the client secret's private key (d) is not 32 bytes of base64url")
	}
	public, err := base64.RawURLEncoding.DecodeString(jwk.X)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return nil, errors.New("the client secret's public key (x) is not 32 bytes of base64url")
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !bytes.Equal(private[ed25519.SeedSize:], public) {
		return nil, errors.New("the client secret's public key (x) does not belong to its private key (d)")
	}
	return &signingKey{private: private, id: jwk.Kid}, nil
}
