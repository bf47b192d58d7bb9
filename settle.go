// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

const (
	retryBase = time.Minute
	retryMax  = time.Hour
	// recently is how long after a rotation it may not have been looked at yet.
	recently = 2*longestRequestTimeout + 2*time.Minute
	// busyRetry is how much later a target is settled that somebody else has.
	busyRetry = time.Second
)

// settled is what a settlement found.
type settled struct {
	about string    // the target, once it is known; until then, its name in storage
	next  time.Time // when to look again on behalf of the same due entry; zero if it is done with
	c1    error     // what C1 said last; errNotAsked, or nil if it did what was asked
	// alone: the last try failed for this target while C1 answered others.
	alone bool
}

func (o *settled) String() string { return o.about }

// errNotAsked: a settlement had no reason to call C1.
var errNotAsked = errors.New("C1 was not asked")

// asked notes what C1 said. A failure that concerns all targets outweighs what
// came before and after it.
func (o *settled) asked(err error) {
	notC1 := err != nil && c1api.AsError(err) == nil // storage, say
	if !notC1 && !concernsAll(o.c1) {
		o.c1 = err
	}
}

// turn waits until a request to C1 has room in the limits. Without it the state
// stays as it is, and the look keeps its place.
func (b *backend) turn(ctx context.Context, s *session, out *settled) (context.Context, error) {
	turn, err := s.client.AwaitTurn(ctx)
	if err != nil {
		out.asked(err)
	}
	return turn, err
}

// settle does whatever is due for the target of this name by its state: it closes an attempt
// whose outcome is unknown, looks whether C1 still holds the current
// credential, rotates by the schedule, and ends what is to be retired. It is
// woken by a due entry, which its caller drops only when it returns nil. With
// out.alone, what would concern all targets is taken for this one's own failure.
func (b *backend) settle(ctx context.Context, name string, out *settled) error {
	out.c1 = errNotAsked
	if !b.work.enter() {
		return context.Canceled
	}
	defer b.work.leave()

	t, err := b.settleState(ctx, name, out)
	if err != nil || t == nil {
		return err
	}
	if t.Ref.Kind == kindDecoy {
		return b.retireDecoyCopies(ctx, t.Ref, out)
	}
	return b.retireCredentials(ctx, t, out)
}

// settleState settles what concerns the current version, under the target's
// lock, and returns the state, or nil when there is none or somebody else has
// its turn.
func (b *backend) settleState(ctx context.Context, name string, out *settled) (*target, error) {
	unlock, err := b.tryLockNamed(name)
	if err != nil {
		out.next = b.now().Add(busyRetry)
		return nil, nil
	}
	defer unlock()
	t, err := readTargetNamed(ctx, b.store, name)
	if err != nil || t == nil {
		return nil, err
	}
	out.about = t.Ref.String()
	now := b.now()
	replanned, err := b.replanned(ctx, t, now)
	if err != nil {
		return nil, err
	}
	attemptDue := t.Attempt != nil && !t.Attempt.Settled && !now.Before(t.Attempt.SettleAt)
	verifyDue := !t.VerifyAt.IsZero() && !now.Before(t.VerifyAt)
	if attemptDue || verifyDue || t.Scheduled && (t.Trouble != nil || !now.Before(t.rotationAt())) {
		s, err := b.session(ctx)
		if err != nil {
			return nil, err
		}
		t.historyLimit = s.config.HistoryLimit
		if attemptDue {
			b.settleAttempt(ctx, s, t, out)
			verifyDue = verifyDue && !now.Before(t.VerifyAt) // it may have planned a later one
		}
		if verifyDue {
			if err := b.lookAgain(ctx, s, t, out); err != nil {
				return nil, err
			}
		}
		stored, planned, err := b.rotateByClock(ctx, s, t, out)
		if err != nil {
			return nil, err
		}
		if planned {
			return t, nil
		}
		if (attemptDue || verifyDue) && !stored {
			return t, b.storeWithNextLook(ctx, t)
		}
	}
	if replanned {
		return t, b.storeWithNextLook(ctx, t)
	}
	if err := b.restoreIndex(ctx, t); err != nil {
		return nil, err
	}
	next := t.nextLook()
	now = b.now()
	if dueNow := !next.After(now); !next.IsZero() && (dueNow || b.agenda.Listed(next)) {
		// The entry that woke us stays until then. What is due even now waits
		// for somebody or something.
		if dueNow {
			next = now.Add(busyRetry)
		}
		out.next = next
		return t, nil
	}
	return t, b.putNextLook(ctx, t)
}

// replanned plans anew what a clock that was ahead has planned for a scheduled
// target, and reports whether that changed the state.
func (b *backend) replanned(ctx context.Context, t *target, now time.Time) (bool, error) {
	if !t.Scheduled {
		return false, nil
	}
	bind, err := b.scheduledBinding(ctx, t.Ref, t.Binding)
	if err != nil || bind == nil {
		return false, err
	}
	return t.replan(bind.Schedule, now), nil
}

