// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"
)

const (
	tokenPath = "/auth/v1/token"

	// Tokens of 10 minutes to one hour have been seen. One that claims more is
	// taken for an hour, one that claims nothing or less for a minute: a token
	// that ends sooner is found out by its 401.
	longestTokenLife = time.Hour
	assumedTokenLife = time.Minute
)

// token is one access token. It is never changed once made.
type token struct {
	value   string
	expires time.Time
	renew   time.Time // from then on a new one is asked for
	static  bool      // configured, not minted
}

// tokenSource holds the one access token that all callers share.
//
// x/oauth2's own reusing source mints under a mutex that nobody can leave; here
// one flight mints on a context of its own and each caller waits on his own.
type tokenSource struct {
	client   *Client
	clientID string
	secret   string
	key      *jose.JSONWebKey // nil: the secret goes in the body, or there is none
	audience string           // the token endpoint's host, without port

	identityToken func(context.Context) (string, error) // of a federation trust only
	subject       atomic.Pointer[string]                // the newest identity token

	current atomic.Pointer[token]
	flight  singleflight.Group
	mints   atomic.Int64
}

func newTokenSource(c *Client, o Options, s *settings) *tokenSource {
	t := &tokenSource{
		client: c, clientID: o.ClientID, secret: o.ClientSecret,
		key: s.key, audience: s.tenant.Hostname(), identityToken: o.IdentityToken,
	}
	if o.AccessToken != "" {
		t.current.Store(&token{value: o.AccessToken, static: true})
	}
	return t
}

// minted is what one flight brings back.
type minted struct {
	token  *token
	failed *failure
}

// get returns a token that is good for some time yet, minting one if need be.
func (s *tokenSource) get(ctx context.Context) (*token, *failure) {
	if t := s.usable(); t != nil {
		return t, nil
	}
	flight := s.flight.DoChan("mint", func() (any, error) { return s.renew(), nil })
	select {
	case r := <-flight:
		m := r.Val.(minted)
		if m.failed != nil {
			mine := *m.failed.err // each caller writes his own op into it
			return nil, &failure{err: &mine, again: m.failed.again}
		}
		return m.token, nil
	case <-ctx.Done():
		return nil, &failure{err: gaveUp(ctx, "gave up waiting for an access token")}
	}
}

// renew is one flight. A caller may have looked for a token just before the
// flight that brought it landed, and then start another: that one mints nothing.
func (s *tokenSource) renew() minted {
	if t := s.usable(); t != nil {
		return minted{token: t}
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.client.timeout)
	defer cancel()
	return s.mint(ctx)
}

// usable is the current token unless it is about to end.
func (s *tokenSource) usable() *token {
	t := s.current.Load()
	if t != nil && (t.static || s.client.clock.now().Before(t.renew)) {
		return t
	}
	return nil
}

// drop forgets a token that C1 refused, and no newer one.
func (s *tokenSource) drop(refused *token) { s.current.CompareAndSwap(refused, nil) }

func (s *tokenSource) expiresAt() time.Time {
	if t := s.current.Load(); t != nil {
		return t.expires
	}
	return time.Time{}
}

func (s *tokenSource) secrets() []string {
	known := []string{s.secret}
	if s.key != nil {
		known = append(known, s.secret[strings.LastIndexByte(s.secret, ':')+1:])
	}
	if t := s.current.Load(); t != nil {
		known = append(known, t.value)
	}
	if subject := s.subject.Load(); subject != nil {
		known = append(known, *subject)
	}
	return known
}

// mint asks the token endpoint once, or twice when it refused an assertion
// that the clock had spoiled: its answer then carries the right time.
func (s *tokenSource) mint(ctx context.Context) minted {
	clock := s.client.clock
	used := clock.offset()
	m := s.request(ctx, used)
	if s.key == nil || m.failed == nil || m.failed.err.Reason != ReasonIdentity {
		return m
	}
	if now := clock.offset(); (now - used).Abs() > skewMatters {
		if m = s.request(ctx, now); m.failed == nil || m.failed.err.Reason != ReasonIdentity {
			return m
		}
	}
	m.failed.err.Message = join(m.failed.err.Message, clock.skew())
	return m
}

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
func (s *tokenSource) request(ctx context.Context, offset time.Duration) minted {
	c := s.client
	secret, params, failed := s.grant(ctx, offset)
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
		answer, err = config.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
		return tokenVerdict(err)
	}); errors.Is(rejected, errRejected) {
		return minted{failed: &failure{err: c.breaker.refusal()}}
	}
	c.log.Debug("token request to C1", "ok", err == nil, "duration_ms", time.Since(began).Milliseconds())
	if err != nil {
		return minted{failed: s.refused(err)}
	}
	return s.accept(answer, start, time.Until(answer.Expiry))
}

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

// accept checks a token answer and makes it the current token.
func (s *tokenSource) accept(answer *oauth2.Token, start time.Time, life time.Duration) minted {
	if !strings.EqualFold(answer.Type(), "Bearer") {
		return minted{failed: refusal(proofNeeded)}
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
	}
	s.current.Store(t)
	s.mints.Add(1)
	return minted{token: t}
}

// proofNeeded is said when C1 wants DPoP proofs (RFC 9449), which this client
// does not make.
const proofNeeded = "this credential needs DPoP, which is not supported: create one without \"Require DPoP\""

func refusal(message string) *failure {
	return &failure{err: &Error{Reason: ReasonIdentity, Message: message}}
}

// refused turns x/oauth2's errors into ours. They are rebuilt and never
// wrapped: a RetrieveError prints the whole body.
func (s *tokenSource) refused(err error) *failure {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		message := "the answer of the token endpoint is no token answer"
		var network *url.Error
		if errors.As(err, &network) {
			message = describe(err, s.client.timeout)
		}
		return &failure{err: &Error{Reason: ReasonNotSent, Message: "no access token: " + message}, again: true}
	}
	status := refused.Response.StatusCode
	e := s.client.errorFrom(status, refused.Response.Header, refused.Body, s.secrets())
	code, description := oauthError(refused)
	if e.Message == "" {
		e.Message = join(clean(code, s.secrets()), clean(description, s.secrets()))
	}
	f := &failure{err: e}
	switch {
	case strings.Contains(strings.ToLower(code+e.Message), "dpop"):
		e.Reason, e.Message = ReasonIdentity, proofNeeded
		return f
	case status == http.StatusTooManyRequests:
		e.Reason, f.again = ReasonRateLimited, true
		s.client.pause.extend(wholeIdentity, e.RetryAfter)
	case asksToWait(status, refused.Response.Header):
		e.Reason, f.again = ReasonUnavailable, true
		s.client.pause.extend(wholeIdentity, e.RetryAfter)
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
	what := "no access token"
	switch {
	case e.Reason == ReasonIdentity && s.identityToken != nil:
		what = s.explainExchange()
	case e.Reason == ReasonIdentity:
		what = "C1 refused the client ID or its secret"
	}
	e.Message = join(what, e.Message)
	return f
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
