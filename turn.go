// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// maxLockWait bounds how long a caller waits for a target's turn. With the longest
// request_timeout it stays below the 90 s after which Vault gives up on a request.
const maxLockWait = 45 * time.Second

// turn is the right to change one target, which one caller has at a time. All that
// changes a state hangs on it: nobody can rotate without.
type turn struct {
	unprintable
	*backend
	ref     target.Ref
	name    string          // of the target in storage
	state   *target.State   // as it was stored last; nil if there is none
	marked  map[string]bool // reasons for which there is a mark
	filed   []target.Filing // records that are entries already
	left    leftover        // of what is stored next, for behind
	release func()          // gives the turn to the next
}

// takeTurn waits for a target's turn, at most lockWait. The caller releases it.
func (b *backend) takeTurn(ctx context.Context, ref target.Ref) (t *turn, err error) {
	name, err := nameOf(ctx, b.store, ref)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, b.lockWait)
	defer cancel()
	release, err := b.locks.Lock(wait, targetPrefix+name)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, failWith(http.StatusTooManyRequests,
			"%s: no turn within %s, since other callers are rotating it; try again later", ref, b.lockWait)
	}
	defer releaseWithout(&t, release)
	state, err := readState(ctx, b.store, ref)
	if err != nil {
		return nil, err
	}
	return b.turnOf(ref, name, state, release), nil
}

// tryTurn takes the turn of a target that has a state, and that storage knows by this
// name. It returns locks.ErrTaken if somebody has it or waits for it, and nil if there is
// no state.
func (b *backend) tryTurn(ctx context.Context, name string) (t *turn, err error) {
	release, err := b.locks.TryLock(targetPrefix + name)
	if err != nil {
		return nil, err
	}
	defer releaseWithout(&t, release)
	state, err := readStateNamed(ctx, b.store, name)
	if err != nil || state == nil {
		return nil, err
	}
	return b.turnOf(state.Ref, name, state, release), nil
}

// releaseWithout gives a turn back that its caller will not get, whatever happened.
func releaseWithout(t **turn, release func()) {
	if *t == nil {
		release()
	}
}

func (b *backend) turnOf(ref target.Ref, name string, state *target.State, release func()) *turn {
	t := &turn{backend: b, ref: ref, name: name, state: state, marked: map[string]bool{}, release: release}
	if state != nil {
		for reason := range state.Problems() {
			t.marked[reason] = true // a mark is stored before a state
		}
	}
	return t
}

// reconcile stores the state by what is stored elsewhere, should they differ: the process
// may have died after it wrote the other.
func (t *turn) reconcile(ctx context.Context) error {
	next, err := t.kindOf(t.ref).reconciled(ctx, t)
	if err != nil || next == t.state {
		return err
	}
	return t.save(ctx, next)
}

// claimedBy checks that a binding's target belongs to the configured tenant. One that
// was never rotated may have no state yet.
func (t *turn) claimedBy(s *session, name string) error {
	if t.state == nil {
		t.state = newState(t.ref).Claimed(name, s.config.tenant(), "")
	}
	if err := s.serves(t.state.Tenant); err != nil {
		return refuse("%s: %s; write the binding again", name, err)
	}
	return nil
}

// takeScheduled waits for the turn of the target that a scheduled binding of this name
// points at, and has it belong to the configured tenant. The caller releases the turn.
func (b *backend) takeScheduled(ctx context.Context, k target.Kind, name string) (t *turn, bind *binding, s *session, err error) {
	if bind, err = b.boundToClock(ctx, k, name); err != nil {
		return nil, nil, nil, err
	}
	if t, err = b.takeTurn(ctx, bind.Ref); err != nil {
		return nil, nil, nil, err
	}
	release := t.release
	defer func() {
		if err != nil {
			release()
		}
	}()
	// The binding may have changed while this caller waited for its turn.
	if bind, err = b.scheduledBinding(ctx, t.ref, name); err != nil {
		return nil, nil, nil, err
	}
	if bind == nil {
		return nil, nil, nil, refuse("the binding %s changed in the meantime: try again", name)
	}
	if s, err = b.session(ctx); err != nil {
		return nil, nil, nil, err
	}
	return t, bind, s, t.claimedBy(s, name)
}

// change lets do say what becomes of a target's state, and stores that. Without a
// state do is not called.
func (b *backend) change(ctx context.Context, ref target.Ref, do func(*turn) (*target.State, error)) error {
	t, err := b.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer t.release()
	if t.state == nil {
		return nil
	}
	next, err := do(t)
	if err != nil || next == t.state {
		return err
	}
	return t.save(ctx, next)
}

