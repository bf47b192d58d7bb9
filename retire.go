// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"time"
)

// endings is what became of retirements, by version.
type endings map[int]error

// revokeAtC1 revokes exactly this credential. It may be repeated. Without an error
// C1 has said so, or that the credential is gone.
func (b *backend) revokeAtC1(ctx context.Context, s *session, ref targetRef, credentialID string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	why, err := s.client.EndConnectorCredential(ctx, ref.AppID, ref.ConnectorID, credentialID)
	if err == nil {
		b.Logger().Debug("a credential has ended", "target", ref.String(), "credential_id", credentialID, "evidence", why)
	}
	return err
}

// retired puts the result of one try to end a credential into the state: gone,
// or to be tried again.
func (t *target) retired(version int, err error, now time.Time) {
	i := t.retirementOf(version)
	if i < 0 {
		return
	}
	if err == nil {
		t.dropRetirement(version)
		if rec := t.recordOf(version); rec != nil {
			rec.EndedAt = now
		}
		return
	}
	r := &t.Retire[i]
	r.Failures++
	r.LastError = err.Error()
	r.At = now.Add(retryIn(r.Failures))
}

// retireCredentials revokes what is due of a connector. C1 is called without
// the target's lock: revoking one credential does not disturb the rotation of
// another, and a slow C1 must not hold up readers.
func (b *backend) retireCredentials(ctx context.Context, t *target, out *settled) error {
	var due []retirement
	for _, r := range t.Retire {
		if !r.At.After(b.now()) {
			due = append(due, r)
		}
	}
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
			turn, noTurn := b.turn(ctx, s, out)
			if noTurn != nil {
				break
			}
			err = b.revokeAtC1(turn, s, t.Ref, r.CredentialID)
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
		return nil // no turn: all of them are still due
	}
	out.next = time.Time{}
	return b.recordEndings(ctx, t.Ref, ended)
}

// recordEndings stores what became of retirements.
func (b *backend) recordEndings(ctx context.Context, ref targetRef, ended endings) error {
	return b.change(ctx, ref, func(t *target) (bool, error) {
		for version, err := range ended {
			t.retired(version, err, b.now())
		}
		return true, nil
	})
}

// retireDecoyCopies ends what is due of a decoy: the vended copy goes dead by a
// rotation whose material nobody is given, unless it is dead already.
func (b *backend) retireDecoyCopies(ctx context.Context, ref targetRef, out *settled) error {
	return b.change(ctx, ref, func(t *target) (bool, error) {
		ended := endings{}
		for _, r := range t.Retire {
			if !r.At.After(b.now()) {
				err := b.endDecoyCopy(ctx, t, r.Version)
				ended[r.Version] = err
				out.asked(err)
				out.next = time.Time{}
			}
		}
		for version, err := range ended {
			t.retired(version, err, b.now())
		}
		return len(ended) > 0, nil
	})
}

// endDecoyCopy makes a vended copy of a decoy dead, if it is still the current
// one. The caller holds the target's lock.
func (b *backend) endDecoyCopy(ctx context.Context, t *target, version int) error {
	if t.Version != version {
		return nil
	}
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	if err := s.serves(t.Tenant); err != nil {
		return err
	}
	t.historyLimit = s.config.HistoryLimit
	look, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.client.DecoyExistence(look, t.Ref.DecoyID)
	if err != nil {
		return err
	}
	b.noteDecoy(ctx, t, found.Decoy)
	vended := "" // of a state that was lost nobody knows, so the copy counts as alive
	if t.Current != nil {
		vended = t.Current.Fingerprint
	}
	if found.Gone || differs(found.Decoy.FingerprintSHA256, vended) {
		return nil
	}
	order := rotation{session: s, target: t, origin: origin{Reason: reasonLeaseEnd}, outcome: outcomeDiscarded}
	if order.bind, err = b.boundAs(ctx, t.Ref, t.Binding); err != nil {
		return err
	}
	if order.stores() {
		order.outcome = outcomeStored
	}
	_, err = b.rotate(context.WithoutCancel(ctx), order)
	return err
}

// hasten makes retirements due at once.
func (b *backend) hasten(ctx context.Context, ref targetRef, which func(retirement) bool) error {
	return b.change(ctx, ref, func(t *target) (bool, error) {
		for i, r := range t.Retire {
			if which(r) {
				t.Retire[i].At = b.now()
			}
		}
		return true, nil
	})
}

// disableTimeout bounds how long a mount that is being disabled tries to end
// what it has vended.
const disableTimeout = time.Minute

// endEverything ends every credential whose end is planned, due or not. What is
// left is logged by its IDs, since nothing else will know of it.
func (b *backend) endEverything(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disableTimeout)
	defer cancel()
	err := walkTargets(ctx, b.store, func(t *target) error {
		if len(t.Retire) > 0 {
			if err := b.endTarget(ctx, t.Ref, func(retirement) bool { return true }); err != nil {
				b.Logger().Error("could not end what is alive at C1 before this mount is gone", "target", t.Ref.String(), "error", err)
			}
		}
		left, err := readTarget(ctx, b.store, t.Ref)
		if err != nil || left == nil {
			return err
		}
		if left.Scheduled && left.hasMaterial() {
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

// endTarget ends at once those credentials of one target whose end is planned.
func (b *backend) endTarget(ctx context.Context, ref targetRef, which func(retirement) bool) error {
	if err := b.hasten(ctx, ref, which); err != nil {
		return err
	}
	if ref.Kind == kindDecoy {
		return b.retireDecoyCopies(ctx, ref, &settled{})
	}
	t, err := readTarget(ctx, b.store, ref)
	if err != nil || t == nil {
		return err
	}
	return b.retireCredentials(ctx, t, &settled{})
}
