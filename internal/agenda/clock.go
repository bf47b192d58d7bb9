// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"time"
)

// maxStep is how far the clock may move between two looks at it without anybody
// else's word for it. A worker that runs looks at it once a minute.
const maxStep = 5 * time.Minute

// trust reports whether a time may be acted upon. When the clock has moved
// further than maxStep since it was last believed (the process was down, the
// machine slept, or somebody set it), ClockTrusted must confirm it. Until then
// everything waits, or a clock that is a year ahead for a moment would end every
// credential in use.
//
// It is called only when there is something to act upon: a mount that has nothing
// to do asks nobody.
func (a *Agenda) trust(ctx context.Context, now time.Time) (bool, error) {
	steady, err := a.steady(ctx, now)
	if err != nil || steady {
		return steady, err
	}
	if a.brake.isSet(now) {
		return false, nil
	}
	if err := a.o.ClockTrusted(ctx); err != nil {
		if ctx.Err() == nil {
			a.wait(now, Signal{Reach: Unreached, Why: err})
		}
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = now
	return true, nil
}

// steady reports whether the clock has not moved further than maxStep since it was
// last believed: after a start, since the minute that the process before was done
// with.
func (a *Agenda) steady(ctx context.Context, now time.Time) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen.IsZero() {
		mark, err := a.index.watermark(ctx)
		if err != nil || mark == 0 {
			return true, err // 0: nothing was ever written
		}
		a.seen = timeOf(mark)
	}
	if now.Sub(a.seen) > maxStep {
		return false, nil
	}
	a.seen = now // also when it went back
	return true, nil
}
