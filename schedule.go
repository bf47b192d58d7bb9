// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"math/rand/v2"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/crontab"
)

const (
	shortestRotationPeriod = time.Minute
	longestRotationPeriod  = 10 * 365 * 24 * time.Hour

	// manualRefetch is what readers of a binding that nobody rotates by the
	// clock are told: nobody knows when a person will.
	manualRefetch = 5 * time.Minute

	// A reader that comes while a rotation is overdue or open is asked to come
	// again after a time between these two.
	overdueRefetchLeast = 10 * time.Second
	overdueRefetchMost  = 30 * time.Second

	// lateAfter is how long after its time a rotation counts as overdue.
	lateAfter = 10 * time.Second
)

// schedule says when a binding's target is rotated by the clock. At most one of
// the two is set; neither means that only callers rotate it.
type schedule struct {
	Period time.Duration `json:"rotation_period,omitempty"`
	Cron   string        `json:"rotation_schedule,omitempty"`
}

// after is the first turn after a rotation at the given time, zero if there is
// none. A period's turn is early by the target's splay and never late, so that
// bindings that were written together drift apart; a cron turn is exact, since
// somebody chose it.
func (s schedule) after(rotated time.Time, early splay) time.Time {
	switch {
	case s.Cron != "":
		turns, err := crontab.Parse(s.Cron)
		if err != nil {
			return time.Time{} // it was checked when it was written
		}
		return turns.Next(rotated)
	case s.Period > 0:
		return rotated.Add(s.Period - early.of(s.Period/10))
	default:
		return time.Time{}
	}
}

// splay is how early a target's turns are, in 65,536ths of what they may be. It is
// drawn when the state is made, so that nobody can tell from the rhythm of an entry
// which target it is, and stays the same.
type splay uint16

func newSplay() splay {
	return splay(rand.N(1 << 16)) //nolint:gosec // it spreads load, and is no secret
}

// of returns that share of a time, in whole seconds.
func (s splay) of(most time.Duration) time.Duration {
	return most / time.Second * time.Duration(s) / (1 << 16) * time.Second
}

// nextTurn is when a credential is replaced by the clock: by the schedule as it
// is from a time on, but before the credential expires at C1. A period counts
// from the rotation, whenever it was changed.
func (s schedule) nextTurn(cur *credential, early splay, from time.Time) time.Time {
	if s.Cron == "" {
		from = cur.RotatedAt
	}
	next := s.after(from, early)
	if next.IsZero() || cur.ExpiresAt.IsZero() {
		return next
	}
	life := cur.ExpiresAt.Sub(cur.RotatedAt)
	if last := cur.RotatedAt.Add(max(life-life/10, shortestRotationPeriod/2)); last.Before(next) {
		return last
	}
	return next
}

// latest is the latest time that the next turn can lie at, zero if there is none.
func (s schedule) latest(now time.Time) time.Time {
	if s.Period > 0 {
		return now.Add(s.Period)
	}
	return s.after(now, 0)
}

// plannedTooFar reports whether a rotation is planned for later than its schedule
// can say now: a clock that was ahead for a moment planned it.
func (t *target) plannedTooFar(s schedule, now time.Time) bool {
	at, latest := t.rotationAt(), s.latest(now)
	if t.Trouble != nil {
		latest = now.Add(2 * retryMax)
	}
	return !at.IsZero() && !latest.IsZero() && at.After(latest)
}

// replan plans anew what is planned too far ahead, and reports whether anything
// was.
func (t *target) replan(s schedule, now time.Time) bool {
	if !t.plannedTooFar(s, now) {
		return false
	}
	t.NextRotation = s.after(now, t.Splay)
	if t.Trouble != nil {
		t.Trouble.NextTry = now
	}
	return true
}

// refetchIn is how many seconds a reader may keep what it has read: until the
// next turn, and for a short time if that is overdue or an attempt is open. It
// is never less than a second: Vault Agent would spin.
func (t *target) refetchIn(now time.Time) (secs int64, overdue bool) {
	short := seconds(overdueRefetchLeast + rand.N(overdueRefetchMost-overdueRefetchLeast+time.Second)) //nolint:gosec // jitter, not a secret
	if t.Attempt != nil {
		return short, false
	}
	next := t.rotationAt()
	if next.IsZero() {
		return seconds(manualRefetch), false
	}
	left := next.Sub(now)
	if left <= 0 {
		return short, true
	}
	return secondsUp(left), false
}

// secondsUp are whole seconds, rounded up: who comes back then is not too early.
func secondsUp(d time.Duration) int64 { return seconds(d + time.Second - 1) }

// periodSeconds is what readers are told as rotation_period.
func (s schedule) periodSeconds(now time.Time) int64 {
	switch {
	case s.Cron != "":
		return max(1, secondsUp(s.after(now, 0).Sub(now)))
	case s.Period > 0:
		return seconds(s.Period)
	default:
		return seconds(manualRefetch)
	}
}
