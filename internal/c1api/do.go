// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// effect is what a call does at C1, which decides when it may be sent again.
type effect int

const (
	// reading changes nothing.
	reading effect = iota
	// repeatable changes something, but twice is the same as once.
	repeatable
	// onceOnly does something new each time it arrives (rotate, create): it is
	// sent again only when nothing was sent, or when C1 said that it did
	// nothing (401, 429, 503 with Retry-After).
	onceOnly
)

// call is one call of the API.
type call struct {
	op     string // for errors and logs
	effect effect
	method string
	path   string    // escaped, from pathOf
	body   []byte    // JSON, nil for none
	hint   string    // said with a 403 or 404
	sendBy time.Time // zero is whenever its turn has come
	nonce  string    // of the proof, as a challenge gave it; "" is the newest that is known
}

// answer is what came of sending a call once.
type answer struct {
	unprintable

	status int
	header http.Header
	body   []byte
	err    error // no answer, or a 2xx that could not be read whole
	sent   bool  // the request may have left this machine
	took   time.Duration
}

// failure is why an attempt failed, and whether another may be made.
type failure struct {
	err   *Error
	again bool
}

// do sends a call, as often as its effect allows, and returns the body of the
// 2xx answer. The error is always an *Error.
func (c *Client) do(ctx context.Context, k call) ([]byte, error) {
	var (
		last            *Error
		attempts        int
		reauthenticated bool
		pacing          = newPacing(ctx)
	)
	if k.effect == onceOnly {
		k.sendBy = c.latest(ctx)
	}
	body, err := backoff.Retry(ctx, func() ([]byte, error) {
		attempts++
		body, failed := c.attempt(ctx, k, attempts, &reauthenticated)
		if failed == nil {
			return body, nil
		}
		last = failed.err
		last.Op = k.op
		pacing.atLeast = last.RetryAfter
		if !failed.again {
			return nil, backoff.Permanent(last)
		}
		return nil, last
	}, backoff.WithBackOff(pacing), backoff.WithMaxTries(c.retries+1), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return nil, last // Retry's own error may be no more than the context's
	}
	return body, nil
}

// latest is until when a call may be sent whose outcome is unknown if its answer
// does not come in time: the last quarter of its time is for the answer alone.
func (c *Client) latest(ctx context.Context) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}
	}
	return deadline.Add(-min(time.Until(deadline), c.timeout) / 4)
}

// attempt waits for a turn and sends the call once, and again after the first 401 of
// the whole call, with a new token, and after the first that asks for a nonce in the
// proof: a 401 says that C1 did nothing, so that even a rotate may follow it.
func (c *Client) attempt(ctx context.Context, k call, n int, reauthenticated *bool) ([]byte, *failure) {
	release, failed := c.turn(ctx)
	if failed != nil {
		return nil, &failure{err: failed}
	}
	defer release()
	challenged := false
	for {
		if failed := c.pace(ctx, k.about()); failed != nil {
			return nil, &failure{err: failed}
		}
		token, failed := c.tokens.get(ctx)
		if failed != nil {
			return nil, failed
		}
		if !k.sendBy.IsZero() && time.Now().After(k.sendBy) {
			return nil, &failure{err: gaveUp(ctx, "waiting for its turn, for C1's pause or for the access token left too little time for an answer")}
		}
		a := c.exchange(ctx, k, token)
		c.log.Debug("request to C1", "op", k.op, "status", a.status, "duration_ms", a.took.Milliseconds(), "attempt", n)
		asks := challengeIn(a.header)
		switch {
		case a.status != http.StatusUnauthorized || token.static:
			return c.judge(ctx, k, a, token)
		case token.bound && asks.nonce != "" && !challenged:
			challenged, k.nonce = true, asks.nonce // others may have used up a newer one by then
			continue
		case *reauthenticated || token.bound && asks.nonce != "":
			return c.judge(ctx, k, a, token)
		}
		if !token.bound && asks.wantsProofs() {
			c.proofs.wanted.Store(true)
		}
		*reauthenticated, k.nonce = true, ""
		c.tokens.drop(token)
	}
}

// exchange sends the call once, under the breaker.
func (c *Client) exchange(ctx context.Context, k call, token *token) (a answer) {
	if err := c.breaker.run(func() error {
		a = c.send(ctx, k, token)
		return c.verdict(ctx, a)
	}); errors.Is(err, errRejected) {
		a.err = err
	}
	return a
}

// verdict tells the breaker what an answer says about C1. A caller whose own
// deadline was too short to blame C1 says nothing.
func (c *Client) verdict(ctx context.Context, a answer) error {
	switch {
	case a.err == nil, errors.Is(a.err, errAnswerTooLong):
		return serverVerdict(a.status, a.header)
	case errors.Is(ctx.Err(), context.Canceled):
		return errNothing
	case ctx.Err() != nil && a.took < c.timeout/2:
		return errNothing
	default:
		return errBroken
	}
}

// serverVerdict is the part of a verdict that is the same at the token endpoint.
// A 501 is about one method, not about C1's health.
func serverVerdict(status int, h http.Header) error {
	if status >= http.StatusInternalServerError && status != http.StatusNotImplemented && !asksToWait(status, h) {
		return errBroken
	}
	return nil
}

// send is one HTTP request and its answer.
func (c *Client) send(ctx context.Context, k call, token *token) (a answer) {
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, operationKey{}, k.op), c.timeout)
	defer cancel()
	var trace sendTrace
	req, err := c.newRequest(trace.attach(ctx), k, token)
	if err != nil {
		return answer{err: err}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{err: err, sent: trace.mayHaveSent(ctx)}
	}
	defer res.Body.Close() //nolint:errcheck // nothing depends on it: the answer has been read
	a = answer{status: res.StatusCode, header: res.Header, sent: true}
	a.body, err = readBounded(res.Body)
	if isSuccess(a.status) {
		a.err = err // any other status says all that matters without its body
	}
	return a
}

// newRequest builds the HTTP request of a call.
func (c *Client) newRequest(ctx context.Context, k call, token *token) (*http.Request, error) {
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, c.base+k.path, body)
	if err != nil {
		return nil, err
	}
	if k.effect != reading {
		req.GetBody = nil // see newTransport
	}
	req.Header.Set("Accept", "application/json")
	if err := c.authorize(req, k, token); err != nil {
		return nil, err
	}
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// authorize puts the token on a request, and the proof that belongs to a bound one.
func (c *Client) authorize(req *http.Request, k call, token *token) error {
	if !token.bound {
		req.Header.Set("Authorization", "Bearer "+token.value)
		return nil
	}
	proof, err := c.proofs.proof(purpose{
		method: req.Method, target: req.URL, token: token.value, at: c.clock.c1Now(),
		nonce: cmp.Or(k.nonce, c.proofs.nonce(apiServer)),
	})
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", dpopScheme+" "+token.value)
	req.Header.Set(dpopScheme, proof)
	return nil
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }
