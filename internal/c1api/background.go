// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Calls come in two classes. Somebody waits for an interactive call. Nobody
// waits for a background call, of which there may be thousands after an outage:
// it leaves a part of the concurrent requests and of the rate to the others.

// backgroundKey marks a context as that of background calls.
type backgroundKey struct{}

// background is what such a context carries.
type background struct {
	// paid: the next request's share of the rate limit was taken beforehand.
	paid atomic.Bool
}

func backgroundOf(ctx context.Context) *background {
	b, _ := ctx.Value(backgroundKey{}).(*background)
	return b
}

// Background returns a context whose calls give way to all others.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, &background{})
}

// BackgroundRequests is how many of so many concurrent requests background calls
// take at most: three quarters, and at least one.
func BackgroundRequests(maxConcurrent int) int { return max(1, maxConcurrent-maxConcurrent/4) }

// AwaitTurn waits, as long as ctx allows, until the rate limit has room for one
// background request, and returns a context whose next call need not wait for
// it any more. It is for work that should not begin, and whose time should not
// run, before it can be sent. While C1 does not answer or asked this client to
// wait, it fails at once with an *Error that says for how long.
func (c *Client) AwaitTurn(ctx context.Context) (context.Context, error) {
	if c.breaker.gate.State() == gobreaker.StateOpen {
		return nil, c.breaker.refusal()
	}
	if left := c.pause.left(); left > 0 {
		return nil, c.paused(ctx, left)
	}
	ctx = Background(ctx)
	if failed := c.paceBackground(ctx); failed != nil {
		return nil, failed
	}
	backgroundOf(ctx).paid.Store(true)
	return ctx, nil
}

// paceBackground takes one request's share of the rate limit, as soon as there
// is one beyond what is kept for interactive calls. One caller at a time looks,
// so that nobody interactive waits behind more than one of them.
func (c *Client) paceBackground(ctx context.Context) *Error {
	if b := backgroundOf(ctx); b.paid.CompareAndSwap(true, false) {
		return nil
	}
	if c.limiter == nil {
		return nil
	}
	if c.backgroundPace.Acquire(ctx, 1) != nil {
		return noPace(ctx)
	}
	defer c.backgroundPace.Release(1)
	kept := 0.0 // an interactive call waits for at most one token, and never behind another
	if c.limiter.Burst() >= 4 {
		kept = 1
	}
	for {
		now := time.Now()
		lacking := 1 + kept - c.limiter.TokensAt(now)
		if lacking <= 0 && c.limiter.AllowN(now, 1) {
			return nil
		}
		wait := time.Duration(lacking / float64(c.limiter.Limit()) * float64(time.Second))
		if !sleep(ctx, max(wait, time.Millisecond)) {
			return noPace(ctx)
		}
	}
}

func noPace(ctx context.Context) *Error {
	return gaveUp(ctx, "no turn in the time left (the limit on requests per second)")
}
