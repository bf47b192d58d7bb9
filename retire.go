// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// endings is what became of retirements, by version.
type endings map[int]error

// retireCredentials revokes what is due of a connector or the identity. C1 is called without
// the target's turn: revoking one credential does not disturb the rotation of
// another, and a slow C1 must not hold up readers.
func (b *backend) retireCredentials(ctx context.Context, t *target.State, out *settled) error {
	due := t.DueEnds(b.now())
	if len(due) == 0 {
		return nil
	}
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	ended := endings{}
	for _, r := range due {
		err := s.serves(cmp.Or(r.Tenant, t.Tenant))
		if err == nil {
			room, noRoom := awaitRoom(ctx, s, out)
			if noRoom != nil {
				break
			}
			err = b.revokeAtC1(room, s, t.Ref, r.CredentialID)
		}
		ended[r.Version] = err
		out.asked(err)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.Logger().Warn("could not end a credential; trying again", "target", t.Ref.String(), "version", r.Version,
				"credential_id", r.CredentialID, "failures", r.Failures+1, "error", err)
		}
	}
	if len(ended) == 0 {
		return nil // no room: all of them are still due
	}
	out.next = time.Time{}
	return b.recordEndings(ctx, t.Ref, ended)
}

// endedByID is what connectors and the identity have in common: C1 ends a credential by its ID,
// which disturbs no rotation, so it takes no turn.
type endedByID struct{}

func (endedByID) canBeSeen(state *target.State) bool { return state.CurrentAlive() }

func (endedByID) retireInTurn(context.Context, *turn, *settled) error { return nil }

func (endedByID) retire(ctx context.Context, b *backend, state *target.State, out *settled) error {
	return b.retireCredentials(ctx, state, out)
}

func (endedByID) endLeased(ctx context.Context, b *backend, s *session, l *lease) error {
	if err := b.revokeAtC1(ctx, s, l.Ref, l.CredentialID); err != nil {
		return err
	}
	// The credential is gone whatever happens here: its planned retirement
	// finds a 404 if this is not stored.
	if err := b.recordEndings(ctx, l.Ref, endings{l.Version: nil}); err != nil {
		b.Logger().Warn("could not record the end of a credential", "target", l.Ref.String(), "version", l.Version, "error", err)
	}
	return nil
}

// recordEndings stores what became of retirements.
func (b *backend) recordEndings(ctx context.Context, ref target.Ref, ended endings) error {
	return b.change(ctx, ref, func(t *turn) (*target.State, error) { return t.retired(ctx, t.state, ended), nil })
}

// retired puts what became of retirements into the state, and into the records that
// lie outside of it. A record that cannot be changed must not keep the state from
// saying so.
func (t *turn) retired(ctx context.Context, next *target.State, ended endings) *target.State {
	for version, err := range ended {
		i := next.PlannedEnd(version)
		if i < 0 {
			continue
		}
		planned := next.Retire[i].At
		next = next.Retired(t.now(), version, err)
		if err != nil {
			continue
		}
		failed := t.amend(ctx, version, func(r *target.Record) {
			r.EndedAt = t.now()
			if r.EndsAt.IsZero() {
				r.EndsAt = planned
			}
		})
		if failed != nil {
			t.Logger().Warn("could not note the end of a credential in its record", "target", t.ref.String(), "version", version, "error", failed)
		}
	}
	return next
}

// disableTimeout bounds how long a mount that is being disabled tries to end
// what it has vended.
const disableTimeout = time.Minute

// endEverything ends every credential whose end is planned, due or not. What is
// left is logged by its IDs, since nothing else will know of it.
func (b *backend) endEverything(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disableTimeout)
	defer cancel()
	err := walkStates(ctx, b.store, func(t *target.State) error {
		if len(t.Retire) > 0 {
			if err := b.endAll(ctx, t.Ref); err != nil {
				b.Logger().Error("could not end what is alive at C1 before this mount is gone", "target", t.Ref.String(), "error", err)
			}
		}
		left, err := readState(ctx, b.store, t.Ref)
		if err != nil || left == nil {
			return err
		}
		switch {
		case left.Ref == identityRef && left.CurrentAlive() && left.Current.Binding != "":
			b.Logger().Warn("the mount made this credential for itself; it stays alive at C1: end it there", "client_id", left.Current.ClientID)
		case left.Scheduled && left.HasMaterial():
			b.Logger().Warn("stays alive at C1 after this mount is gone: readers may hold it", "target", t.Ref.String(),
				"version", left.Version, "credential_id", left.Current.CredentialID)
		}
		for _, r := range left.Retire {
			b.Logger().Error("still alive at C1 and forgotten with this mount: end it there", "target", t.Ref.String(),
				"version", r.Version, "credential_id", r.CredentialID, "error", r.LastError)
		}
		if left.Attempt != nil {
			b.Logger().Error("a rotation of unknown outcome is forgotten with this mount: look at C1", "target", t.Ref.String())
		}
		return nil
	})
	if err != nil {
		b.Logger().Error("could not read what is still alive at C1 before this mount is gone", "error", err)
	}
}

// endAll ends all credentials of one target whose end is planned. While C1 is out of
// reach, or was so a moment ago, it tries again until ctx ends.
func (b *backend) endAll(ctx context.Context, ref target.Ref) error {
	for {
		out := &settled{}
		err := b.endTarget(ctx, ref, out, func(target.Retirement) bool { return true })
		if err != nil || !concernsAll(out.c1) {
			return err
		}
		again := time.NewTimer(max(c1api.AsError(out.c1).RetryAfter, time.Second))
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil // what is left says why
		}
	}
}

// endTarget ends at once those credentials of one target whose end is planned.
func (b *backend) endTarget(ctx context.Context, ref target.Ref, out *settled, which func(target.Retirement) bool) error {
	var hastened *target.State
	err := b.change(ctx, ref, func(t *turn) (*target.State, error) {
		hastened = t.state.Hastened(t.now(), which)
		if err := t.save(ctx, hastened); err != nil {
			return nil, err
		}
		err := b.kindOf(ref).retireInTurn(ctx, t, out)
		return t.state, err
	})
	if err != nil || hastened == nil {
		return err
	}
	return b.kindOf(ref).retire(ctx, b, hastened, out)
}
