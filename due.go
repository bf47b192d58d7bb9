// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

const (
	duePrefix    = "due/"
	watermarkKey = "watermark"

	// maxSettling bounds how many targets one tick settles at the same time.
	maxSettling = 8
	// watermarkEvery is how many idle minutes may pass before the watermark is
	// stored again: an idle mount writes once an hour.
	watermarkEvery = 60
)

// dueIndex answers "which targets must be looked at in this minute". An entry
// due/<minute>/<kind>/<id> carries nothing else; a stray one costs a look.
//
// Minutes up to the watermark have been looked at. Writers use a later minute,
// so a tick lists each exact minute once and never the whole index.
type dueIndex struct {
	storage logical.Storage
	now     func() time.Time

	reached atomic.Int64 // minute whose listing has begun; 0 before the first tick
	stored  atomic.Int64 // watermark in storage, as far as known
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// minuteAfter is the first minute that starts at t or later.
func minuteAfter(t time.Time) int64 {
	m := minuteOf(t)
	if t.After(time.Unix(m*60, 0)) {
		m++
	}
	return m
}

func dueMinutePrefix(minute int64) string { return fmt.Sprintf("%s%010d/", duePrefix, minute) }

func dueKey(minute int64, ref targetRef) string { return dueMinutePrefix(minute) + ref.key() }

// put asks for a look at the target at the given time or up to a minute later.
func (d *dueIndex) put(ctx context.Context, ref targetRef, at time.Time) error {
	minute := minuteAfter(at)
	for {
		// The tick may begin to list this very minute while we write; then
		// nobody would come back to it, so write a later one as well.
		if reached := d.reached.Load(); minute <= reached {
			minute = reached + 1
		}
		if err := d.storage.Put(ctx, &logical.StorageEntry{Key: dueKey(minute, ref)}); err != nil {
			return err
		}
		if minute > d.reached.Load() {
			return nil
		}
	}
}

func (d *dueIndex) drop(ctx context.Context, minute int64, ref targetRef) error {
	return d.storage.Delete(ctx, dueKey(minute, ref))
}

// list returns the targets to look at in exactly this minute.
func (d *dueIndex) list(ctx context.Context, minute int64) ([]targetRef, error) {
	prefix := dueMinutePrefix(minute)
	kinds, err := d.storage.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var refs []targetRef
	for _, k := range kinds {
		ids, err := d.storage.List(ctx, prefix+k)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if ref, ok := parseTargetKey(strings.TrimSuffix(k, "/"), id); ok {
				refs = append(refs, ref)
			}
		}
	}
	return refs, nil
}

// watermark returns the last minute that is done with, or 0 on a mount that was
// never configured.
func (d *dueIndex) watermark(ctx context.Context) (int64, error) {
	if m := d.reached.Load(); m != 0 {
		return m, nil
	}
	entry, err := d.storage.Get(ctx, watermarkKey)
	if err != nil {
		return 0, err
	}
	if entry == nil {
		return 0, nil
	}
	m, err := strconv.ParseInt(string(entry.Value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stored %s: %w", watermarkKey, err)
	}
	d.stored.Store(m)
	return m, nil
}

func (d *dueIndex) store(ctx context.Context, minute int64) error {
	err := d.storage.Put(ctx, &logical.StorageEntry{Key: watermarkKey, Value: []byte(strconv.FormatInt(minute, 10))})
	if err == nil {
		d.stored.Store(minute)
	}
	return err
}

// start stores a first watermark, before the first entry that relies on it.
func (d *dueIndex) start(ctx context.Context) error {
	m, err := d.watermark(ctx)
	if err != nil || m != 0 {
		return err
	}
	return d.store(ctx, minuteOf(d.now()))
}

func (d *dueIndex) forget() { d.reached.Store(0) }

// tick looks at every minute since the watermark and settles what it names,
// the oldest first. An entry is dropped only after its target was settled.
func (b *backend) tick(ctx context.Context) error {
	d := &b.due
	mark, err := d.watermark(ctx)
	if err != nil {
		return err
	}
	now := minuteOf(b.now())
	if mark == 0 {
		return nil // nothing was ever written
	}
	if mark > now {
		// The clock went back. Looking twice at a minute is harmless.
		mark = now
		d.reached.Store(mark)
	}
	for minute := mark + 1; minute <= now; minute++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.reached.Store(minute)
		refs, err := d.list(ctx, minute)
		if err == nil {
			err = b.settleAll(ctx, minute, refs)
		}
		if err == nil && (len(refs) > 0 || minute-d.stored.Load() >= watermarkEvery) {
			err = d.store(ctx, minute)
		}
		if err != nil {
			d.reached.Store(minute - 1) // look at it again
			return err
		}
	}
	return nil
}

func (b *backend) settleAll(ctx context.Context, minute int64, refs []targetRef) error {
	var group errgroup.Group
	group.SetLimit(maxSettling)
	for _, ref := range refs {
		group.Go(func() error {
			if err := b.settleSafely(ctx, ref); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				b.Logger().Error("could not settle; trying again in a minute", "target", ref.String(), "error", err)
				if err := b.due.put(ctx, ref, b.now().Add(time.Minute)); err != nil {
					return err
				}
			}
			return b.due.drop(ctx, minute, ref)
		})
	}
	return group.Wait()
}

// settleSafely parks a target whose settlement panics, instead of taking every
// mount of the process down.
func (b *backend) settleSafely(ctx context.Context, ref targetRef) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.Logger().Error("panic while settling", "target", ref.String(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return b.settle(ctx, ref)
}

// worker runs ticks outside of Vault's own calls.
type worker struct {
	mu      sync.Mutex
	stopped bool
	running bool
	again   bool
	timer   *time.Timer
	cancel  context.CancelFunc
}

// wakeWorker starts a tick, or asks for one more if one is running. It does
// nothing on a node that may not write.
func (b *backend) wakeWorker() {
	if b.storage == nil || !b.WriteSafeReplicationState() {
		return
	}
	w := &b.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case w.running:
		w.again = true
	default:
		ctx, cancel := context.WithCancel(context.Background())
		w.running, w.cancel = true, cancel
		go b.runWorker(ctx)
	}
}

func (b *backend) runWorker(ctx context.Context) {
	w := &b.worker
	for {
		if b.WriteSafeReplicationState() {
			if err := b.tick(ctx); err != nil && ctx.Err() == nil {
				b.Logger().Error("tick failed; trying again in a minute", "error", err)
			}
		}
		w.mu.Lock()
		if w.again && !w.stopped {
			w.again = false
			w.mu.Unlock()
			continue
		}
		w.running = false
		w.cancel()
		if !w.stopped {
			w.arm(b)
		}
		w.mu.Unlock()
		return
	}
}

// arm wakes the worker when the next minute begins.
func (w *worker) arm(b *backend) {
	if w.timer != nil {
		w.timer.Stop()
	}
	now := b.now()
	next := time.Unix((minuteOf(now)+1)*60, 0)
	w.timer = time.AfterFunc(next.Sub(now), b.wakeWorker)
}

func (w *worker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.cancel != nil {
		w.cancel()
	}
}
