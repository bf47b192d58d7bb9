// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// maxPause bounds what one Retry-After can make this client wait.
	maxPause = 30 * time.Second
	// mostPaused is how many objects are remembered that C1 asked to leave alone.
	mostPaused = 1000
)

// pause is until when C1 asked this client (by Retry-After) to send nothing. What
// it said of one object (see call.about) holds for that one, since its refusal says
// nothing of the others. What it said to the identity itself, at the token endpoint or to
// introspect, holds for everything.
type pause struct {
	mu      sync.Mutex
	all     time.Time
	objects map[string]time.Time
}

// wholeIdentity is about everything.
const wholeIdentity = ""

// extend makes the pause of an object last for at least d, at most maxPause, from
// now.
func (p *pause) extend(about string, d time.Duration) {
	now := time.Now()
	until := now.Add(min(d, maxPause))
	p.mu.Lock()
	defer p.mu.Unlock()
	if about == wholeIdentity {
		if until.After(p.all) {
			p.all = until
		}
		return
	}
	if len(p.objects) >= mostPaused {
		maps.DeleteFunc(p.objects, func(_ string, end time.Time) bool { return !end.After(now) })
	}
	if p.objects == nil || len(p.objects) >= mostPaused {
		p.objects = map[string]time.Time{}
	}
	if until.After(p.objects[about]) {
		p.objects[about] = until
	}
}

// left is how long an object is to wait yet.
func (p *pause) left(about string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := time.Until(p.all)
	if end, ok := p.objects[about]; ok {
		left = max(left, time.Until(end))
	}
	return left
}

// newLimiter lets through at most so many requests in any one second; nil is no
// limit. Short bursts keep a limit of many requests used whole, and are taken
// off the steady rate; of few, each waits for its own moment.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	burst := math.Floor(math.Min(perSecond, 1e6) / 25)
	if burst < 2 {
		return rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	return rate.NewLimiter(rate.Limit(perSecond-burst), int(burst))
}

// turn waits for one of the concurrent requests that Options allow and returns
// the function that gives it back.
func (c *Client) turn(ctx context.Context) (release func(), failed *Error) {
	if ctx.Err() != nil {
		return nil, gaveUp(ctx, "gave up before anything was sent")
	}
	if c.turns == nil {
		return func() {}, nil
	}
	// With as many interactive calls at most as there are turns, nobody waits
	// for a turn behind more than those who have one.
	queues := []*semaphore.Weighted{c.callersTurns, c.turns}
	if backgroundOf(ctx) != nil {
		queues[0] = c.backgroundTurns
	}
	for i, queue := range queues {
		if queue.Acquire(ctx, 1) != nil {
			if i > 0 {
				queues[0].Release(1)
			}
			return nil, gaveUp(ctx, "gave up waiting for other requests to finish (the limit on concurrent requests)")
		}
	}
	return func() {
		c.turns.Release(1) // first to who stands in line for it
		queues[0].Release(1)
	}, nil
}

// pace waits until C1's pause of what a call is about is over and the rate limit allows a
// request.
func (c *Client) pace(ctx context.Context, about string) *Error {
	for left := c.pause.left(about); left > 0; left = c.pause.left(about) {
		if !sleep(ctx, left) {
			return c.paused(ctx, left)
		}
	}
	if backgroundOf(ctx) != nil {
		return c.paceBackground(ctx)
	}
	return c.paceInteractive(ctx)
}

// paused is the error of a call that C1's Retry-After holds back.
func (c *Client) paused(ctx context.Context, left time.Duration) *Error {
	e := gaveUp(ctx, fmt.Sprintf("C1 asked the plugin to send nothing for another %s", roundUp(left)))
	e.Reason, e.RetryAfter = ReasonRateLimited, left
	return e
}

// sleep waits for d, or returns false: at once when ctx ends sooner, else when
// it is cancelled.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gaveUp is the error of a caller that did not come to send anything.
func gaveUp(ctx context.Context, message string) *Error {
	return &Error{Reason: ReasonNotSent, Message: message, Err: ctx.Err()}
}

// roundUp cuts a wait to whole seconds, never to zero.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
