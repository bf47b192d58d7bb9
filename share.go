// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"sync"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// sharedRotation is one rotation of a scheduled binding, shared by all callers who
// ask for one before C1 has answered.
type sharedRotation struct {
	unprintable
	done chan struct{}
	err  error         // set before done is closed
	t    *target.State // the state as it was stored then
	bind *binding      // as it was then
	// moved is the turn that was next before a caller rotated out of turn; zero
	// if there was none.
	moved time.Time

	warnings []string // of the rotation that succeeded, set before done is closed

	// guarded by sharedRotations.mu
	open       bool // callers may still join
	callers    int
	placements []string // of those who joined
	finished   bool
}

// sharedRotations are the rotations of scheduled bindings that callers may join.
type sharedRotations struct {
	mu   sync.Mutex
	open map[target.Ref]*sharedRotation
}

// join returns the rotation to share. The caller that leads must carry it out and
// finish it.
func (s *sharedRotations) join(ref target.Ref, placement string) (r *sharedRotation, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[target.Ref]*sharedRotation{}
	}
	r = s.open[ref]
	if r == nil {
		r = &sharedRotation{done: make(chan struct{}), open: true}
		s.open[ref] = r
		leads = true
	} else if placement != "" {
		r.placements = append(r.placements, placement)
	}
	r.callers++
	return r, leads
}

// close lets nobody else join: later callers start a new rotation. It returns the
// placements of those who joined.
func (s *sharedRotations) close(ref target.Ref, r *sharedRotation) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.open {
		r.open = false
		delete(s.open, ref)
	}
	return r.placements
}

// finish answers everybody who shares the rotation; only the first call counts.
func (s *sharedRotations) finish(ref target.Ref, r *sharedRotation, t *target.State, bind *binding, err error) {
	s.close(ref, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.finished {
		return
	}
	r.finished = true
	r.t, r.bind, r.err = t, bind, err
	close(r.done)
}

// joinPlacements keeps the words of all who shared a rotation.
func joinPlacements(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return clip(a+"; "+b, 4*maxLabelLength)
}
