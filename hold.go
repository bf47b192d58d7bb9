// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Between two tries to store material that is held.
const (
	holdFirst   = time.Second
	holdLongest = 30 * time.Second
)

// storeKept stores the outcome for the readers of a scheduled binding. Then nobody
// needs to look on behalf of the attempt any more.
func (t *turn) storeKept(ctx context.Context, next *target.State, attemptMinute int64) error {
	stored, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	nextMinute, err := t.storeReadable(stored, next)
	if err == nil && nextMinute != attemptMinute {
		_ = t.agenda.Drop(stored, attemptMinute, t.name) // if it stays it costs a look
	}
	return err
}

// storeReadable stores a state whose material readers can have. It is known to lookup
// before, and so is when to look next: in the minute that it returns.
func (t *turn) storeReadable(ctx context.Context, next *target.State) (nextMinute int64, err error) {
	err = parallel(
		func() (err error) {
			if step := next.Next(t.now()); step.Do != target.Nothing {
				nextMinute, err = t.agenda.Put(ctx, t.name, step.At)
			}
			return err
		},
		func() error { return t.writeIndex(ctx, next, currentKeys(next)) },
	)
	if err == nil {
		err = t.storeOutcome(ctx, next)
	}
	return nextMinute, err
}

// holdUntilStored keeps the material of a scheduled target in memory, which is
// the only place it exists in, until storage takes it or the plugin stops. To
// revoke it would be worse: the credential before it may be dead already.
func (t *turn) holdUntilStored(ctx context.Context, o *order, next *target.State, attemptMinute int64, cause error) error {
	failed := failWith(statusOutcomeUnknown,
		"outcome not stored: C1 rotated %s, and Vault's storage refused the result (%s); the engine holds it in memory and stores it as soon as storage accepts it", t.ref, cause)
	t.Logger().Error("holding material that storage refuses", "target", t.ref.String(), "version", next.Version, "error", cause)
	if o.shared != nil {
		t.shared.finish(t.ref, o.shared, nil, nil, failed) // nobody has to wait for that
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	steps := backoff.NewExponentialBackOff()
	steps.InitialInterval, steps.MaxInterval = holdFirst, holdLongest
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		mine, err := t.stillMine(ctx, next)
		if err == nil && !mine {
			return struct{}{}, backoff.Permanent(errors.New("another node has settled it meanwhile"))
		}
		if err == nil {
			err = t.storeKept(ctx, next, attemptMinute)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(steps), backoff.WithMaxElapsedTime(0))
	if err != nil {
		t.Logger().Error("gave up material that storage refused; the attempt is settled by rotating again",
			"target", t.ref.String(), "version", next.Version, "error", err)
		return failed
	}
	t.announce(ctx, next.Newest)
	return nil
}

// stillMine reports whether the stored state waits for this outcome, or holds it
// already.
func (t *turn) stillMine(ctx context.Context, next *target.State) (bool, error) {
	stored, err := readState(ctx, t.store, t.ref)
	switch {
	case err != nil || stored == nil:
		return false, err
	case stored.Attempt != nil:
		return stored.Attempt.ID == next.Newest.ID, nil
	default:
		return stored.Version == next.Version && stored.Current != nil && stored.Current.RotatedAt.Equal(next.Current.RotatedAt), nil
	}
}
