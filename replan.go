// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"sync/atomic"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

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
	if !b.work.Enter() {
		r.running.Store(false)
		return
	}
	go func() {
		defer b.work.Leave()
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
	for _, k := range []target.Kind{target.Connector, target.Decoy} {
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

func (b *backend) replanBinding(ctx context.Context, k target.Kind, name string) error {
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return err
	}
	return b.change(ctx, bind.Ref, func(t *turn) (*target.State, error) {
		cfg, err := readConfig(ctx, b.store)
		if err != nil || cfg == nil || t.state.Binding != name {
			return t.state, err
		}
		return t.state.LookReplanned(b.now(), cfg.checkEvery(bind)), nil
	})
}
