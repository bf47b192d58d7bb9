// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

const (
	retryBase = time.Minute
	retryMax  = time.Hour
)

// settle does whatever is due for a target by its state: it closes an attempt
// whose outcome is unknown, looks a second time at a credential that followed
// one, and ends what is to be retired. It is woken by a due entry, which its
// caller drops only when it returns nil.
func (b *backend) settle(ctx context.Context, ref targetRef) error {
	if !b.work.enter() {
		return context.Canceled
	}
	defer b.work.leave()

	t, err := b.settleState(ctx, ref)
	if err != nil || t == nil {
		return err
	}
	if ref.Kind == kindDecoy {
		return b.retireDecoyCopies(ctx, ref)
	}
	return b.retireCredentials(ctx, t)
}

// settleState settles what concerns the current version, under the target's
// lock, and returns the state, or nil when there is none.
func (b *backend) settleState(ctx context.Context, ref targetRef) (*target, error) {
	unlock, err := b.lockTarget(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t, err := readTarget(ctx, b.storage, ref)
	if err != nil || t == nil {
		return nil, err
	}
	now := b.now()
	attemptDue := t.Attempt != nil && !t.Attempt.Settled && !now.Before(t.Attempt.SettleAt)
	verifyDue := !t.VerifyAt.IsZero() && !now.Before(t.VerifyAt)
	if !attemptDue && !verifyDue {
		return t, b.putNextLook(ctx, t)
	}
	s, err := b.session(ctx, b.storage)
	if err != nil {
		return nil, err
	}
	t.historyLimit = s.config.HistoryLimit
	if attemptDue {
		b.settleAttempt(ctx, s, t)
	}
	if verifyDue {
		b.lookAgain(ctx, s, t)
	}
	return t, b.storeWithNextLook(ctx, t)
}

// settleAttempt decides an attempt that C1 can no longer commit late. A decoy's
// fingerprint tells whether C1 rotated it; for anything else the outcome stays
// unknown, and the target ambiguous, until the next rotation.
func (b *backend) settleAttempt(ctx context.Context, s *session, t *target) {
	a := t.Attempt
	if a.Unknown == "" {
		a.Unknown = "the plugin or Vault stopped while C1 was being asked"
	}
	known := t.knownFingerprint()
	if t.Ref.Kind != kindDecoy || known == "" {
		a.Settled = true
		return
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	decoy, err := s.client.GetDecoy(ctx, t.Ref.DecoyID)
	switch {
	case isGone(err):
		a.Settled = true
		a.Unknown = "the decoy is gone at C1; delete this binding"
	case err != nil:
		a.SettleAt = b.now().Add(retryIn(1))
		b.Logger().Warn("could not compare a decoy's fingerprint; trying again", "target", t.Ref.String(), "error", err)
	case differs(decoy.FingerprintSHA256, known):
		a.Settled = true
		a.Unknown = "C1 rotated the decoy and the material was lost, so no planted copy matches it; rotate it again"
	default:
		t.addRecord(record{
			origin: a.origin, Outcome: outcomeFailed, FinishedAt: b.now(),
			Error: "C1 did not rotate: the decoy still shows the fingerprint from before",
		})
		t.Attempt = nil
	}
}

// lookAgain checks that C1 still holds what was vended after an attempt of
// unknown outcome, which it may have committed late.
func (b *backend) lookAgain(ctx context.Context, s *session, t *target) {
	cur := t.Current
	t.VerifyAt = time.Time{}
	if cur == nil || t.Attempt != nil {
		return
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var drifted string
	var err error
	if t.Ref.Kind == kindDecoy {
		var decoy *c1api.Decoy
		if decoy, err = s.client.GetDecoy(ctx, t.Ref.DecoyID); err == nil && differs(decoy.FingerprintSHA256, cur.Fingerprint) {
			drifted = "C1 shows another fingerprint than the vended one: a request of unknown outcome was committed late; rotate again"
		}
	} else if rec := t.recordOf(t.Version); rec == nil || rec.EndedAt.IsZero() {
		var c *c1api.ConnectorCredential
		c, err = s.client.GetConnectorCredential(ctx, t.Ref.AppID, t.Ref.ConnectorID, cur.CredentialID)
		if isGone(err) || (err == nil && !c.DeletedAt.IsZero()) {
			err = nil
			drifted = "C1 no longer holds the vended credential: a request of unknown outcome was committed late; rotate again"
		}
	}
	if err != nil {
		t.VerifyAt = b.now().Add(retryIn(1))
		b.Logger().Warn("could not look at a credential again; trying later", "target", t.Ref.String(), "error", err)
		return
	}
	cur.Drifted = drifted
}

// isGone reports a 404 in C1's own error form. Anything else, such as a 404 of
// a proxy, says nothing about the object.
func isGone(err error) bool {
	e := c1api.AsError(err)
	return e != nil && e.Reason == c1api.ReasonNotFound && e.FromC1
}

// retryIn is the wait after the n-th failure in a row: exponential, jittered.
func retryIn(failures int) time.Duration {
	d := retryBase << min(failures-1, 6)
	d = min(d, retryMax)
	return d + time.Duration(rand.Int64N(int64(d/4))) //nolint:gosec // jitter, not a secret
}

// putNextLook writes the due entry for the next thing to do, if there is one.
func (b *backend) putNextLook(ctx context.Context, t *target) error {
	next := t.nextLook()
	if next.IsZero() {
		return nil
	}
	return b.due.put(ctx, t.Ref, next)
}

// change lets do change a target's state under its lock, and stores it with its
// next due entry if do says so. Without a state do is not called.
func (b *backend) change(ctx context.Context, ref targetRef, do func(*target) (store bool, err error)) error {
	unlock, err := b.lockTarget(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := readTarget(ctx, b.storage, ref)
	if err != nil || t == nil {
		return err
	}
	store, err := do(t)
	if err != nil || !store {
		return err
	}
	return b.storeWithNextLook(ctx, t)
}

// storeWithNextLook writes the next due entry and then the state that relies on
// it.
func (b *backend) storeWithNextLook(ctx context.Context, t *target) error {
	store, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := b.putNextLook(store, t); err != nil {
		return err
	}
	return writeTarget(store, b.storage, t, "")
}
