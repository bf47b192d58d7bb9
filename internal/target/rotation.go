// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"fmt"
	"time"
)

// Result is what C1 has made.
type Result struct {
	Outcome      string // OutcomeIssued, OutcomeStored or OutcomeDiscarded
	CredentialID string
	ClientID     string
	Fingerprint  string
	ExpiresAt    time.Time
	Drifted      string // how it differs from what C1 shows
	Warning      string
	Material     map[string]any // for the readers of a scheduled binding
	EndsAt       time.Time      // when the engine ends it at the latest; zero: never
}

// Format implements fmt.Formatter: without the material, whatever the verb.
func (r Result) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "result{%s %s %s}", r.Outcome, r.CredentialID, r.ClientID) // as fmt itself, there is nobody to tell
}

// Begin opens an attempt, which C1 can commit until commitBy. An older open attempt
// is superseded, on record. The newest record becomes an entry of its own in the
// same round, so that no outcome can tear it.
func (s *State) Begin(o Origin, commitBy time.Time) *State {
	n := s.next()
	if open := s.Attempt; open != nil {
		n.add(Record{Origin: open.Origin, Outcome: OutcomeSuperseded, FinishedAt: o.StartedAt, Error: open.unknown()})
		n.lateCommit(later(open.CommitBy, commitBy))
	}
	n.file(false)
	n.Attempt = &Attempt{Origin: o, Phase: Asking, CommitBy: commitBy, NextTry: commitBy}
	return n
}

// lateCommit plans the look after which a late commit can no longer happen.
func (s *State) lateCommit(at time.Time) {
	if s.Recheck != nil && s.Recheck.Why == LateCommit {
		at = later(at, s.Recheck.At)
	}
	s.Recheck = &Recheck{At: at, Why: LateCommit}
}

// Succeeded closes the attempt: C1 has rotated. The credential before it ends by
// grace_period, and the next turn is planned.
func (s *State) Succeeded(now time.Time, t Terms, r Result) *State {
	n := s.next()
	previous := s.Current
	n.Version++
	n.Attempt, n.Failing, n.Recovers = nil, nil, false
	if again := s.Recheck; again != nil && (again.Why != LateCommit || !now.Before(again.At)) {
		n.Recheck = nil
	}
	n.Current = &Credential{
		Binding: s.Attempt.Binding, CredentialID: r.CredentialID, ClientID: r.ClientID, Fingerprint: r.Fingerprint,
		RotatedAt: now, ExpiresAt: r.ExpiresAt, Drifted: r.Drifted,
	}
	n.add(Record{
		Origin: s.Attempt.Origin, Version: n.Version, Outcome: r.Outcome, FinishedAt: now,
		CredentialID: r.CredentialID, ClientID: r.ClientID, Fingerprint: r.Fingerprint,
		ExpiresAt: r.ExpiresAt, EndsAt: r.EndsAt, Warning: r.Warning,
	})
	if !r.EndsAt.IsZero() {
		n.plan(Retirement{Version: n.Version, Binding: s.Attempt.Binding, CredentialID: r.CredentialID, At: r.EndsAt})
	}
	if !t.Scheduled {
		n.unschedule()
		n.planLook(t.CheckEvery, now)
		return n
	}
	n.Scheduled, n.Current.Material = true, r.Material
	n.NextRotation = t.Schedule.NextTurn(n.Current, n.Splay, now)
	n.planLook(t.CheckEvery, now)
	if t.GracePeriod > 0 {
		n.planEndOf(previous, s.Version, now.Add(t.GracePeriod))
	}
	return n
}

// TakenOver makes a credential that is in use already the first version of a scheduled
// target that has none: nothing was rotated, and the schedule counts from now.
func (s *State) TakenOver(now time.Time, t Terms, o Origin, r Result) *State {
	n := s.next()
	n.Version++
	n.Failing, n.Recovers = nil, false
	n.Current = &Credential{
		Binding: o.Binding, CredentialID: r.CredentialID, ClientID: r.ClientID, Fingerprint: r.Fingerprint,
		RotatedAt: now, ExpiresAt: r.ExpiresAt, Material: r.Material,
	}
	n.add(Record{
		Origin: o, Version: n.Version, Outcome: OutcomeStored, FinishedAt: now,
		CredentialID: r.CredentialID, ClientID: r.ClientID, Fingerprint: r.Fingerprint, ExpiresAt: r.ExpiresAt, Warning: r.Warning,
	})
	n.NextRotation = t.Schedule.NextTurn(n.Current, n.Splay, now)
	n.CheckedAt, n.Recheck = now, nil // C1 has just shown it
	n.planLook(t.CheckEvery, now)
	return n
}

