// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/locks"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// busyRetry is how much later a target is settled that somebody else has.
const busyRetry = time.Second

// settle does whatever is due for the target of this name: it closes an attempt whose
// outcome is unknown, looks whether C1 still holds the current credential, rotates by
// the schedule, and ends what is to be retired. It is woken by a due entry, which its
// caller drops only when it returns nil. With out.alone, what would concern all
// targets is taken for this one's own failure.
func (b *backend) settle(ctx context.Context, name string, out *settled) error {
	out.c1 = errNotAsked
	if !b.work.Enter() {
		return context.Canceled
	}
	defer b.work.Leave()

	t, err := b.tryTurn(ctx, name)
	if errors.Is(err, locks.ErrTaken) {
		out.next = b.now().Add(busyRetry)
		return nil
	}
	if err != nil || t == nil {
		return err
	}
	state, err := t.settle(ctx, out)
	if err != nil {
		return err
	}
	return b.kindOf(state.Ref).retire(ctx, b, state, out)
}

// settle settles all that needs the target's turn, which it gives back, and returns
// the state.
func (t *turn) settle(ctx context.Context, out *settled) (*target.State, error) {
	defer t.release()
	out.about = t.ref.String()
	now := t.now()
	next, err := t.replanned(ctx, now)
	if err != nil {
		return nil, err
	}
	said := goOn
	for range mostSteps {
		switch step := next.Next(now); {
		case !step.Due(now) || step.Do == target.Retire:
			said = wait
		case step.Do == target.Resolve:
			next, said, err = t.kindOf(t.ref).resolve(ctx, t, next, out)
		case step.Do == target.Look:
			next, said, err = t.look(ctx, next, out)
		default:
			next, said, err = t.rotateByClock(ctx, next, out)
		}
		if err != nil {
			return nil, err
		}
		if said != goOn {
			break
		}
	}
	switch {
	case next != t.state:
		err = t.save(ctx, next)
	case said != planned:
		err = t.plan(ctx, out)
	}
	if err != nil {
		return nil, err
	}
	return t.state, t.kindOf(t.ref).retireInTurn(ctx, t, out)
}

// mostSteps is how many things are due for one target at most, one after the other:
// its attempt, a look and a rotation.
const mostSteps = 3

// plan sees to it that somebody comes for what is next, where nothing was stored
// and with it planned.
func (t *turn) plan(ctx context.Context, out *settled) error {
	if err := t.restoreIndex(ctx, t.state); err != nil {
		return err
	}
	now := t.now()
	switch step := t.state.Next(now); {
	case step.Due(now): // it waits for somebody or something
		out.next = now.Add(busyRetry)
		return nil
	case step.Do != target.Nothing && t.agenda.Listed(step.At):
		out.next = step.At // the entry that woke us stays until then
		return nil
	default:
		return t.putNext(ctx, t.state)
	}
}

// replanned is the state with what has to be planned anew: what a clock that was
// ahead has planned, what failed under another config, and what is too late for its
// rotation_window.
func (t *turn) replanned(ctx context.Context, now time.Time) (*target.State, error) {
	state, err := t.kindOf(t.ref).reconciled(ctx, t)
	if err != nil || !state.Scheduled {
		return state, err
	}
	bind, err := t.scheduledBinding(ctx, t.ref, state.Binding)
	if err != nil || bind == nil {
		return state, err
	}
	next := state.Replanned(now, bind.Schedule)
	if next.Failing == nil && bind.Schedule.Window == 0 {
		return next, nil
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	next = next.Retried(now, s.terms(bind))
	late := next.Missed(now, s.terms(bind))
	if late != next {
		t.Logger().Warn("a rotation waits for its next scheduled time", "target", t.ref.String(), "binding", late.Binding, "next_rotation", rfc3339(late.NextRotation), "error", late.Failing.Error)
	}
	return late, nil
}

// rotateByClock rotates a scheduled target whose turn has come. The rotation stores
// the state.
func (t *turn) rotateByClock(ctx context.Context, state *target.State, out *settled) (*target.State, verdict, error) {
	if t.System().Tainted() {
		return state, wait, nil
	}
	if key := t.kindOf(t.ref).alsoLocks(); key != "" {
		unlock, err := t.locks.TryLock(key)
		if err != nil {
			return state, wait, nil // somebody has it: the turn waits
		}
		defer unlock()
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, wait, err
	}
	bind, err := t.scheduledBinding(ctx, t.ref, state.Binding)
	if err != nil {
		return nil, wait, err
	}
	if bind == nil {
		// The process died while the binding was written or deleted.
		return state.Unscheduled(), goOn, nil
	}
	failed := func(state *target.State, cause error) *target.State {
		return state.Failed(t.now(), s.terms(bind), cause.Error(), false)
	}
	if err := s.serves(state.Tenant); err != nil {
		return failed(state, err), wait, nil
	}
	room, err := awaitRoom(ctx, s, out)
	if err != nil {
		return state, wait, t.life.Err()
	}
	shared, leads := t.shared.join(t.ref, "")
	if !leads {
		return state, wait, nil // somebody who asked waits for this turn
	}
	err = t.safely(t.ref, func() error {
		if state != t.state {
			if err := t.save(ctx, state); err != nil { // a rotation begins with what is stored
				return err
			}
		}
		return t.rotateShared(room, &order{
			session: s, origin: target.Origin{Reason: state.ClockReason()}, bind: bind, byClock: true, outcome: target.OutcomeStored, shared: shared,
		})
	})
	t.shared.finish(t.ref, shared, t.state, bind, err)
	return t.afterRotation(state, failed, out, err)
}

// afterRotation says what becomes of a turn whose rotation by the clock has ended: before
// it the target's state was the one given, and failed is that of one that did not succeed.
func (t *turn) afterRotation(before *target.State, failed func(*target.State, error) *target.State, out *settled, err error) (*target.State, verdict, error) {
	var u *userError
	switch {
	case err == nil:
		out.asked(nil)
		return t.state, planned, nil
	case out.alone && concernsAll(err):
		out.asked(err)
		return failed(t.state, err), wait, nil
	case c1api.AsError(err) != nil:
		out.asked(err)
		return t.state, wait, nil //nolint:nilerr // what C1 said is told in out; the state is stored
	case errors.As(err, &u) && u.recorded:
		return t.state, wait, nil
	case errors.As(err, &u) && u.status == http.StatusTooManyRequests:
		return failed(before, err), wait, nil // before C1 was asked
	default:
		return nil, wait, err // storage
	}
}
