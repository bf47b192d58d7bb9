// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
)

const (
	// useFederation is the use of the client IDs of federation trusts, which have
	// no secret: an identity provider's token is exchanged for one of C1's.
	useFederation = "wfe"

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

// explainExchange says what may be wrong when C1 refuses an identity token: its own
// answer seldom does.
func (s *tokenSource) explainExchange() string {
	return "C1 refused the identity token: is the federation trust for its issuer, does its audience (aud) contain " + s.audience +
		", was it issued within the last 10 minutes (iat), and does it meet the trust's condition?"
}