// planEndOf plans the end of the credential before a scheduled rotation, unless a
// lease owns its end or it has ended.
func (s *State) planEndOf(previous *Credential, version int, at time.Time) {
	if previous == nil || previous.CredentialID == "" || s.PlannedEnd(version) >= 0 || !previous.EndedAt.IsZero() {
		return
	}
	s.plan(Retirement{Version: version, Binding: previous.Binding, CredentialID: previous.CredentialID, At: at})
}

// Refused records that C1 did not rotate. It is a transition of the state from
// before Begin: what the attempt would have superseded is as open as before.
func (s *State) Refused(now time.Time, o Origin, why string) *State {
	n := s.next()
	n.add(Record{Origin: o, Outcome: OutcomeFailed, FinishedAt: now, Error: why})
	return n
}

// Placed notes where the copies of all who share the attempt go.
func (s *State) Placed(placement string) *State {
	n := s.next()
	n.Attempt = copyOf(s.Attempt)
	n.Attempt.Placement = placement
	return n
}

// Unknown leaves the attempt open: C1 may have rotated, or may do so yet.
func (s *State) Unknown(why string) *State {
	n := s.next()
	n.Attempt = copyOf(s.Attempt)
	n.Attempt.Phase, n.Attempt.Why = Unknown, why
	return n
}

// lasting says how many steps later in the row of waits a failure begins that will
// hardly heal by itself.
const lasting = 3

// Failed plans the next try of a scheduled rotation that did not succeed. What C1
// refuses is tried slowly from the start; an unknown outcome is tried again as soon
// as C1 can no longer commit it, the first time.
func (s *State) Failed(now time.Time, t Terms, why string, unknown bool) *State {
	n := s.next()
	f := Failing{Since: now}
	if s.Failing != nil {
		f = *s.Failing
	}
	f.Failures++
	f.Error, f.Revision, f.Waits = why, t.Revision, false
	switch unknown = unknown && s.Attempt != nil; {
	case unknown && f.Failures == 1:
		f.NextTry = s.Attempt.CommitBy
	case unknown:
		f.NextTry = later(s.Attempt.CommitBy, now.Add(s.Splay.retryIn(f.Failures-1)))
	default:
		f.NextTry = now.Add(s.Splay.retryIn(f.Failures + lasting))
	}
	n.Failing = &f
	if n.tooLate(t, f.NextTry) {
		f.Error += fmt.Sprintf("; rotation_window (%s) closes before the next try, so it waits for the next scheduled time", t.Schedule.Window)
		return n.deferred(now, t)
	}
	return n
}

// Retried makes a rotation that fails due at once, if it failed under another
// config.
func (s *State) Retried(now time.Time, t Terms) *State {
	if s.Failing == nil || s.Failing.Revision == t.Revision || !s.Failing.NextTry.After(now) {
		return s
	}
	return s.Hurried(now)
}

// Undelivered notes that the newest version's caller has gone: its planned end is
// now. What C1 cannot end by itself stays as it is.
func (s *State) Undelivered(now time.Time) *State {
	n := s.next()
	if n.Current != nil {
		n.Current = copyOf(s.Current)
		n.Current.Undelivered = true
	}
	if n.Newest != nil && n.Newest.Version == n.Version {
		n.changeNewest(func(r *Record) { r.Outcome = OutcomeUndelivered })
	}
	n.dropEnd(s.Version)
	if n.Ref.Kind == Connector && n.Current != nil {
		// on_lease_end=keep spares what somebody holds; this nobody does.
		n.plan(Retirement{Version: s.Version, Binding: n.Current.Binding, CredentialID: n.Current.CredentialID, At: now})
	}
	return n
}
