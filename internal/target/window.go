// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"fmt"
	"time"
)

// Missed has a rotation wait for the next turn, if it is due and the window of its turn
// has closed: the clock was stopped, or nobody could rotate, for too long.
func (s *State) Missed(now time.Time, t Terms) *State {
	if at := s.RotationAt(); at.IsZero() || at.After(now) || !s.tooLate(t, now) {
		return s
	}
	f := Failing{Since: s.NextRotation}
	why := fmt.Sprintf("the rotation scheduled for %s did not happen within rotation_window (%s), so it waits for the next scheduled time", RFC3339(s.NextRotation), t.Schedule.Window)
	if s.Failing != nil {
		f = *s.Failing
		if !f.Waits { // it has been tried
			why += ": " + f.Error
		}
	}
	f.Failures++
	f.Error, f.Revision = why, t.Revision
	n := s.next()
	n.Failing = &f
	return n.deferred(now, t)
}

// tooLate reports whether the window of the turn that is due is closed at a time, and
// there is another turn to wait for. What an unknown outcome may have killed is replaced
// at any time, and so is a credential that would expire before.
func (s *State) tooLate(t Terms, at time.Time) bool {
	closed := t.Schedule.Window > 0 && !at.Before(s.NextRotation.Add(t.Schedule.Window))
	return closed && s.ClockReason() != ReasonRecovery && s.turnAfter(t.Schedule, at).After(at)
}

// deferred has the rotation that fails wait for the next turn.
func (s *State) deferred(now time.Time, t Terms) *State {
	s.NextRotation = s.turnAfter(t.Schedule, now)
	s.Failing.Waits = true
	s.waitForTurn()
	s.planLook(t.CheckEvery, now)
	return s
}
