// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// keep makes the material of the newest rotation what readers get, plans the
// next turn, and plans the end of the credential before it where the binding
// has a grace_period.
func (t *target) keep(bind *binding, cfg *config, m *material, previous *credential) {
	cur := t.Current
	t.Scheduled = true
	cur.Material = m.Data
	t.NextRotation = bind.Schedule.nextTurn(cur, t.Splay, cur.RotatedAt)
	t.planCheck(cfg.checkEvery(bind), cur.RotatedAt)
	if previous == nil || previous.CredentialID == "" || bind.GracePeriod == 0 {
		return
	}
	version := t.Version - 1
	rec := t.recordOf(version)
	if t.retirementOf(version) >= 0 || rec != nil && !rec.EndedAt.IsZero() {
		return // a lease owns its end, or it has ended
	}
	end := retirement{Version: version, CredentialID: previous.CredentialID, At: cur.RotatedAt.Add(bind.GracePeriod)}
	t.Retire = append(t.Retire, end)
	if rec != nil {
		rec.EndsAt = end.At
	}
}

// unschedule forgets all that a scheduled target has. The credential itself
// stays at C1 as it is.
func (t *target) unschedule() {
	t.Scheduled, t.NextRotation, t.Trouble = false, time.Time{}, nil
	if t.Current != nil {
		t.Current.Material = nil
	}
}

// concernsAll reports whether a failure says nothing of the one target: C1 is
// out of reach, or refuses this mount's identity.
func concernsAll(err error) bool {
	e := c1api.AsError(err)
	if e == nil {
		return false
	}
	switch e.Reason {
	case c1api.ReasonNotSent, c1api.ReasonUnavailable, c1api.ReasonRateLimited, c1api.ReasonIdentity:
		return true
	default:
		return false
	}
}

// lasting says how many steps later in the row of waits a failure begins that
// will hardly heal by itself.
const lasting = 3

// troubled plans the next try of a scheduled rotation that failed. What C1
// refuses is tried slowly from the start; an unknown outcome is tried again as
// soon as it can be settled, the first time.
func (t *target) troubled(cfg *config, now time.Time, cause error) {
	if t.Trouble == nil {
		t.Trouble = &trouble{Since: now}
	}
	f := t.Trouble
	f.Failures++
	f.Error, f.Revision = cause.Error(), cfg.Revision
	switch unknown := t.Attempt != nil && c1api.OutcomeUnknown(cause); {
	case unknown && f.Failures == 1:
		f.NextTry = t.Attempt.SettleAt
	case unknown:
		f.NextTry = later(t.Attempt.SettleAt, now.Add(retryIn(f.Failures-1)))
	default:
		f.NextTry = now.Add(retryIn(f.Failures + lasting))
	}
}

// Between two tries to store material that is held.
const (
	holdFirst   = time.Second
	holdLongest = 30 * time.Second
)

// holdUntilStored keeps the material of a scheduled target in memory, which is
// the only place it exists in, until storage takes it or the plugin stops. To
// revoke it would be worse: the credential before it may be dead already.
func (b *backend) holdUntilStored(ctx context.Context, r rotation, a *attempt, cause error) error {
	t := r.target
	failed := failWith(statusOutcomeUnknown,
		"outcome not stored: C1 rotated %s, and Vault's storage refused the result (%s); it is held in memory and stored as soon as storage takes it", t.Ref, cause)
	b.Logger().Error("holding material that storage refuses", "target", t.Ref.String(), "version", t.Version, "error", cause)
	if r.held != nil {
		r.held(failed)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	steps := backoff.NewExponentialBackOff()
	steps.InitialInterval, steps.MaxInterval = holdFirst, holdLongest
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		mine, err := b.stillMine(ctx, t, a.ID)
		if err == nil && !mine {
			return struct{}{}, backoff.Permanent(errors.New("another node has settled it meanwhile"))
		}
		if err == nil {
			err = b.storeKept(ctx, t, a)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(steps), backoff.WithMaxElapsedTime(0))
	if err != nil {
		b.Logger().Error("gave up material that storage refused; the attempt is settled by rotating again",
			"target", t.Ref.String(), "version", t.Version, "error", err)
		return failed
	}
	b.announce(ctx, t, *t.recordOf(t.Version))
	return nil
}

// stillMine reports whether the stored state waits for the outcome of this
// attempt, or holds it already in part.
func (b *backend) stillMine(ctx context.Context, t *target, attemptID string) (bool, error) {
	stored, err := readTarget(ctx, b.store, t.Ref)
	switch {
	case err != nil || stored == nil:
		return false, err
	case stored.Attempt != nil:
		return stored.Attempt.ID == attemptID, nil
	default:
		return stored.Version == t.Version && stored.Current != nil && stored.Current.RotatedAt.Equal(t.Current.RotatedAt), nil
	}
}
