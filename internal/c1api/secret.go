// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

const (
	secretTokenScheme  = "secret-token:" // RFC 8959
	secretTokenVersion = "v1"
	signingSecretForm  = "it reads secret-token:conductorone.com:v1:<key>"

	// maxSecretLength bounds client secrets and access tokens, those of the
	// config and those that C1 vends. C1 makes about 200 characters.
	maxSecretLength = 16 << 10
)

// CheckClientSecret says whether New would take the secret, in words that never
// repeat it. A signing secret must be exactly as C1 gave it. Anything else is a
// plain secret, which is sent to C1: a text that holds a signing secret in
// another spelling, or the private key of one, is refused.
func CheckClientSecret(secret string) error {
	_, err := parseClientSecret(secret)
	return err
}

// IsSigningSecret reports whether the secret is one of C1's whose Ed25519 key
// signs assertions, so that the secret itself is never sent.
func IsSigningSecret(secret string) bool {
	key, err := parseClientSecret(secret)
	return err == nil && key != nil
}

// CheckAccessToken says whether New would take the access token, in words that
// never repeat it: the characters of a bearer token (RFC 6750), at most 16 KiB,
// and no client secret or private key in it.
func CheckAccessToken(token string) error {
	if !validBearer(token) {
		return fmt.Errorf("the access token is empty, longer than %d characters or holds characters that no bearer token has", maxSecretLength)
	}
	switch findSecret(token) {
	case secretToken:
		return errors.New("the access token is or holds a client secret (secret-token:), which must not be sent: give it as the client secret, with its client ID")
	case privateKey:
		return errors.New("the access token holds a private key, which must not be sent")
	default:
		return nil
	}
}

// parseClientSecret returns the key of a signing secret, and nil for a plain
// one.
func parseClientSecret(secret string) (*jose.JSONWebKey, error) {
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
	case strings.HasPrefix(secret, secretTokenScheme):
		return parseSigningSecret(secret)
	}
	switch findSecret(secret) {
	case secretToken:
		return nil, errors.New("the client secret holds a secret-token: secret, but " + misspelling(secret) +
			": give it exactly as C1 showed it, from secret-token: to its end")
	case privateKey:
		return nil, errors.New("the client secret holds a private key, which must not be sent: give the whole secret, from secret-token: to its end")
	default:
		return nil, nil
	}
}

// misspelling says how a text that holds a secret-token: secret differs from
// one.
func misspelling(secret string) string {
	switch {
	case strings.ContainsFunc(secret, func(r rune) bool { return r != ' ' && !Visible(r) }):
		return "an invisible character is in front of or within it (a byte-order mark?)"
	case strings.ContainsAny(secret, "\"'`‘’“”"):
		return "there are quotes around it"
	case strings.Contains(secret, secretTokenScheme):
		return "there is something in front of it"
	default:
		return "it is encoded or spelled in another way"
	}
}

// validBearer reports whether a token has only the characters of RFC 6750.
func validBearer(value string) bool {
	return value != "" && len(value) <= maxSecretLength &&
		!strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' })
}
