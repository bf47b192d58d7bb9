// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

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
		if !b.work.Enter() {
			err := errStopping()
			b.shared.finish(ref, r, nil, nil, err)
			return nil, err
		}
		go func() {
			defer b.work.Leave()
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
		if key := b.kindOf(ref).alsoLocks(); key != "" {
			unlock, err := b.locks.Lock(ctx, key)
			if err != nil {
				return err
			}
			defer unlock()
		}
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
			return refuse("%s no longer has rotate_on=schedule", name)
		}
		s, err := b.session(ctx)
		if err != nil {
			return err
		}
		if err := t.reconcile(ctx); err != nil {
			return err
		}
		if err := t.claimedBy(s, name); err != nil {
			return err
		}
		rec, err := t.recordOfRequest(ctx, asked.RequestID)
		if err != nil {
			return err
		}
		if rec != nil && rec.Outcome == target.OutcomeStored && rec.Version == t.state.Version && t.state.Kept() {
			return nil // Vault sent it again after a plugin died: this is its answer
		}
		r.moved = t.state.RotationAt()
		return t.rotateShared(ctx, &order{
			session: s, origin: asked, cooldown: bind.Cooldown, bind: bind, outcome: target.OutcomeStored, shared: r,
		})
	})
	b.shared.finish(ref, r, state, bind, err)
}

// rotateShared is the rotation itself, for a caller as for the clock. Whoever has the
// turn finishes it.
func (t *turn) rotateShared(ctx context.Context, o *order) error {
	if err := t.kindOf(t.ref).prepare(ctx, t, o); err != nil {
		return err
	}
	m, err := t.rotate(ctx, o)
	if err == nil {
		o.shared.warnings = m.Warnings
	}
	return err
}

// explain says what a rotation out of turn did beside rotating.
func (r *rotated) explain(resp *logical.Response) {
	if r.shared {
		resp.AddWarning("this call shared a rotation that was under way")
	}
	// As it is shown: a fraction of a second is no move.
	if from, to := rfc3339(r.moved), rfc3339(r.t.RotationAt()); from != "" && to != "" && from != to {
		resp.AddWarning(fmt.Sprintf("the next scheduled rotation moved from %s to %s", from, to))
	}
	for _, warning := range r.warnings {
		resp.AddWarning(warning)
	}
	if r.t.Current.Drifted != "" {
		resp.AddWarning(r.t.Current.Drifted)
	}
}
