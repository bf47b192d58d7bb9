// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// decoyState is what C1 said last of a decoy, beside its fingerprint.
type decoyState struct {
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	Disabled   bool      `json:"disabled,omitempty"`
}

// checkEvery is how often C1 is asked what has become of a binding's target; 0 is
// never. Of a leased connector only its leases know what is alive.
func (c *config) checkEvery(bind *binding) time.Duration {
	switch {
	case bind == nil || !bind.scheduled() && bind.Ref.Kind != kindDecoy:
		return 0
	case bind.CheckPeriod > 0:
		return bind.CheckPeriod
	default:
		return c.DriftCheckPeriod
	}
}

// planCheck plans when to ask C1 next what has become of the target, unless that
// is planned already, or a rotation comes first and makes it needless.
func (t *target) planCheck(every time.Duration, now time.Time) {
	last := t.CheckedAt
	if t.Current != nil {
		last = later(last, t.Current.RotatedAt)
	}
	if last.IsZero() || last.After(now) {
		last = now
	}
	if t.VerifyAt.IsZero() && every > 0 {
		at := later(now, last.Add(every-t.Splay.of(every/10)))
		if !t.NextRotation.After(now) || at.Before(t.NextRotation) {
			t.VerifyAt = at
		}
	}
	if !t.hasMaterial() {
		return
	}
	if expires := t.Current.ExpiresAt; expires.After(now) && (t.VerifyAt.IsZero() || expires.Before(t.VerifyAt)) {
		t.VerifyAt = expires
	}
}

// replanCheck plans the next check by a period that may be another one now, and
// reports whether that moved it. A second look stays where it is.
func (t *target) replanCheck(every time.Duration, now time.Time) (moved bool) {
	if t.FollowsUnknown {
		return false
	}
	before := t.VerifyAt
	t.VerifyAt = time.Time{}
	t.planCheck(every, now)
	return !t.VerifyAt.Equal(before)
}

// lookAgain asks C1 what has become of the target: somebody else may have rotated
// it, Vault may have been restored from an older snapshot, C1 may have committed a
// request of unknown outcome late, or somebody used a decoy. Only after a late
// commit the clock rotates again, since the other owner is this mount itself.
func (b *backend) lookAgain(ctx context.Context, s *session, t *target, out *settled) error {
	if t.Attempt != nil || t.Ref.Kind == kindConnector && !t.currentAlive() {
		t.VerifyAt = time.Time{}
		return nil // whatever closes the attempt plans the next look
	}
	bind, err := b.boundAs(ctx, t.Ref, t.Binding)
	if err != nil {
		return err
	}
	ctx, err = b.turn(ctx, s, out)
	if err != nil {
		return nil //nolint:nilerr // no turn: it is due as before
	}
	drifted, err := b.compare(ctx, s, t)
	out.asked(err)
	if err != nil {
		t.VerifyAt = b.now().Add(retryIn(1))
		b.Logger().Warn("could not look at a target again; trying later", "target", t.Ref.String(), "error", err)
		return nil
	}
	again := t.noteDrift(drifted)
	if drifted != "" && !again {
		b.Logger().Warn("C1 holds something other than what was vended last", "target", t.Ref.String(), "version", t.Version, "detail", drifted)
	}
	t.CheckedAt, t.VerifyAt = b.now(), time.Time{}
	if t.Scheduled && drifted != "" && t.FollowsUnknown {
		t.NextRotation = b.now()
	} else {
		t.FollowsUnknown = false
	}
	t.planCheck(s.config.checkEvery(bind), b.now())
	return nil
}

// currentAlive reports whether something was vended that the engine has not ended
// itself.
func (t *target) currentAlive() bool {
	rec := t.recordOf(t.Version)
	return t.Current != nil && (rec == nil || rec.EndedAt.IsZero())
}

// noteDrift takes what a look found, and reports whether it was known.
func (t *target) noteDrift(drifted string) (known bool) {
	if t.Current == nil {
		return false // nothing was vended that could have drifted
	}
	if known = drifted != "" && t.Current.Drifted != ""; !known {
		t.Current.Drifted = drifted
	}
	return known
}

// compare asks C1 for what was vended last and returns what is wrong with it.
func (b *backend) compare(ctx context.Context, s *session, t *target) (drifted string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	why := "somebody else rotated it, or Vault was restored from an older snapshot"
	if t.FollowsUnknown {
		why = "a request of unknown outcome was committed late"
	}
	if t.Ref.Kind == kindDecoy {
		return b.compareDecoy(ctx, s, t, why)
	}
	found, err := s.client.ConnectorCredentialExistence(ctx, t.Ref.AppID, t.Ref.ConnectorID, t.Current.CredentialID)
	switch {
	case err != nil || !found.Gone:
		return "", err
	case found.Credential != nil && found.Credential.DeletedAt.IsZero():
		return "the credential expired at " + rfc3339(found.Credential.ExpiresAt) + "; rotate again", nil
	default:
		return fmt.Sprintf("C1 no longer holds the vended credential (%s): %s; rotate again", found.Why, why), nil
	}
}

