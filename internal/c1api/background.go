// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// Calls come in two classes. Somebody waits for an interactive call. Nobody
// waits for a background call, of which there may be thousands after an outage:
// it leaves a part of the concurrent requests and of the rate to the others, and
// takes what they do not want. But it does not wait for ever. A background call
// whose patience is over stands in line like anybody, and the line has room for
// one of each class (see pace), so that it is next but one.
//
// So the longest time that interactive calls can keep the next background call
// from the rate limit is its patience and the time of two requests:
//
//	max(patience, 2/r) + 2/r seconds at r requests per second
//
// The later the work, the less the patience, down to the time of two requests. By
// then background calls have at least a quarter of the rate.

const (
	// mostPatience is how long a background call leaves the rate limit to others
	// while its work is hardly late.
	mostPatience = 2 * time.Second
	// noPatienceAt is how late the work must be for the shortest patience.
	noPatienceAt = time.Minute
)

// backgroundKey marks a context as that of background calls.
type backgroundKey struct{}

// background is what such a context carries.
type background struct {
	late time.Duration
	// paid: the next request's share of the rate limit was taken beforehand.
	paid atomic.Bool
}

func backgroundOf(ctx context.Context) *background {
	b, _ := ctx.Value(backgroundKey{}).(*background)
	return b
}

// patience is how long a call leaves the rate limit to others.
func (b *background) patience(limit rate.Limit) time.Duration {
	left := 1 - float64(min(max(b.late, 0), noPatienceAt))/float64(noPatienceAt)
	return max(time.Duration(left*float64(mostPatience)), time.Duration(2/float64(limit)*float64(time.Second)))
}

// Background returns a context whose calls give way to all others, the less so
// the later what they do is.
func Background(ctx context.Context, late time.Duration) context.Context {
	return context.WithValue(ctx, backgroundKey{}, &background{late: late})
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
	if left := c.pause.left(wholeIdentity); left > 0 {
		return nil, c.paused(ctx, left)
	}
	late := time.Duration(0)
	if b := backgroundOf(ctx); b != nil {
		late = b.late
	}
	ctx = Background(ctx, late)
	if failed := c.paceBackground(ctx); failed != nil {
		return nil, failed
	}
	backgroundOf(ctx).paid.Store(true)
	return ctx, nil
}

// paceBackground takes one request's share of the rate limit: one beyond what is
// kept for interactive calls, or, when its patience is over, the next one that it
// can get. One call at a time looks.
func (c *Client) paceBackground(ctx context.Context) *Error {
	b := backgroundOf(ctx)
	if b.paid.CompareAndSwap(true, false) || c.limiter == nil {
		return nil
	}
	if c.backgroundPace.Acquire(ctx, 1) != nil {
		return noPace(ctx)
	}
	defer c.backgroundPace.Release(1)
	kept := 0.0 // an interactive call waits for at most one token
	if c.limiter.Burst() >= 4 {
		kept = 1
	}
	limit := c.limiter.Limit()
	for end := time.Now().Add(b.patience(limit)); ; {
		now := time.Now()
		lacking := 1 + kept - c.limiter.TokensAt(now)
		if lacking <= 0 && c.limiter.AllowN(now, 1) {
			return nil
		}
		left := end.Sub(now)
		if left <= 0 {
			return c.paceInLine(ctx)
		}
		wait := time.Duration(lacking / float64(limit) * float64(time.Second))
		if !sleep(ctx, min(max(wait, time.Millisecond), left)) {
			return noPace(ctx)
		}
	}
}

// paceInteractive takes one request's share of the rate limit in the order of the
// callers.
func (c *Client) paceInteractive(ctx context.Context) *Error {
	if c.limiter == nil {
		return nil
	}
	ahead := c.callersInLine.Add(1)
	defer c.callersInLine.Add(-1)
	deadline, ok := ctx.Deadline()
	if wait := float64(ahead-1-int64(c.limiter.Burst())) / float64(c.limiter.Limit()); ok && time.Until(deadline).Seconds() < wait {
		return noPace(ctx) // it would not come to its turn
	}
	if c.callersPace.Acquire(ctx, 1) != nil {
		return noPace(ctx)
	}
	defer c.callersPace.Release(1)
	return c.paceInLine(ctx)
}

// paceInLine waits for the next token. In the line there is at most one call of
// each class, so that neither waits for more than one of the other.
func (c *Client) paceInLine(ctx context.Context) *Error {
	if c.line.Acquire(ctx, 1) != nil {
		return noPace(ctx)
	}
	defer c.line.Release(1)
	if c.limiter.Wait(ctx) != nil {
		return noPace(ctx)
	}
	return nil
}

func noPace(ctx context.Context) *Error {
	return gaveUp(ctx, "no turn in the time left (the limit on requests per second)")
}
