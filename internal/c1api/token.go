// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

// token is one access token. It is never changed once made.
type token struct {
	unprintable

	value   string
	expires time.Time
	renew   time.Time // from then on a new one is asked for
	static  bool      // configured, not minted
	bound   bool      // to the client's key: each use takes a proof
}

// tokenSource holds the one access token that all callers share.
//
// x/oauth2's own reusing source mints under a mutex that nobody can leave; here
// one flight mints on a context of its own and each caller waits on his own.
type tokenSource struct {
	unprintable

	client   *Client
	clientID string
	secret   string
	key      *jose.JSONWebKey // nil: the secret goes in the body, or there is none
	host     string           // the token endpoint's
	audience string           // the same without port

	identityToken func(context.Context) (string, error) // of a federation trust only
	subject       atomic.Pointer[string]                // the newest identity token

	current atomic.Pointer[token]
	flight  singleflight.Group
	mints   atomic.Int64
}

func newTokenSource(c *Client, o Options, s *settings) *tokenSource {
	t := &tokenSource{
		client: c, clientID: o.ClientID, secret: o.ClientSecret,
		key: s.key, host: s.tenant.Host, audience: s.tenant.Hostname(), identityToken: o.IdentityToken,
	}
	if o.AccessToken != "" {
		t.current.Store(&token{value: o.AccessToken, static: true})
	}
	return t
}

// minted is what one flight brings back.
type minted struct {
	unprintable

	token  *token
	failed *failure
	asks   challenge // what the refusal says about DPoP
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

// bound reports whether the token in use, or the next one, is bound to a key.
func (s *tokenSource) bound() bool {
	if t := s.current.Load(); t != nil {
		return t.bound
	}
	return s.client.proofs.wanted.Load()
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
