// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	tokenPath = "/auth/v1/token"

	// Tokens of 10 minutes to one hour have been seen. One that claims more is
	// taken for an hour, one that claims nothing or less for a minute: a token
	// that ends sooner is found out by its 401.
	longestTokenLife = time.Hour
	assumedTokenLife = time.Minute
)

// manner is how a token request is made, which its refusal may change.
type manner struct {
	offset time.Duration // C1's clock minus ours
	prove  bool          // with a DPoP proof
	nonce  string        // in the proof

	redated, challenged bool // because C1 refused a request for its date, or its nonce
}

// mint asks the token endpoint once, and again for each reason that can be healed:
// that C1 wants a proof, or a nonce in it, or that the clock had spoiled a date, the
// right one of which stands in the refusal.
func (s *tokenSource) mint(ctx context.Context) minted {
	clock, proofs := s.client.clock, s.client.proofs
	how := manner{offset: clock.offset(), prove: proofs.wanted.Load(), nonce: proofs.nonce(tokenServer)}
	for {
		m := s.request(ctx, how)
		if m.failed == nil || m.failed.err.Reason != ReasonIdentity {
			return m
		}
		if !s.heals(&how, m.asks) {
			if s.dates(how) {
				m.failed.err.Message = join(m.failed.err.Message, clock.skew())
			}
			return m
		}
	}
}

// heals changes how the next token request is made after a refusal, each way once,
// and reports whether there is one to make.
func (s *tokenSource) heals(how *manner, asks challenge) bool {
	now := s.client.clock.offset()
	switch {
	case asks.offered && !how.prove:
		how.prove, how.nonce = true, cmp.Or(asks.nonce, s.client.proofs.nonce(tokenServer))
	case asks.nonce != "" && !how.challenged:
		how.challenged, how.nonce = true, asks.nonce
	case s.dates(*how) && (now-how.offset).Abs() > skewMatters && !how.redated:
		how.redated, how.nonce = true, s.client.proofs.nonce(tokenServer)
	default:
		return false
	}
	how.offset = now
	return true
}

// dates reports whether a token request carries a date of ours. An identity token's
// is that of its issuer.
func (s *tokenSource) dates(how manner) bool { return s.key != nil || how.prove }

// grant is what a token request proves the identity by: the client secret itself,
// or the parameters of an assertion dated by our clock plus offset (RFC 7523), or
// those of a token exchange (RFC 8693).
func (s *tokenSource) grant(ctx context.Context, offset time.Duration) (secret string, params url.Values, failed *failure) {
	switch {
	case s.identityToken != nil:
		params, failed = s.exchange(ctx)
		return "", params, failed
	case s.key == nil:
		return s.secret, nil, nil
	}
	assertion, err := signAssertion(s.key, s.clientID, s.audience, s.client.clock.now().Add(offset))
	if err != nil {
		return "", nil, &failure{err: &Error{Reason: ReasonNotSent, Message: "cannot sign the client assertion"}}
	}
	return "", url.Values{
		"client_assertion_type": {assertionType},
		"client_assertion":      {assertion},
	}, nil
}

// request is one token request: POST /auth/v1/token, RFC 6749 section 4.4, whose
// grant type a token exchange replaces.
func (s *tokenSource) request(ctx context.Context, how manner) minted {
	c := s.client
	secret, params, failed := s.grant(ctx, how.offset)
	if failed != nil {
		return minted{failed: failed}
	}
	client, failed := s.sender(how)
	if failed != nil {
		return minted{failed: failed}
	}
	config := clientcredentials.Config{
		ClientID:       s.clientID,
		ClientSecret:   secret,
		TokenURL:       c.base + tokenPath,
		AuthStyle:      oauth2.AuthStyleInParams, // C1 takes credentials in the body only
		EndpointParams: params,
	}
	start := c.clock.now()
	var answer *oauth2.Token
	var err error
	began := time.Now()
	if rejected := c.breaker.run(func() error {
		answer, err = config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		return tokenVerdict(err)
	}); errors.Is(rejected, errRejected) {
		return minted{failed: &failure{err: c.breaker.refusal()}}
	}
	c.log.Debug("token request to C1", "ok", err == nil, "duration_ms", time.Since(began).Milliseconds())
	if err != nil {
		return s.refused(err, how)
	}
	return s.accept(answer, how, start, time.Until(answer.Expiry))
}

// sender sends one token request, with a proof if there is to be one.
func (s *tokenSource) sender(how manner) (*http.Client, *failure) {
	c := s.client
	if !how.prove {
		return c.http, nil
	}
	target := &url.URL{Scheme: "https", Host: s.host, Path: tokenPath}
	proof, err := c.proofs.proof(purpose{method: http.MethodPost, target: target, nonce: how.nonce, at: c.clock.now().Add(how.offset)})
	if err != nil {
		return nil, &failure{err: &Error{Reason: ReasonNotSent, Message: "cannot sign the DPoP proof"}}
	}
	sender := *c.http
	sender.Transport = proving{proof: proof, next: c.http.Transport}
	return &sender, nil
}

// accept checks a token answer and makes it the current token. One that C1 did not
// bind although it got a proof is an ordinary bearer (RFC 9449, section 5).
func (s *tokenSource) accept(answer *oauth2.Token, how manner, start time.Time, life time.Duration) minted {
	bound := strings.EqualFold(answer.TokenType, dpopScheme)
	switch {
	case bound && !how.prove:
		return minted{failed: refusal("C1 issued an access token that is bound to a key (DPoP), though no proof of one was sent: whose token is it?")}
	case !bound && !strings.EqualFold(answer.Type(), "Bearer"):
		return minted{failed: refusal("C1 issued an access token that is neither Bearer nor DPoP")}
	}
	if !validBearer(answer.AccessToken) {
		return minted{failed: refusal("the token endpoint's access token is not one that a header can carry")}
	}
	if life <= 0 {
		life = assumedTokenLife
	}
	life = min(life, longestTokenLife)
	t := &token{
		value:   answer.AccessToken,
		expires: start.Add(life),
		renew:   start.Add(life - min(time.Minute, life/10)),
		bound:   bound,
	}
	if how.prove {
		s.client.proofs.wanted.Store(true) // C1 asked for proofs, and this one was good
	}
	s.current.Store(t)
	s.mints.Add(1)
	return minted{token: t}
}
