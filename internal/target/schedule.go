// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/crontab"
)

// ShortestRotationPeriod is the shortest rotation_period.
const ShortestRotationPeriod = time.Minute

// Schedule says when a binding's target is rotated by the clock. At most one of the
// two is set; neither means that only callers rotate it.
type Schedule struct {
	Period time.Duration `json:"rotation_period,omitempty"`
	Cron   string        `json:"rotation_schedule,omitempty"`
	// Window is how long after a cron turn the clock may still rotate; 0: until it
	// succeeds.
	Window time.Duration `json:"rotation_window,omitempty"`
}

// Terms are what config and binding ask of a target.
type Terms struct {
	// SettleTime is how long after it was sent C1 may still commit a request.
	SettleTime time.Duration
	// CheckEvery is the time between two looks; 0 is never.
	CheckEvery time.Duration
	// Revision of the config.
	Revision string
	// Schedule, GracePeriod and Scheduled are the binding's.
	Schedule    Schedule
	GracePeriod time.Duration
	Scheduled   bool
}

// After is the first turn after a rotation at the given time, zero if there is none.
// A period's turn is early by the target's splay and never late, so that bindings
// that were written together drift apart; a cron turn is exact, since somebody chose
// it.
func (s Schedule) After(rotated time.Time, early Splay) time.Time {
	switch {
	case s.Cron != "":
		turns, err := crontab.Parse(s.Cron)
		if err != nil {
			return time.Time{} // it was checked when it was written
		}
		return turns.Next(rotated)
	case s.Period > 0:
		return rotated.Add(s.Period - early.Of(s.Period/10))
	default:
		return time.Time{}
	}
}

// NextTurn is when a credential is replaced by the clock: by the schedule as it is
// from a time on, but before the credential expires at C1. A period counts from the
// rotation, whenever it was changed. It is zero if only callers rotate.
func (s Schedule) NextTurn(cur *Credential, early Splay, from time.Time) time.Time {
	if s.Cron == "" {
		from = cur.RotatedAt
	}
	next := s.After(from, early)
	if next.IsZero() || cur.ExpiresAt.IsZero() {
		return next
	}
	life := cur.ExpiresAt.Sub(cur.RotatedAt)
	if last := cur.RotatedAt.Add(max(life-life/10, ShortestRotationPeriod/2)); last.Before(next) {
		return last
	}
	return next
}

// Latest is the latest time that the next turn can lie at, zero if there is none.
func (s Schedule) Latest(now time.Time) time.Time {
	if s.Period > 0 {
		return now.Add(s.Period)
	}
	return s.After(now, 0)
}

// ShortestGap is the shortest time between two of the next turns, at most a year. A day
// of a time zone counts as 24 hours. It is zero if only callers rotate.
func (s Schedule) ShortestGap() time.Duration {
	if s.Cron == "" {
		return s.Period
	}
	shortest := 365 * 24 * time.Hour
	turn := s.After(time.Unix(0, 0).UTC(), 0)
	for range 20 {
		next := s.After(turn, 0)
		if next.IsZero() {
			break
		}
		gap := next.Sub(turn)
		if gap == 23*time.Hour {
			gap = 24 * time.Hour // the clock was put forward
		}
		shortest, turn = min(shortest, gap), next
	}
	return shortest
}

// PlannedTooFar reports whether a rotation is planned for later than its schedule
// can say now: a clock that was ahead for a moment planned it.
func (s *State) PlannedTooFar(schedule Schedule, now time.Time) bool {
	at, latest := s.RotationAt(), schedule.Latest(now)
	if s.Failing != nil && !s.Failing.Waits {
		latest = now.Add(2 * retryMax)
	}
	return !at.IsZero() && !latest.IsZero() && at.After(latest)
}

// waitForTurn has what waits for its turn follow that turn.
func (s *State) waitForTurn() {
	if s.Failing != nil && s.Failing.Waits {
		s.Failing = copyOf(s.Failing)
		s.Failing.NextTry = s.NextRotation
	}
}

// turnAfter is the first turn after a time.
func (s *State) turnAfter(schedule Schedule, at time.Time) time.Time {
	if s.Kept() {
		return schedule.NextTurn(s.Current, s.Splay, at)
	}
	return schedule.After(at, s.Splay)
}

// Splay is how early a target's turns are, in 65,536ths of what they may be. It is
// drawn at random when the state is made, so that nobody can tell from the rhythm of
// an entry which target it is, and stays the same.
type Splay uint16

// Of returns that share of a time, in whole seconds.
func (s Splay) Of(most time.Duration) time.Duration {
	return most / time.Second * time.Duration(s) / (1 << 16) * time.Second
}

const (
	retryBase = time.Minute
	retryMax  = time.Hour
)

// retryIn is the wait after the n-th failure in a row: exponential, and another one
// for each target.
func (s Splay) retryIn(failures int) time.Duration {
	d := retryBase << min(failures-1, 6)
	d = min(d, retryMax)
	return d + s.Of(d/4)
}
