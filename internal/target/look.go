// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import "time"

// Seen is what a look at C1 has shown.
type Seen struct {
	// Gone says why the object is gone, on positive evidence; "" while it is there.
	Gone string
	// Drift says how C1 differs from what was vended; "" if it does not.
	Drift string
	// Fingerprint is what C1 shows of a decoy.
	Fingerprint string
}

// Shown takes what C1 says of a decoy. used reports that somebody has used it since
// C1 said so last; what was before this mount knew of it is no news.
func (s *State) Shown(now time.Time, decoy DecoyState) (n *State, used bool) {
	n = s.next()
	n.CheckedAt, n.Decoy = now, &decoy
	return n, s.Decoy != nil && decoy.LastUsedAt.After(s.Decoy.LastUsedAt)
}

// Decided closes or settles an attempt that C1 can no longer commit, by what C1
// shows. Of a decoy the fingerprint tells whether C1 rotated it.
func (s *State) Decided(now time.Time, t Terms, seen Seen) *State {
	n := s.next()
	switch {
	case seen.Gone != "":
		n.lose("the decoy is gone at C1 (" + seen.Gone + "); delete this binding")
	case Differs(seen.Fingerprint, s.KnownFingerprint()):
		n.lose("C1 rotated the decoy and the material was lost, so no planted copy matches it; rotate it again")
	default:
		n.Attempt = nil
		n.add(Record{
			Origin: s.Attempt.Origin, Outcome: OutcomeFailed, FinishedAt: now,
			Error: "C1 did not rotate: the decoy still shows the old fingerprint",
		})
		// Should C1 be later than that, this mount's own request is what killed
		// the current credential, or the one that a rotation puts in its place.
		n.lateCommit(now.Add(t.SettleTime))
	}
	return n
}

// Undecidable settles an attempt of which C1 can tell nothing: it stays unknown
// until the next rotation.
func (s *State) Undecidable() *State {
	n := s.next()
	n.lose(s.Attempt.unknown())
	return n
}

// lose notes that only a new rotation helps.
func (s *State) lose(why string) {
	s.Attempt = copyOf(s.Attempt)
	s.Attempt.Phase, s.Attempt.Why = Lost, why
}

// Unseen plans another look, since the one that was due told nothing.
func (s *State) Unseen(now time.Time) *State {
	n := s.next()
	at := now.Add(s.Splay.retryIn(1))
	if s.Attempt == nil {
		n.Recheck = &Recheck{At: at, Why: s.Recheck.Why}
		return n
	}
	n.Attempt = copyOf(s.Attempt)
	n.Attempt.Phase, n.Attempt.Why, n.Attempt.NextTry = Unknown, s.Attempt.unknown(), at
	return n
}

// Observed takes what a look at the target has shown, and plans the next one. Only
// after a late commit the clock rotates again: then the other owner is this mount
// itself. news reports a drift that was not known.
func (s *State) Observed(now time.Time, t Terms, seen Seen) (n *State, news bool) {
	n = s.next()
	late := s.Recheck != nil && s.Recheck.Why == LateCommit
	n.CheckedAt, n.Recheck = now, nil
	if n.Current == nil {
		if seen.Gone == "" && seen.Fingerprint != "" {
			n.Baseline = seen.Fingerprint
		}
	} else if known := s.Current.Drifted != ""; !known || seen.Drift == "" {
		news = seen.Drift != ""
		n.Current = copyOf(s.Current)
		n.Current.Drifted = seen.Drift
	}
	if s.Scheduled && seen.Drift != "" && late {
		n.NextRotation, n.Recovers = now, true
	}
	n.planLook(t.CheckEvery, now)
	return n, news
}

// LookPlanned plans a look for a time at the latest.
func (s *State) LookPlanned(at time.Time) *State {
	if s.Recheck != nil && s.Recheck.At.Before(at) {
		return s
	}
	n := s.next()
	n.Recheck = &Recheck{At: at, Why: Periodic}
	return n
}

// NotLooked drops a look that there is nothing left to be seen by.
func (s *State) NotLooked() *State {
	n := s.next()
	n.Recheck = nil
	return n
}

// planLook plans when to ask C1 next what has become of the target, unless that is
// planned already, or a rotation comes first and makes it needless.
func (s *State) planLook(every time.Duration, now time.Time) {
	last := s.CheckedAt
	if s.Current != nil {
		last = later(last, s.Current.RotatedAt)
	}
	if last.IsZero() || last.After(now) {
		last = now
	}
	if s.Recheck == nil && every > 0 {
		at := later(now, last.Add(every-s.Splay.Of(every/10)))
		if s.Paused != nil || !s.NextRotation.After(now) || at.Before(s.NextRotation) {
			s.Recheck = &Recheck{At: at, Why: Periodic}
		}
	}
	if !s.HasMaterial() || s.Recheck != nil && s.Recheck.Why == LateCommit {
		return
	}
	if expires := s.Current.ExpiresAt; expires.After(now) && (s.Recheck == nil || expires.Before(s.Recheck.At)) {
		s.Recheck = &Recheck{At: expires, Why: Periodic}
	}
}

// LookReplanned plans the next look by a period that may be another one now. The look
// after a late commit stays where it is.
func (s *State) LookReplanned(now time.Time, every time.Duration) *State {
	if s.Recheck != nil && s.Recheck.Why == LateCommit {
		return s
	}
	n := s.next()
	n.Recheck = nil
	n.planLook(every, now)
	before, after := s.Recheck, n.Recheck
	if before != nil && after != nil && before.At.Equal(after.At) || before == nil && after == nil {
		return s
	}
	return n
}