func (b *backend) compareDecoy(ctx context.Context, s *session, t *target, why string) (drifted string, err error) {
	found, err := s.client.DecoyExistence(ctx, t.Ref.DecoyID)
	switch {
	case err != nil:
		return "", err
	case found.Gone:
		return "the decoy is gone at C1 (" + found.Why + ")", nil
	}
	b.noteDecoy(ctx, t, found.Decoy)
	if t.Current == nil {
		t.Baseline = found.Decoy.FingerprintSHA256
		return "", nil
	}
	if differs(found.Decoy.FingerprintSHA256, t.Current.Fingerprint) {
		return "C1 shows another fingerprint than the vended one: " + why + "; rotate again", nil
	}
	return "", nil
}

// noteDecoy takes what C1 says of a decoy into the state, which the caller
// stores. That it was used is sent as an event, at least once.
func (b *backend) noteDecoy(ctx context.Context, t *target, decoy *c1api.Decoy) {
	if decoy == nil {
		return
	}
	before := t.Decoy
	t.CheckedAt = b.now()
	t.Decoy = &decoyState{LastUsedAt: decoy.LastUsedAt, Disabled: decoy.Disabled}
	if before == nil || !decoy.LastUsedAt.After(before.LastUsedAt) {
		return // what was before this mount knew of it is no news
	}
	b.Logger().Warn("a decoy was used", "target", t.Ref.String(), "binding", t.Binding, "last_used_at", rfc3339(decoy.LastUsedAt))
	bindings, _ := t.Ref.Kind.paths()
	b.sendEvent(ctx, "decoy-used",
		logical.EventMetadataModified, "true",
		logical.EventMetadataOperation, "check",
		logical.EventMetadataPath, bindings+"/"+t.Binding,
		logical.EventMetadataDataPath, bindings+"/"+t.Binding,
		"name", t.Binding,
		"decoy_id", t.Ref.DecoyID,
		"last_used_at", rfc3339(decoy.LastUsedAt),
	)
}

// replanKey marks that the checks of all bindings are to be planned anew, since
// drift_check_period changed. It is written before the config and outlives a
// death of the process.
const replanKey = "replan"

// replanner plans the checks of all bindings anew, one at a time. Nobody waits for
// it.
type replanner struct {
	wanted  atomic.Bool // the mark may be there
	running atomic.Bool
}

// replanInBackground plans all checks anew if that is marked and nobody is at it.
// What fails is tried again when Vault wakes the worker next.
func (b *backend) replanInBackground() {
	r := &b.replan
	if !r.wanted.Load() || !r.running.CompareAndSwap(false, true) {
		return
	}
	if !b.work.enter() {
		r.running.Store(false)
		return
	}
	go func() {
		defer b.work.leave()
		defer r.running.Store(false)
		for r.wanted.CompareAndSwap(true, false) {
			if err := b.replanChecks(b.life); err != nil {
				r.wanted.Store(true)
				if b.life.Err() == nil {
					b.Logger().Error("could not plan all checks anew; trying again in a minute", "error", err)
				}
				return
			}
		}
	}()
}

// replanChecks reads each binding once, and removes the mark when all of them are
// planned. A mark that was written meanwhile stays.
func (b *backend) replanChecks(ctx context.Context) error {
	mark, err := b.store.Get(ctx, replanKey)
	if err != nil || mark == nil {
		return err
	}
	var failed error
	for _, k := range []kind{kindConnector, kindDecoy} {
		names, err := bindingNames(ctx, b.store, k)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := b.replanBinding(ctx, k, name); err != nil {
				failed = err // a busy one does not hold up the others
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	if failed != nil {
		return failed
	}
	now, err := b.store.Get(ctx, replanKey)
	if err != nil || now == nil || string(now.Value) != string(mark.Value) {
		return err
	}
	return b.store.Delete(ctx, replanKey)
}

func (b *backend) replanBinding(ctx context.Context, k kind, name string) error {
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return err
	}
	return b.change(ctx, bind.Ref, func(t *target) (bool, error) {
		cfg, err := readConfig(ctx, b.store)
		if err != nil || cfg == nil || t.Binding != name {
			return false, err
		}
		return t.replanCheck(cfg.checkEvery(bind), b.now()), nil
	})
}