// save writes the due entry for what is to be done next, and then the state that
// relies on it.
func (t *turn) save(ctx context.Context, next *target.State) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := t.putNext(ctx, next); err != nil {
		return err
	}
	return t.write(ctx, next)
}

// putNext writes the due entry for what is to be done next, if there is anything.
func (t *turn) putNext(ctx context.Context, next *target.State) error {
	step := next.Next(t.now())
	if step.Do == target.Nothing {
		return nil
	}
	_, err := t.agenda.Put(ctx, t.name, step.At)
	return err
}

// storeOutcome writes what happened, again if storage fails: it cannot be asked for
// at C1 afterwards.
func (t *turn) storeOutcome(ctx context.Context, next *target.State, beside ...func(context.Context) error) error {
	var err error
	for range storeTries {
		stored, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		err = t.write(stored, next, beside...)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// write stores a state, and in the same round whatever is given beside it. What the
// state relies on is stored before: the marks for what needs a person, and the
// records that it counts. Marks of what has passed are dropped after. In the ordinary
// case it is one round.
func (t *turn) write(ctx context.Context, next *target.State, beside ...func(context.Context) error) error {
	next, pruned, err := t.prune(ctx, next)
	if err != nil {
		return err
	}
	problems := next.Problems()
	var first []func() error
	for reason := range problems {
		if !t.marked[reason] {
			first = append(first, func() error { return t.store.Mark(ctx, markKey(reason, t.name)) })
		}
	}
	round := []func() error{func() error { return storedState.Write(ctx, t.store, stateKey(t.ref), next) }}
	for _, write := range beside {
		round = append(round, func() error { return write(ctx) })
	}
	for _, f := range next.Unfiled() {
		write := func() error { return storedRecord.Write(ctx, t.store, recordKey(t.name, f.Place), f.Record) }
		switch {
		case t.hasFiled(f):
		case f.Counted:
			first = append(first, write)
		default:
			round = append(round, write)
		}
	}
	if err := parallel(first...); err != nil {
		return err
	}
	for reason := range problems {
		t.marked[reason] = true
	}
	if err := parallel(round...); err != nil {
		return err
	}
	t.filed = append(t.filed, next.Unfiled()...)
	t.state = next.Copy()
	t.left.dropped, t.left.pruned = next.Dropped(), pruned
	t.behind(ctx, t.state, t.left)
	t.left = leftover{}
	for reason := range t.marked {
		if problems[reason] == "" {
			delete(t.marked, reason)
			_ = t.store.Remove(ctx, markKey(reason, t.name)) // if it stays it is only untidy
		}
	}
	return nil
}

// prune forgets the oldest records above history_limit, where another one has become
// an entry of its own.
func (t *turn) prune(ctx context.Context, next *target.State) (*target.State, []target.Place, error) {
	if !slices.ContainsFunc(next.Unfiled(), func(f target.Filing) bool { return f.Counted }) {
		return next, nil, nil
	}
	cfg, err := readConfig(ctx, t.store)
	if err != nil || cfg == nil {
		return next, nil, err
	}
	next, pruned := next.Pruned(cfg.HistoryLimit)
	return next, pruned, nil
}

// amend changes the record of a version that is an entry of its own, if there is one.
func (t *turn) amend(ctx context.Context, version int, do func(*target.Record)) error {
	r, place, err := t.history().version(ctx, version)
	if err != nil || place == nil {
		return err
	}
	do(r)
	return storedRecord.Write(ctx, t.store, recordKey(t.name, *place), r)
}

// hasFiled reports whether a record is in its place already.
func (t *turn) hasFiled(f target.Filing) bool {
	return slices.ContainsFunc(t.filed, func(g target.Filing) bool { return g.Place == f.Place && g.Record == f.Record })
}

// A mark attention/<reason>/<name> says that a target needs a person, so that status
// costs what is wrong and not what exists.
const attentionPrefix = "attention/"

// markKey is the mark of a target that storage knows by this name.
func markKey(reason, name string) store.Key {
	return store.Fixed(attentionPrefix + reason + "/" + name)
}

// markedFor lists the names of the targets that are marked for a reason.
func markedFor(ctx context.Context, s *store.Store, reason string) ([]string, error) {
	return s.List(ctx, attentionPrefix+reason+"/")
}
