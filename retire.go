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

// revokeAtC1 revokes exactly this credential. It may be repeated: a 404 in C1's
// own error form means that it is gone.
func (b *backend) revokeAtC1(ctx context.Context, s *session, ref targetRef, credentialID string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.client.RevokeConnectorCredential(ctx, ref.AppID, ref.ConnectorID, credentialID)
	if isGone(err) {
		return nil
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
func (b *backend) retireCredentials(ctx context.Context, t *target) error {
	var due []retirement
	for _, r := range t.Retire {
		if !r.At.After(b.now()) {
			due = append(due, r)
		}
	}
	if len(due) == 0 {
		return nil
	}
	s, err := b.session(ctx, b.storage)
	if err != nil {
		return err
	}
	ended := endings{}
	for _, r := range due {
		err := s.serves(cmp.Or(r.Tenant, t.Tenant))
		if err == nil {
			err = b.revokeAtC1(ctx, s, t.Ref, r.CredentialID)
		}
		ended[r.Version] = err
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.Logger().Warn("could not end a credential; trying again", "target", t.Ref.String(), "version", r.Version,
				"credential_id", r.CredentialID, "failures", r.Failures+1, "error", err)
		}
	}
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
func (b *backend) retireDecoyCopies(ctx context.Context, ref targetRef) error {
	return b.change(ctx, ref, func(t *target) (bool, error) {
		ended := endings{}
		for _, r := range t.Retire {
			if !r.At.After(b.now()) {
				ended[r.Version] = b.endDecoyCopy(ctx, t, r.Version)
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
	s, err := b.session(ctx, b.storage)
	if err != nil {
		return err
	}
	if err := s.serves(t.Tenant); err != nil {
		return err
	}
	t.historyLimit = s.config.HistoryLimit
	look, cancel := s.bound(ctx)
	defer cancel()
	decoy, err := s.client.GetDecoy(look, t.Ref.DecoyID)
	if isGone(err) || (err == nil && differs(decoy.FingerprintSHA256, t.Current.Fingerprint)) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = b.rotate(context.WithoutCancel(ctx), rotation{
		session: s, target: t, origin: origin{Reason: reasonLeaseEnd}, outcome: outcomeDiscarded,
	})
	return err
}
