// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import "time"

// Claimed gives the target to a binding. baseline is the fingerprint that C1 shows
// for a decoy; "" if it was not asked.
func (s *State) Claimed(binding, tenant, baseline string) *State {
	n := s.next()
	n.Binding, n.Tenant = binding, tenant
	if n.Current == nil && baseline != "" {
		n.Baseline = baseline
	}
	return n
}

// Released takes the target from its binding, which was deleted: nobody is left to
// be told of drift, and nothing rotates it. ends are what is to be ended now beside
// what is planned.
func (s *State) Released(now time.Time, ends []Retirement) *State {
	n := s.next()
	n.Binding = ""
	n.unschedule()
	n.Recheck = nil
	for _, end := range ends {
		end.At = now
		n.plan(end)
	}
	return n
}

// Unscheduled forgets all that a scheduled target has. The credential itself stays
// at C1 as it is.
func (s *State) Unscheduled() *State {
	n := s.next()
	n.unschedule()
	return n
}

func (s *State) unschedule() {
	s.Scheduled, s.NextRotation, s.Recovers, s.Failing, s.Paused = false, time.Time{}, false, nil, nil
	if s.HasMaterial() {
		s.Current = copyOf(s.Current)
		s.Current.Material = nil
	}
}

// ComesToBeScheduled makes the target one that the clock rotates, at first at the
// given time, and by the schedule if that is zero. A rotation that is asked for at
// once may come sooner.
func (s *State) ComesToBeScheduled(now time.Time, schedule Schedule, first time.Time) *State {
	n := s.next()
	n.unschedule()
	n.Scheduled, n.NextRotation = true, first
	if first.IsZero() {
		n.NextRotation = schedule.After(now, n.Splay)
	}
	return n
}

// Rescheduled plans the next turn by a schedule that has changed.
func (s *State) Rescheduled(now time.Time, schedule Schedule) *State {
	n := s.next()
	n.NextRotation = n.turnAfter(schedule, now)
	if f := n.Failing; f != nil && f.Waits {
		n.Failing = copyOf(f)
		n.Failing.Waits = schedule.Window > 0 // else there is nothing that it waits for
		n.waitForTurn()
	}
	return n
}

// WithPause has the clock rotate nothing until Resumed. What else is planned goes on, and
// looks that a rotation would have made needless are planned.
func (s *State) WithPause(now time.Time, t Terms, p Pause) *State {
	n := s.next()
	n.Paused = &p
	n.planLook(t.CheckEvery, now)
	return n
}

// Resumed has the clock go on. A turn that has passed meanwhile, and a rotation that
// failed before, is due at once; where its window has closed, at the next turn.
func (s *State) Resumed(now time.Time, t Terms) *State {
	if s.Paused == nil {
		return s
	}
	n := s.next()
	n.Paused = nil
	return n.Hurried(now).Missed(now, t).LookReplanned(now, t.CheckEvery)
}

// Hurried makes a rotation that fails due at once: what has just changed may be what
// it waited for. One that waits for its turn goes on waiting.
func (s *State) Hurried(now time.Time) *State {
	if s.Failing == nil || s.Failing.Waits {
		return s
	}
	n := s.next()
	n.Failing = copyOf(s.Failing)
	n.Failing.NextTry = now
	return n
}

// Replanned plans anew what is planned too far ahead.
func (s *State) Replanned(now time.Time, schedule Schedule) *State {
	if !s.Scheduled || !s.PlannedTooFar(schedule, now) {
		return s
	}
	n := s.Hurried(now).next()
	n.NextRotation = schedule.After(now, s.Splay)
	n.waitForTurn()
	return n
}
