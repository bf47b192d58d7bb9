// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// UseFederation is the use of the client IDs of federation trusts, which have
	// no secret: an identity provider's token is exchanged for one of C1's.
	UseFederation = "wfe"

	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtTokenType  = "urn:ietf:params:oauth:token-type:jwt"
)

// exchange asks for an identity token and returns the parameters that exchange
// it (RFC 8693, section 2.1). Each request gets a token of its own, since C1 takes
// none that was issued more than 10 minutes ago.
func (s *tokenSource) exchange(ctx context.Context) (url.Values, *failure) {
	token, err := s.identityToken(ctx)
	if err != nil {
		return nil, &failure{err: &Error{
			Reason: ReasonNotSent, Message: "no identity token: " + clean(err.Error(), s.secrets()), Err: err,
		}}
	}
	if err := checkIdentityToken(token); err != nil {
		return nil, &failure{err: &Error{Reason: ReasonNotSent, Message: "no identity token: " + err.Error()}}
	}
	s.subject.Store(&token)
	return url.Values{
		"grant_type":         {exchangeGrant},
		"subject_token":      {token},
		"subject_token_type": {jwtTokenType},
	}, nil
}

// checkIdentityToken refuses what is no token at all, and what must not be sent.
func checkIdentityToken(token string) error {
	switch {
	case !validBearer(token):
		return fmt.Errorf("the one given is empty, longer than %d characters or holds characters that no JWT has", maxSecretLength)
	case findSecret(token) != nothingSecret:
		return errors.New("the one given holds a client secret or a private key, which must not be sent")
	default:
		return nil
	}
}

// signatures are those that an issuer of JWTs can use with keys that it publishes.
var signatures = []jose.SignatureAlgorithm{
	jose.EdDSA, jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
}

// IdentityTokenFits says why C1 will refuse an identity token, as far as that can be known
// without the issuer's key, or why it must not be shown to this tenant: it is meant for
// somebody else. The error repeats none of it, and reads on after what the token is called.
func IdentityTokenFits(token, tenantURL string, now time.Time) error {
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return errors.New("is not a signed JWT")
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return errors.New("is a JWT whose claims cannot be read")
	}
	tenant, err := url.Parse(tenantURL)
	if err != nil {
		return errors.New("is for a tenant whose URL cannot be parsed")
	}
	host := tenant.Hostname()
	switch {
	case !claims.Audience.Contains(host):
		return fmt.Errorf("is not meant for this tenant: its aud does not contain %s", host)
	case claims.Expiry != nil && !now.Before(claims.Expiry.Time()):
		return fmt.Errorf("expired at %s, and nobody has replaced it since", claims.Expiry.Time().UTC().Format(time.RFC3339))
	default:
		return nil
	}
}

// explainExchange says what may be wrong when C1 refuses an identity token: its own
// answer seldom does.
func (s *tokenSource) explainExchange() string {
	return "C1 refused the identity token: is the federation trust for its issuer, does its audience (aud) contain " + s.audience +
		", was it issued within the last 10 minutes (iat), and does it meet the trust's condition?"
}
