// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// assertionWindow is how far ahead an assertion's exp may lie.
	assertionWindow = 5 * time.Minute
	// expiryLeeway forgives a caller's clock in exp, clockLeeway in iat and nbf.
	expiryLeeway = 5 * time.Second
	clockLeeway  = time.Minute
)

// assertion is a client assertion (RFC 7523) whose signature is still to be
// checked: which key it needs depends on whom the claims name.
//
// C1's clients differ in what they send: the SDKs and connectors put a nonce
// into the protected header, the DPoP client sends none, and nobody sends a
// jti. C1 documents no check of any of them, so none is made, and an
// assertion may come again until it expires.
type assertion struct {
	token  *jwt.JSONWebToken
	claims jwt.Claims
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

// check returns what is wrong with the claims, or "".
func (a *assertion) check(clientID, audience string, now time.Time) string {
	c := a.claims
	switch {
	case c.Issuer != clientID || c.Subject != clientID:
		return "the assertion's iss and sub must be the client_id"
	case !c.Audience.Contains(audience):
		return "the assertion's aud must contain " + audience
	case c.Expiry == nil:
		return "the assertion needs exp"
	case !now.Before(c.Expiry.Time()):
		return "the assertion has expired"
	case c.Expiry.Time().After(now.Add(assertionWindow + expiryLeeway)):
		return "the assertion's exp is too far ahead"
	case c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(clockLeeway)):
		return "the assertion's iat lies in the future"
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