// rotateByClock rotates a scheduled target whose turn has come, and reports
// whether that stored the state, and with it the due entry for the next look.
func (b *backend) rotateByClock(ctx context.Context, s *session, t *target, out *settled) (stored, planned bool, err error) {
	at := t.rotationAt()
	early := b.now().Before(at) && (t.Trouble == nil || t.Trouble.Revision == s.config.Revision)
	if at.IsZero() || early || b.System().Tainted() {
		return false, false, nil
	}
	bind, err := b.scheduledBinding(ctx, t.Ref, t.Binding)
	if err != nil {
		return false, false, err
	}
	if bind == nil {
		// The process died while the binding was written or deleted.
		t.unschedule()
		return true, true, b.storeWithNextLook(ctx, t)
	}
	if err := s.serves(t.Tenant); err != nil {
		t.troubled(s.config, b.now(), err)
		return true, true, b.storeWithNextLook(ctx, t)
	}
	turn, err := b.turn(ctx, s, out)
	if err != nil {
		return false, false, b.life.Err()
	}
	shared, leads := b.shared.join(t.Ref, "")
	if !leads {
		return false, false, nil // somebody who asked waits for this lock
	}
	err = b.safely(t.Ref, func() error {
		return b.rotateShared(turn, shared, rotation{
			session: s, target: t, origin: origin{Reason: t.clockReason()}, bind: bind, byClock: true, outcome: outcomeStored,
		})
	})
	b.shared.finish(t.Ref, shared, t, bind, err)
	var full *userError
	switch {
	case err == nil:
		out.asked(nil)
		return true, true, nil
	case out.alone && concernsAll(err):
		out.asked(err)
		t.troubled(s.config, b.now(), err)
		return true, true, b.storeWithNextLook(ctx, t)
	case c1api.AsError(err) != nil:
		out.asked(err)
		return true, false, nil //nolint:nilerr // what C1 said is told in out; the state is stored
	case errors.As(err, &full) && full.status == http.StatusTooManyRequests:
		t.troubled(s.config, b.now(), err) // before C1 was asked
		return true, true, b.storeWithNextLook(ctx, t)
	default:
		return false, false, err // storage
	}
}

// clockReason is why the clock rotates.
func (t *target) clockReason() string {
	switch {
	case t.Attempt != nil || t.FollowsUnknown && t.Current != nil && t.Current.Drifted != "":
		return reasonRecovery
	case !t.hasMaterial():
		return reasonInitial
	default:
		return reasonSchedule
	}
}

// settleAttempt decides an attempt that C1 can no longer commit late. A decoy's
// fingerprint tells whether C1 rotated it; for anything else the outcome stays
// unknown, and the target ambiguous, until the next rotation.
func (b *backend) settleAttempt(ctx context.Context, s *session, t *target, out *settled) {
	a := t.Attempt
	if a.Unknown == "" {
		a.Unknown = "the plugin or Vault stopped while C1 was being asked"
	}
	known := t.knownFingerprint()
	if t.Ref.Kind != kindDecoy || known == "" {
		a.Settled = true
		return
	}
	ctx, err := b.turn(ctx, s, out)
	if err != nil {
		return
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.client.DecoyExistence(ctx, t.Ref.DecoyID)
	out.asked(err)
	b.noteDecoy(ctx, t, found.Decoy)
	switch {
	case err == nil && found.Gone:
		a.Settled = true
		a.Unknown = "the decoy is gone at C1 (" + found.Why + "); delete this binding"
	case err != nil:
		a.SettleAt = b.now().Add(retryIn(1))
		b.Logger().Warn("could not compare a decoy's fingerprint; trying again", "target", t.Ref.String(), "error", err)
	case differs(found.Decoy.FingerprintSHA256, known):
		a.Settled = true
		a.Unknown = "C1 rotated the decoy and the material was lost, so no planted copy matches it; rotate it again"
	default:
		t.addRecord(record{
			origin: a.origin, Outcome: outcomeFailed, FinishedAt: b.now(),
			Error: "C1 did not rotate: the decoy still shows the fingerprint from before",
		})
		t.Attempt = nil
		// Should C1 be later than that, this mount's own request is what killed
		// the current credential, or the one that a rotation puts in its place.
		t.LateUntil = b.now().Add(s.config.settleTime())
		t.VerifyAt, t.FollowsUnknown = t.LateUntil, true
	}
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
	return b.lookAt(ctx, t.Ref, next)
}

// lookAt asks for a look at a target.
func (b *backend) lookAt(ctx context.Context, ref targetRef, at time.Time) error {
	name, err := b.nameOf(ctx, ref)
	if err == nil {
		_, err = b.agenda.Put(ctx, name, at)
	}
	return err
}

// change lets do change a target's state under its lock, and stores it with its
// next due entry if do says so. Without a state do is not called.
func (b *backend) change(ctx context.Context, ref targetRef, do func(*target) (store bool, err error)) error {
	unlock, err := b.lockTarget(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := readTarget(ctx, b.store, ref)
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
	if err := writeTarget(store, b.store, t); err != nil {
		return err
	}
	b.behind(ctx, t)
	return nil
}
