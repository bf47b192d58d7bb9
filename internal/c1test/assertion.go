// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// assertionWindow is the longest that an assertion may be valid, and the
	// oldest that its iat may be.
	assertionWindow = 5 * time.Minute
	// clockLeeway forgives a caller's clock that is this far ahead.
	clockLeeway = 5 * time.Second
)

// assertion is a client assertion (RFC 7523) whose signature is still to be
// checked: which key it needs depends on whom the claims name.
type assertion struct {
	token  *jwt.JSONWebToken
	claims struct {
		jwt.Claims
		Nonce string `json:"nonce"`
	}
}

// parseAssertion returns the assertion, or what is wrong with it.
func parseAssertion(serialized string) (*assertion, string) {
	token, err := jwt.ParseSigned(serialized, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, "the assertion is not a JWT signed with EdDSA"
	}
	a := &assertion{token: token}
	if err := token.UnsafeClaimsWithoutVerification(&a.claims); err != nil {
		return nil, "the assertion's claims cannot be read"
	}
	return a, ""
}

func (a *assertion) nonce() string { return a.claims.ID + "/" + a.claims.Nonce }

// check returns what is wrong with the claims, or "".
func (a *assertion) check(clientID, audience string, now time.Time) string {
	c := a.claims
	switch {
	case c.Issuer != clientID || c.Subject != clientID:
		return "the assertion's iss and sub must be the client_id"
	case len(c.Audience) != 1 || c.Audience[0] != audience:
		return "the assertion's aud must be " + audience
	case c.ID == "" && c.Nonce == "":
		return "the assertion has neither jti nor nonce"
	case c.Expiry == nil || c.IssuedAt == nil:
		return "the assertion needs exp and iat"
	case !now.Before(c.Expiry.Time()):
		return "the assertion has expired"
	case c.Expiry.Time().After(now.Add(assertionWindow + clockLeeway)):
		return "the assertion's exp is too far ahead"
	case c.IssuedAt.Time().After(now.Add(clockLeeway)):
		return "the assertion's iat lies in the future"
	case c.IssuedAt.Time().Before(now.Add(-assertionWindow)):
		return "the assertion's iat is too old"
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(clockLeeway)):
		return "the assertion is not valid yet"
	default:
		return ""
	}
}

// by reports whether this secret's key signed the assertion.
func (a *assertion) by(s secret) bool {
	return s.key != nil && a.token.Claims(s.key) == nil
}
