// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// How long everything waits: doubled each time, until something is reached.
	brakeFirst   = 15 * time.Second
	brakeLongest = time.Minute
	// longestAfter is as much as one request to wait is obeyed; then the other
	// side is asked again.
	longestAfter = 5 * time.Minute
	// several keys that fail in a row, while the probe is answered, mean that the
	// failure is not any one key's.
	several = 3
)

// brake holds back everything that is due while the other side is out of reach:
// an outage costs one probe at a time, and after it the oldest comes first.
//
// What one key hears does not set it. The probe decides: if that fails too,
// everything waits. If it is answered, the key waits alone, unless several
// different keys fail one after the other.
//
// Once the time is over, one key at a time may try, behind a probe, until the
// other side is reached.
type brake struct {
	mu     sync.Mutex
	until  time.Time
	set    int // times in a row; 0 is not at all
	why    string
	failed map[string]bool // keys that failed alone since something was reached
}

// allowance is how many entries may be settled at the same time.
func (b *brake) allowance(now time.Time, limit int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.set == 0:
		return limit
	case b.left(now) > 0:
		return 0
	default:
		return min(1, limit)
	}
}

// left is how long everything waits yet; b.mu is held. A clock that went back
// does not prolong it.
func (b *brake) left(now time.Time) time.Duration {
	if left := b.until.Sub(now); b.set > 0 && left <= longestAfter {
		return max(left, 0)
	}
	return 0
}

// isSet reports whether everything waits.
func (b *brake) isSet(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left(now) > 0
}

// trying reports whether the wait is over and nothing was reached since.
func (b *brake) trying(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set > 0 && b.left(now) == 0
}

func (b *brake) notBefore(now, at time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if end := now.Add(b.left(now)); at.Before(end) {
		return end
	}
	return at
}

// release lets everything through, and reports whether something waited.
func (b *brake) release() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.set > 0
	b.set, b.until, b.why, b.failed = 0, time.Time{}, "", nil
	return was
}

// apply makes everything wait, and returns for how long. The first wait is the
// one that was asked for; if it did not help, it grows.
func (b *brake) apply(now time.Time, s Signal) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := b.left(now); left > 0 {
		return left // several entries were under way
	}
	wait := min(brakeFirst<<min(b.set, 8), brakeLongest)
	if after := min(s.After, longestAfter); after > wait || after > 0 && b.set == 0 {
		wait = after
	}
	b.set++
	b.until, b.why = now.Add(wait), s.Why.Error()
	return wait
}

// alone takes note of a key that failed while the probe was answered, and reports
// whether that is the key's own failure.
func (b *brake) alone(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed[key] {
		return true // which says nothing new
	}
	if b.failed == nil {
		b.failed = map[string]bool{}
	}
	if len(b.failed) < several {
		b.failed[key] = true
	}
	return len(b.failed) < several
}

// paused says until when and why everything waits; zero when it does not.
func (b *brake) paused(now time.Time) (until time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == 0 {
		return time.Time{}, ""
	}
	return now.Add(b.left(now)), b.why
}

// aloneWait is how long a key waits after its n-th failure in a row of its own.
func aloneWait(n int, after time.Duration) time.Duration {
	return max(min(brakeFirst<<min(n-1, 8), longestAfter), min(after, longestAfter))
}

// prober sends one probe at a time. Who asks while one is under way shares the
// next: the answer must be newer than what made him ask.
type prober struct {
	turn  *semaphore.Weighted // guards last
	begun atomic.Int64
	last  Signal // of the newest
}

func (p *prober) ask(ctx context.Context, probe func(context.Context) Signal) Signal {
	before := p.begun.Load()
	if err := p.turn.Acquire(ctx, 1); err != nil {
		return Signal{Reach: Unreached, Why: err}
	}
	defer p.turn.Release(1)
	if p.begun.Load() > before {
		return p.last
	}
	p.begun.Add(1)
	p.last = probe(ctx)
	return p.last
}
