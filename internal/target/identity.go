// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"slices"
	"strings"
	"time"
)

// Adopted makes a credential that somebody wrote into the config the mount's current
// one. What the mount had made before it ends at the given time; what somebody else
// had made stays, since others may hold it.
func (s *State) Adopted(now time.Time, o Origin, c Credential, end time.Time) *State {
	n := s.next()
	if previous := s.Current; previous != nil && previous.Binding != "" {
		n.planEndOf(previous, s.Version, end)
	}
	n.Retire = slices.DeleteFunc(slices.Clone(n.Retire), func(r Retirement) bool { // it was on its way out
		return c.CredentialID != "" && r.CredentialID == c.CredentialID
	})
	n.Version++
	n.Failing, n.Recovers = nil, false
	c.RotatedAt = now
	n.Current = &c
	n.add(Record{
		Origin: o, Version: n.Version, Outcome: OutcomeStored, FinishedAt: now,
		CredentialID: c.CredentialID, ClientID: c.ClientID, Fingerprint: c.Fingerprint,
	})
	n.Recheck = &Recheck{At: now, Why: Periodic} // C1 knows when it expires
	return n
}

// Dated takes what C1 shows of the mount's current credential. One that expires
// sooner than was known is replaced sooner.
func (s *State) Dated(t Terms, credentialID string, expires time.Time, requireDPoP bool) *State {
	n := s.next()
	n.Current = copyOf(s.Current)
	n.Current.CredentialID, n.Current.ExpiresAt, n.Current.RequireDPoP = credentialID, expires, requireDPoP
	if n.newestIsCurrent() {
		n.changeNewest(func(r *Record) { r.CredentialID, r.ExpiresAt = credentialID, expires })
	}
	if n.NextRotation.IsZero() {
		return n
	}
	if turn := t.Schedule.NextTurn(n.Current, n.Splay, n.Current.RotatedAt); !turn.IsZero() && turn.Before(n.NextRotation) {
		n.NextRotation = turn
	}
	return n
}

// Made is what C1 shows of an attempt to rotate the mount's identity: the credentials
// that bear its name.
type Made struct {
	// InUse is the one that the config holds; nil if there is none.
	InUse *Result
	// Orphans are the IDs of the others, which nobody holds.
	Orphans []string
}

// Concluded closes an attempt to rotate the mount's identity by what C1 shows. Where
// it shows nothing, it is asked once more after the settle time, in case that it is
// later than it should be.
func (s *State) Concluded(now time.Time, t Terms, made Made) *State {
	n := s.next()
	again := s.Attempt.CommitBy.Add(t.SettleTime)
	switch {
	case made.InUse != nil:
		n = s.Succeeded(now, t, *made.InUse)
	case len(made.Orphans) == 0 && now.Before(again):
		n.Attempt = copyOf(s.Attempt)
		n.Attempt.Phase, n.Attempt.Why, n.Attempt.NextTry = Unknown, s.Attempt.unknown(), again
		return n
	default:
		why := "C1 shows no credential of this attempt"
		if len(made.Orphans) > 0 {
			why = "what C1 made was not stored, and the engine ends it: " + strings.Join(made.Orphans, ", ")
		}
		n.Attempt = nil
		n.add(Record{Origin: s.Attempt.Origin, Outcome: OutcomeFailed, FinishedAt: now, Error: why})
	}
	for _, id := range made.Orphans {
		n.planOrphan(now, id)
	}
	return n
}

// Orphaned plans the end of a credential that C1 made and that nobody stored. It has
// no version, so it counts downwards from -1.
func (s *State) Orphaned(now time.Time, credentialID string) *State {
	n := s.next()
	n.planOrphan(now, credentialID)
	return n
}

func (s *State) planOrphan(now time.Time, credentialID string) {
	version := -1
	for _, r := range s.Retire {
		if r.CredentialID == credentialID {
			return
		}
		version = min(version, r.Version-1)
	}
	s.plan(Retirement{Version: version, CredentialID: credentialID, At: now})
}

// Forgotten drops all that is known of an identity that the mount has no longer, and
// says what it leaves at C1.
func (s *State) Forgotten(now time.Time) (n *State, left []string) {
	n = s.next()
	if s.Current != nil && s.Current.Binding != "" {
		left = append(left, "credential "+s.Current.ClientID+", which this mount made")
	}
	for _, r := range s.Retire {
		left = append(left, "credential "+r.CredentialID+", whose end was planned")
	}
	if a := s.Attempt; a != nil {
		left = append(left, "perhaps a credential whose name ends with "+a.ID+"], of an attempt whose outcome is not known")
		n.add(Record{Origin: a.Origin, Outcome: OutcomeSuperseded, FinishedAt: now, Error: a.unknown()})
	}
	n.unschedule()
	n.Attempt, n.Current, n.Recheck, n.Retire, n.CheckedAt = nil, nil, nil, nil, time.Time{}
	return n, left
}
