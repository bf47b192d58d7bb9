// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// tokenVerdict tells the breaker what a token request says about C1.
func tokenVerdict(err error) error {
	var refused *oauth2.RetrieveError
	var network *url.Error
	switch {
	case errors.As(err, &refused):
		return serverVerdict(refused.Response.StatusCode, refused.Response.Header)
	case errors.As(err, &network):
		return errBroken
	default:
		return nil
	}
}

func refusal(message string) *failure {
	return &failure{err: &Error{Reason: ReasonIdentity, Message: message}}
}

// refused turns x/oauth2's errors into ours. They are rebuilt and never
// wrapped: a RetrieveError prints the whole body.
func (s *tokenSource) refused(err error, how manner) minted {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		message := "the token endpoint's answer is not a token answer"
		var network *url.Error
		if errors.As(err, &network) {
			message = describe(err, s.client.timeout)
		}
		return minted{failed: &failure{err: &Error{Reason: ReasonNotSent, Message: "no access token: " + message}, again: true}}
	}
	status := refused.Response.StatusCode
	e := s.client.errorFrom(status, refused.Response.Header, refused.Body, s.secrets())
	code, description := oauthError(refused)
	if e.Message == "" {
		e.Message = join(clean(code, s.secrets()), clean(description, s.secrets()))
	}
	f := &failure{err: e}
	var asks challenge
	switch {
	case status == http.StatusTooManyRequests:
		e.Reason, f.again = ReasonRateLimited, true
		s.client.pause.extend(wholeIdentity, e.RetryAfter)
	case asksToWait(status, refused.Response.Header):
		e.Reason, f.again = ReasonUnavailable, true
		s.client.pause.extend(wholeIdentity, e.RetryAfter)
	case strings.Contains(strings.ToLower(code+e.Message), "dpop"):
		e.Reason, asks.offered, asks.code = ReasonIdentity, true, code
	case status == http.StatusNotFound:
		e.Reason = ReasonNotSent
		e.Message = join(e.Message, fmt.Sprintf("is %s a C1 tenant?", s.client.base))
	case status >= 300 && status <= 399:
		e.Reason = ReasonNotSent
		e.Message = "a redirect, which is not followed: does the URL name a C1 tenant?"
	case status < 500 && status != http.StatusRequestTimeout:
		e.Reason = ReasonIdentity
	default:
		e.Reason, f.again = ReasonNotSent, status != http.StatusNotImplemented
	}
	if code == errorNonce {
		asks.nonce = nonceIn(refused.Response.Header)
	}
	e.Message = join(s.whatFailed(e.Reason, asks, how), e.Message)
	return minted{failed: f, asks: asks}
}

// whatFailed says in our own words what a refused token request was refused for.
func (s *tokenSource) whatFailed(reason Reason, asks challenge, how manner) string {
	switch {
	case reason != ReasonIdentity:
		return "no access token"
	case asks.offered && how.prove:
		return "C1 refused the DPoP proof"
	case asks.offered:
		return "C1 wants DPoP proofs"
	case s.identityToken != nil:
		return s.explainExchange()
	default:
		return "C1 refused the client ID or its secret"
	}
}

// oauthError reads OAuth's form {"error": "...", "error_description": "..."}
// (RFC 6749, 5.2), whatever the Content-Type says of it.
func oauthError(refused *oauth2.RetrieveError) (code, description string) {
	if refused.ErrorCode != "" {
		return refused.ErrorCode, refused.ErrorDescription
	}
	form, ok := parseObject(refused.Body)
	if !ok {
		return "", ""
	}
	code, _ = form.str("error")
	description, _ = form.str("error_description")
	return code, description
}
