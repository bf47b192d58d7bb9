// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// pacing is how long a call waits before it is sent again: exponential with
// jitter, on top of what C1 asked for. It ends the call when the wait does not
// fit into what is left of its context, or when C1 asked for more than maxPause.
type pacing struct {
	ctx     context.Context
	steps   *backoff.ExponentialBackOff
	atLeast time.Duration // C1's Retry-After
}

func newPacing(ctx context.Context) *pacing {
	steps := backoff.NewExponentialBackOff()
	steps.InitialInterval = 250 * time.Millisecond
	steps.Multiplier = 2
	steps.MaxInterval = 5 * time.Second
	return &pacing{ctx: ctx, steps: steps}
}

// NextBackOff implements backoff.BackOff.
func (p *pacing) NextBackOff() time.Duration {
	wait := p.steps.NextBackOff() + p.atLeast
	if p.atLeast > maxPause {
		return backoff.Stop
	}
	if deadline, ok := p.ctx.Deadline(); ok && time.Until(deadline) < wait {
		return backoff.Stop
	}
	return wait
}

// Reset implements backoff.BackOff.
func (p *pacing) Reset() { p.steps.Reset() }

// asksToWait reports whether an answer is a 503 with Retry-After: C1 did
// nothing and wants to be asked later.
func asksToWait(status int, h http.Header) bool {
	_, asked := retryAfter(h, time.Now())
	return asked && status == http.StatusServiceUnavailable
}

// retryAfter reads the Retry-After header, in seconds or as a date; now stands
// in for a missing Date. What cannot be read counts as absent.
func retryAfter(h http.Header, now time.Time) (wait time.Duration, asked bool) {
	const longest = 24 * time.Hour
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longest), true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date // both are on C1's clock
	}
	return min(max(at.Sub(now), 0), longest), true
}
