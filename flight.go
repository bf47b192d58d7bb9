// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"sync"
	"time"
)

// flight is one rotation of a scheduled binding, which all share who ask for
// one before C1 has answered it.
type flight struct {
	done chan struct{}
	err  error    // set before done is closed
	t    *target  // the state as it was stored then; not changed any more
	bind *binding // as it was then
	// moved is the turn that was next before a caller rotated out of turn; zero
	// if there was none.
	moved time.Time

	// guarded by flights.mu
	boarding   bool // others may still come along
	callers    int
	placements []string // of those who came along
	warnings   []string // of the rotation that succeeded
	landed     bool
}

// flights are the rotations of scheduled bindings that are under way.
type flights struct {
	mu       sync.Mutex
	boarding map[targetRef]*flight
}

// join returns the flight to share, and whether the caller has to fly it.
func (f *flights) join(ref targetRef, placement string) (shared *flight, pilot bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.boarding == nil {
		f.boarding = map[targetRef]*flight{}
	}
	fl := f.boarding[ref]
	if fl == nil {
		fl = &flight{done: make(chan struct{}), boarding: true}
		f.boarding[ref] = fl
		pilot = true
	} else if placement != "" {
		fl.placements = append(fl.placements, placement)
	}
	fl.callers++
	return fl, pilot
}

// close ends the boarding: who comes now needs a rotation of his own. It
// returns the placements of those who came along.
func (f *flights) close(ref targetRef, fl *flight) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.boarding {
		fl.boarding = false
		delete(f.boarding, ref)
	}
	return fl.placements
}

// land answers everybody on board; only the first call counts.
func (f *flights) land(ref targetRef, fl *flight, t *target, bind *binding, err error) {
	f.close(ref, fl)
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.landed {
		return
	}
	fl.landed = true
	if err == nil {
		// What settle changes afterwards must not reach the answers.
		state, cur := *t, *t.Current
		state.Current = &cur
		fl.t = &state
	}
	fl.bind, fl.err = bind, err
	close(fl.done)
}

// rotated is what the callers of a shared rotation get.
type rotated struct {
	*flight
	shared bool // somebody else had begun it
}

// rotateKept rotates a scheduled binding for somebody who asks, or lets him
// share the rotation that is under way.
func (b *backend) rotateKept(ctx context.Context, ref targetRef, name string, asked origin) (*rotated, error) {
	fl, pilot := b.flights.join(ref, asked.Placement)
	if pilot {
		if !b.work.enter() {
			err := errStopping()
			b.flights.land(ref, fl, nil, nil, err)
			return nil, err
		}
		go func() {
			defer b.work.leave()
			b.fly(context.WithoutCancel(ctx), fl, ref, name, asked)
		}()
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
		return nil, ctx.Err() // the rotation goes on, and what it brings is stored
	}
	if fl.err != nil {
		return nil, fl.err
	}
	return &rotated{flight: fl, shared: !pilot}, nil
}

// fly carries a flight out for a caller.
func (b *backend) fly(ctx context.Context, fl *flight, ref targetRef, name string, asked origin) {
	var t *target
	var bind *binding
	err := b.safely(ref, func() error {
		unlock, err := b.lockTarget(ctx, ref)
		if err != nil {
			return err
		}
		defer unlock()
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
		if t, err = b.targetToRotate(ctx, s, ref, name); err != nil {
			return err
		}
		if rec := t.recordOfRequest(asked.RequestID); rec != nil && rec.Outcome == outcomeStored && rec.Version == t.Version && t.hasMaterial() {
			return nil // Vault sent it again after a plugin died: this is its answer
		}
		fl.moved = t.NextRotation
		return b.rotateFlight(ctx, fl, rotation{
			session: s, target: t, origin: asked, cooldown: bind.Cooldown, bind: bind, outcome: outcomeStored,
		})
	})
	b.flights.land(ref, fl, t, bind, err)
}

// rotateFlight is the rotation itself, under the target's lock, for a caller as
// for the clock. Whoever holds the lock lands the flight.
func (b *backend) rotateFlight(ctx context.Context, fl *flight, r rotation) error {
	ref := r.target.Ref
	r.held = func(err error) { b.flights.land(ref, fl, nil, nil, err) }
	r.answered = func(a *attempt) {
		for _, placement := range b.flights.close(ref, fl) {
			a.Placement = joinPlacements(a.Placement, placement)
		}
	}
	m, err := b.rotate(ctx, r)
	if err == nil {
		fl.warnings = m.Warnings
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
func (b *backend) scheduledBinding(ctx context.Context, ref targetRef, name string) (*binding, error) {
	bind, err := b.boundAs(ctx, ref, name)
	if bind == nil || !bind.scheduled() {
		return nil, err
	}
	return bind, nil
}
