// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"slices"
	"time"
)

// MaxPendingRetirements keeps a target's entry below the size that Raft takes
// (1 MiB): each live lease of a connector holds one retirement.
const MaxPendingRetirements = 1000

// Full reports whether no other end can be planned.
func (s *State) Full() bool { return len(s.Retire) >= MaxPendingRetirements }

func (s *State) plan(r Retirement) { s.Retire = append(slices.Clip(s.Retire), r) }

func (s *State) dropEnd(version int) {
	s.Retire = slices.DeleteFunc(slices.Clone(s.Retire), func(r Retirement) bool { return r.Version == version })
}

// Retired takes the result of one try to end a version's credential: it is gone, or
// the next try is planned. Without a planned end nothing changes.
func (s *State) Retired(now time.Time, version int, failure error) *State {
	i := s.PlannedEnd(version)
	if i < 0 {
		return s
	}
	n := s.next()
	if failure != nil {
		n.Retire = slices.Clone(s.Retire)
		r := &n.Retire[i]
		r.Failures++
		r.LastError = failure.Error()
		r.At = now.Add(s.Splay.retryIn(r.Failures))
		return n
	}
	n.dropEnd(version)
	if n.Current != nil && n.Version == version {
		n.Current = copyOf(s.Current)
		n.Current.EndedAt = now
	}
	if n.Newest != nil && n.Newest.Version == version {
		n.changeNewest(func(r *Record) { r.EndedAt = now })
	}
	return n
}

// Planned plans the end of a version's credential, unless that is planned.
func (s *State) Planned(r Retirement) *State {
	if s.PlannedEnd(r.Version) >= 0 {
		return s
	}
	n := s.next()
	n.plan(r)
	return n
}

// EndPlanned plans what its lease alone knew of, after a try to end it failed.
func (s *State) EndPlanned(now time.Time, r Retirement, failure error) *State {
	n := s.Planned(r)
	if i := n.PlannedEnd(r.Version); n.Retire[i].Tenant != r.Tenant {
		n = n.next()
		n.Retire = slices.Clone(n.Retire)
		n.Retire[i].Tenant = r.Tenant
	}
	return n.Retired(now, r.Version, failure)
}

// Hastened makes retirements due at once.
func (s *State) Hastened(now time.Time, which func(Retirement) bool) *State {
	n := s.next()
	n.Retire = slices.Clone(s.Retire)
	for i, r := range n.Retire {
		if which(r) {
			n.Retire[i].At = now
		}
	}
	return n
}
