// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"math/rand/v2"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	longestRotationPeriod = 10 * 365 * 24 * time.Hour

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

// refetchIn is how many seconds a reader may keep what it has read: until the next
// turn, and for a short time if that is overdue or an attempt is open; never longer
// than the binding's refresh_interval. It is never less than a second: Vault Agent
// would spin.
func refetchIn(bind *binding, t *target.State, now time.Time) (secs int64, overdue bool) {
	secs, overdue = untilNextTurn(t, now)
	secs = min(secs, periodSeconds(bind.Schedule, now))
	if bind.RefreshInterval > 0 {
		secs = min(secs, seconds(bind.RefreshInterval))
	}
	return secs, overdue
}

func untilNextTurn(t *target.State, now time.Time) (secs int64, overdue bool) {
	short := seconds(overdueRefetchLeast + rand.N(overdueRefetchMost-overdueRefetchLeast+time.Second)) //nolint:gosec // jitter, not a secret
	if a := t.Attempt; a != nil && (t.Paused == nil || a.Phase == target.Asking) {
		return short, false
	}
	next := t.RotationAt()
	if next.IsZero() {
		return seconds(manualRefetch), false
	}
	left := next.Sub(now)
	if left <= 0 {
		return short, true
	}
	return secondsUp(left), false
}

// shortestPeriod is the shortest time from one rotation to the next; where nobody
// rotates by the clock, what readers are told instead.
func shortestPeriod(s target.Schedule) time.Duration {
	if s == (target.Schedule{}) {
		return manualRefetch
	}
	return s.ShortestGap()
}

// periodSeconds is what readers are told as rotation_period.
func periodSeconds(s target.Schedule, now time.Time) int64 {
	switch {
	case s.Cron != "":
		return max(1, secondsUp(s.Latest(now).Sub(now)))
	case s.Period > 0:
		return seconds(s.Period)
	default:
		return seconds(manualRefetch)
	}
}
