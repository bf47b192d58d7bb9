// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"sync"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// sharedRotation is one rotation of a scheduled binding, shared by all callers who
// ask for one before C1 has answered.
type sharedRotation struct {
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

// rotated is what the callers of a shared rotation get.
type rotated struct {
	*sharedRotation
	shared bool // another caller, or the clock, had begun it
}

// rotateKept rotates a scheduled binding for a caller, or lets the caller share
// the rotation that is under way.
func (b *backend) rotateKept(ctx context.Context, ref target.Ref, name string, asked target.Origin) (*rotated, error) {
	r, leads := b.shared.join(ref, asked.Placement)
	if leads {
		if !b.work.enter() {
			err := errStopping()
			b.shared.finish(ref, r, nil, nil, err)
			return nil, err
		}
		go func() {
			defer b.work.leave()
			b.leadRotation(context.WithoutCancel(ctx), r, ref, name, asked)
		}()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err() // the rotation goes on, and what it brings is stored
	}
	if r.err != nil {
		return nil, r.err
	}
	return &rotated{sharedRotation: r, shared: !leads}, nil
}

// leadRotation carries a shared rotation out for the caller that leads it.
func (b *backend) leadRotation(ctx context.Context, r *sharedRotation, ref target.Ref, name string, asked target.Origin) {
	var state *target.State
	var bind *binding
	err := b.safely(ref, func() error {
		t, err := b.takeTurn(ctx, ref)
		if err != nil {
			return err
		}
		defer t.release()
		defer func() { state = t.state }()
		if bind, err = b.scheduledBinding(ctx, ref, name); err != nil {
			return err
		}
		if bind == nil {
			return refuse("%s has no rotate_on=schedule any more", name)
		}
		s, err := b.session(ctx)
		if err != nil {
			return err
		}
		if err := t.claimedBy(s, name); err != nil {
			return err
		}
		rec, err := t.recordOfRequest(ctx, asked.RequestID)
		if err != nil {
			return err
		}
		if rec != nil && rec.Outcome == target.OutcomeStored && rec.Version == t.state.Version && t.state.HasMaterial() {
			return nil // Vault sent it again after a plugin died: this is its answer
		}
		r.moved = t.state.NextRotation
		return t.rotateShared(ctx, &order{
			session: s, origin: asked, cooldown: bind.Cooldown, bind: bind, outcome: target.OutcomeStored, shared: r,
		})
	})
	b.shared.finish(ref, r, state, bind, err)
}

// rotateShared is the rotation itself, for a caller as for the clock. Whoever has the
// turn finishes it.
func (t *turn) rotateShared(ctx context.Context, o *order) error {
	m, err := t.rotate(ctx, o)
	if err == nil {
		o.shared.warnings = m.Warnings
	}
	return err
}

// joinPlacements keeps the words of all who shared a rotation.
func joinPlacements(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return clip(a+"; "+b, 4*maxLabelLength)
}

// scheduledBinding reads a binding by name, and returns nil unless it has
// rotate_on=schedule and points at this target.
func (b *backend) scheduledBinding(ctx context.Context, ref target.Ref, name string) (*binding, error) {
	bind, err := b.boundAs(ctx, ref, name)
	if bind == nil || !bind.scheduled() {
		return nil, err
	}
	return bind, nil
}
