// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package c1api is a client for the part of C1's API that this project uses.
// It knows nothing of Vault.
//
// Every call returns an [*Error] when it fails, whose Reason tells a definite
// failure from an unknown outcome. A file holds one subject: do.go is the life
// of one call, token.go and mint.go the access token, dpop.go the proofs that go
// with it, connectors.go, decoys.go and own.go the calls, existence.go what proves
// that something is gone.
package c1api

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Options is everything a Client is built from. Printed, it shows no secret.
type Options struct {
	URL          string // tenant, e.g. https://acme.conductor.one; https only
	ClientID     string
	ClientSecret string `json:"-"` // a signing secret signs assertions, a plain one goes in the body
	AccessToken  string `json:"-"` // a static bearer; excludes every other identity

	// IdentityToken returns a JWT of the identity provider that a federation
	// trust (a client ID whose use is wfe) believes. It replaces ClientSecret and
	// is called anew, within RequestTimeout, for each token request. Its errors are
	// shown: they must hold no secret.
	IdentityToken func(ctx context.Context) (string, error)

	DPoP                  bool   // proofs from the first token request on; otherwise once C1 asks for them
	CACertPEM             string // roots in addition to the system's
	CACertOnly            bool   // of the roots, CACertPEM alone is trusted, which must then be there
	RequestTimeout        time.Duration
	MaxRetries            int
	MaxRequestsPerSecond  float64 // 0 = unlimited
	MaxConcurrentRequests int     // 0 = unlimited
	UserAgent             string
	Logger                hclog.Logger
	Observe               func(Exchange)    // told of each request that is over; nil is nobody
	Transport             http.RoundTripper // tests; nil builds one; must run httptrace hooks as http.Transport does
	Now                   func() time.Time  // tests; nil is time.Now
}

// defaultRequestTimeout bounds one request when Options names no bound.
const defaultRequestTimeout = 30 * time.Second

// Client is one identity's access to one tenant; safe for concurrent use.
type Client struct {
	base      string // https://host[:port], no slash at the end
	userAgent string
	timeout   time.Duration
	retries   uint
	log       hclog.Logger

	http    *http.Client
	tokens  *tokenSource
	clock   *clock
	proofs  *prover
	breaker *breaker
	observe func(Exchange)
	turns   *semaphore.Weighted // nil: unlimited
	limiter *rate.Limiter
	pause   pause

	callersTurns    *semaphore.Weighted // as many as turns: so many interactive calls may stand in line for one
	backgroundTurns *semaphore.Weighted // the part of turns that background calls may take
	line            *semaphore.Weighted // who waits for the limiter's next token: one interactive call, one background call
	callersPace     *semaphore.Weighted // of the interactive calls, the one that may stand in line
	backgroundPace  *semaphore.Weighted // of the background calls, the one that looks at the limiter
	callersInLine   atomic.Int64        // interactive calls that wait for the limiter

	lastAnswer atomic.Pointer[lastAnswer]
}

// lastAnswer is the newest answer below 500.
type lastAnswer struct {
	at      time.Time
	latency time.Duration
}

// Health is what a Client knows about its connection.
type Health struct {
	TokenExpiresAt time.Time     // zero: no token yet, or a static one
	LastSuccess    time.Time     // last answer below 500
	LastLatency    time.Duration // of that answer, to its headers
	Breaker        string        // closed, half-open, open
	ClockOffset    time.Duration // C1's clock minus ours, as learned from Date; 0 when they agree
	TokenMints     int64         // tokens that C1 issued to this client
	DPoP           bool          // access tokens are bound to a key of this client (RFC 9449)
}

// New checks the options and returns a client; it sends nothing. An error
// names the option and never repeats a secret.
func New(o Options) (*Client, error) {
	s, err := o.check()
	if err != nil {
		return nil, err
	}
	c := &Client{
		base:      "https://" + s.tenant.Host,
		userAgent: o.UserAgent,
		timeout:   s.timeout,
		retries:   uint(max(o.MaxRetries, 0)),
		log:       s.log,
		clock:     &clock{now: s.now},
		proofs:    newProver(o.DPoP),
		breaker:   newBreaker(),
		observe:   o.Observe,
		limiter:   newLimiter(o.MaxRequestsPerSecond),

		line:           semaphore.NewWeighted(1),
		callersPace:    semaphore.NewWeighted(1),
		backgroundPace: semaphore.NewWeighted(1),
	}
	if n := int64(o.MaxConcurrentRequests); n > 0 {
		c.turns, c.callersTurns = semaphore.NewWeighted(n), semaphore.NewWeighted(n)
		c.backgroundTurns = semaphore.NewWeighted(int64(BackgroundRequests(o.MaxConcurrentRequests)))
	}
	transport := o.Transport
	if transport == nil {
		transport = newTransport(s.roots)
	}
	c.http = &http.Client{
		Transport: &observer{client: c, next: transport},
		// A redirect is an answer like any other, and none that we follow: it
		// would carry the bearer or a rotate elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.tokens = newTokenSource(c, o, s)
	return c, nil
}

// Close ends idle connections. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Health reports what the client has seen so far, without sending anything.
func (c *Client) Health() Health {
	h := Health{
		TokenExpiresAt: c.tokens.expiresAt(),
		Breaker:        c.breaker.state(),
		ClockOffset:    c.clock.offset(),
		TokenMints:     c.tokens.mints.Load(),
		DPoP:           c.tokens.bound(),
	}
	if last := c.lastAnswer.Load(); last != nil {
		h.LastSuccess, h.LastLatency = last.at, last.latency
	}
	return h
}
