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

// retireCredentials revokes what is due of a connector. C1 is called without
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

// retireCopies ends what is due of a decoy: the vended copy goes dead by a rotation
// whose material nobody is given, unless it is dead already.
func (t *turn) retireCopies(ctx context.Context, out *settled) error {
	ended := endings{}
	for _, r := range t.state.DueEnds(t.now()) {
		err := t.endCopy(ctx, r.Version)
		ended[r.Version] = err
		out.asked(err)
		out.next = time.Time{}
	}
	if len(ended) == 0 {
		return nil
	}
	return t.save(ctx, t.retired(ctx, t.state, ended))
}

// endCopy makes a vended copy of a decoy dead, if it is still the current one.
func (t *turn) endCopy(ctx context.Context, version int) error {
	if t.state.Version != version {
		return nil
	}
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	if err := s.serves(t.state.Tenant); err != nil {
		return err
	}
	look, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.client.DecoyExistence(look, t.ref.DecoyID)
	if err != nil {
		return err
	}
	t.state = t.noteDecoy(ctx, t.state, found.Decoy)
	vended := "" // of a state that was lost nobody knows, so the copy counts as alive
	if t.state.Current != nil {
		vended = t.state.Current.Fingerprint
	}
	if found.Gone || target.Differs(found.Decoy.FingerprintSHA256, vended) {
		return nil
	}
	o := &order{session: s, origin: target.Origin{Reason: target.ReasonLeaseEnd}, outcome: target.OutcomeDiscarded}
	if o.bind, err = t.boundAs(ctx, t.ref, t.state.Binding); err != nil {
		return err
	}
	if o.keeps() {
		o.outcome = target.OutcomeStored
	}
	_, err = t.rotate(context.WithoutCancel(ctx), o)
	return err
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
		if ref.Kind != target.Decoy {
			return hastened, nil
		}
		if err := t.save(ctx, hastened); err != nil {
			return nil, err
		}
		err := t.retireCopies(ctx, out)
		return t.state, err
	})
	if err != nil || hastened == nil || ref.Kind == target.Decoy {
		return err
	}
	return b.retireCredentials(ctx, hastened, out)
}
