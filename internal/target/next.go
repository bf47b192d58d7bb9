// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import "time"

// Do is something to be done for a target.
type Do string

// What can be done.
const (
	Nothing Do = ""
	Resolve Do = "resolve" // find out what became of the attempt
	Look    Do = "look"    // ask C1 what has become of the target
	Rotate  Do = "rotate"  // by the clock
	Retire  Do = "retire"  // end what is to be ended
)

// Step is what is to be done, and when.
type Step struct {
	Do Do
	At time.Time // zero with Nothing
}

// Due reports whether it is to be done now.
func (s Step) Due(now time.Time) bool { return s.Do != Nothing && !s.At.After(now) }

// Next returns the first of what is due, in the order in which it must be done: an
// outcome is known before the target is looked at, and what is known of it before
// it is rotated. If nothing is due, it returns what comes first.
func (s *State) Next(now time.Time) Step {
	next := Step{}
	for _, step := range []Step{s.resolve(), s.look(), {Rotate, s.RotationAt()}, s.retire()} {
		switch {
		case step.Do == Nothing || step.At.IsZero():
		case step.Due(now):
			return step
		case next.Do == Nothing || step.At.Before(next.At):
			next = step
		}
	}
	return next
}

func (s *State) resolve() Step {
	if s.Attempt == nil || s.Attempt.Phase == Lost {
		return Step{}
	}
	return Step{Resolve, s.Attempt.NextTry}
}

// look waits for an open attempt: whatever closes it says what there is to see.
func (s *State) look() Step {
	if s.Recheck == nil || s.Attempt != nil {
		return Step{}
	}
	return Step{Look, s.Recheck.At}
}

// RotationAt is when the clock rotates the target, or zero.
func (s *State) RotationAt() time.Time {
	switch {
	case !s.Scheduled || s.Paused != nil || s.Attempt != nil && s.Attempt.Phase != Lost:
		return time.Time{}
	case s.Failing != nil:
		return s.Failing.NextTry
	case s.Attempt != nil:
		return s.Attempt.CommitBy // only a new rotation helps
	default:
		return s.NextRotation
	}
}

func (s *State) retire() Step {
	var first time.Time
	for _, r := range s.Retire {
		if first.IsZero() || r.At.Before(first) {
			first = r.At
		}
	}
	if first.IsZero() {
		return Step{}
	}
	return Step{Retire, first}
}

// DueEnds are the retirements whose time has come.
func (s *State) DueEnds(now time.Time) []Retirement {
	var due []Retirement
	for _, r := range s.Retire {
		if !r.At.After(now) {
			due = append(due, r)
		}
	}
	return due
}

// Resolvable reports whether C1 can tell what became of an attempt: of a decoy it
// shows the fingerprint of what it holds.
func (s *State) Resolvable() bool { return s.Ref.Kind == Decoy && s.KnownFingerprint() != "" }

// ClockReason is why the clock rotates.
func (s *State) ClockReason() string {
	switch {
	case s.Attempt != nil || s.Recovers:
		return ReasonRecovery
	case !s.Kept():
		return ReasonInitial
	default:
		return ReasonSchedule
	}
}
