// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxQueued is how many entries are held in memory before the listing of
	// further minutes waits.
	maxQueued = 10_000
	// maxListed is how many minutes are listed at a time, so that the first of
	// them are settled before the last is listed.
	maxListed = 1_000
	// storageRetry is the time between two tries when storage does not answer.
	storageRetry = 5 * time.Second
	// errorRetry is when a key is settled again of which nothing could be said.
	errorRetry = time.Minute
	// mayRunFor is how long the word of MayRun is good.
	mayRunFor = time.Second
)

// Wake starts the worker unless it runs. It ends by itself when MayRun says no.
func (a *Agenda) Wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.running && a.ctx.Err() == nil {
		a.running = true
		go a.work()
	}
}

// Running reports whether the worker runs.
func (a *Agenda) Running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// work hands out what is due to a bounded number of goroutines, until the context
// ends or MayRun says no.
func (a *Agenda) work() {
	var under sync.WaitGroup
	defer func() {
		under.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running = false
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	for a.ctx.Err() == nil {
		// Not for each of hundreds of entries a second: it may be a call to
		// another process.
		if now := a.o.Now(); now.Before(asked) || now.Sub(asked) >= mayRunFor {
			if !a.o.MayRun() {
				return
			}
			asked = now
		}
		e, next, err := a.Take(a.ctx)
		if e != nil {
			under.Go(func() { a.Settle(a.ctx, e) })
			continue
		}
		if err != nil && a.ctx.Err() == nil {
			a.o.Logger.Error("cannot list what is due; trying again", "error", err)
			next = a.o.Now().Add(storageRetry)
		}
		timer.Reset(max(next.Sub(a.o.Now()), time.Millisecond))
		select {
		case <-timer.C:
		case <-a.queue.wake:
		case <-a.ctx.Done():
		}
	}
}

// Take returns an entry that may be settled now, or when to ask again unless the
// worker is woken before. It lists what has fallen due, and probes if the brake
// was set. Whoever takes an entry must call Settle or Done with it.
//
// The worker is a loop around Take and Settle; a simulation calls Take and Done
// on a clock of its own.
func (a *Agenda) Take(ctx context.Context) (e *Entry, next time.Time, err error) {
	now := a.o.Now()
	more, err := a.feed(ctx, now)
	if err != nil {
		return nil, now, err
	}
	limit, err := a.o.Workers(ctx)
	if err != nil {
		return nil, now, err
	}
	next = timeOf(minuteOf(now) + 1)
	if more {
		next = now
	}
	head, busy := a.queue.head(), a.queue.busy()
	if head.IsZero() || busy > 0 && busy >= a.brake.allowance(now, limit) {
		return nil, next, nil
	}
	if start := a.brake.notBefore(now, head); start.After(now) {
		if start.Before(next) {
			next = start
		}
		return nil, next, nil
	}
	if ready, err := a.ready(ctx, now); err != nil || !ready {
		if again := a.brake.notBefore(now, now); again.Before(next) {
			next = again
		}
		return nil, next, err
	}
	return a.queue.pop(now), now, nil
}

// ready reports whether something may be settled: the clock can be believed, and
// the other side answers, if it did not before.
func (a *Agenda) ready(ctx context.Context, now time.Time) (bool, error) {
	if trusted, err := a.trust(ctx, now); err != nil || !trusted {
		return false, err
	}
	if !a.brake.trying(now) {
		return true, nil
	}
	// A probe is cheaper than to find out with somebody's task.
	s := a.prober.ask(ctx, a.o.Probe)
	if s.Reach != Reached && ctx.Err() == nil {
		a.wait(now, s)
	}
	return s.Reach == Reached, nil
}

// feed lists minutes since the watermark and queues what they name, and reports
// whether there is more to list at once.
func (a *Agenda) feed(ctx context.Context, now time.Time) (more bool, err error) {
	mark, err := a.index.watermark(ctx)
	if err != nil || mark == 0 {
		return false, err
	}
	if _, err := a.steady(ctx, now); err != nil {
		return false, err
	}
	a.index.reached.CompareAndSwap(0, mark) // the process before listed it
	current := minuteOf(now)
	if mark > current {
		// The clock went back. Listing a minute twice is harmless.
		mark = current
		a.index.reached.Store(mark)
	}
	if mark == current || a.queue.size() >= maxQueued {
		return false, nil
	}
	last := min(current, mark+maxListed)
	if last < current {
		if trusted, err := a.trust(ctx, now); err != nil || !trusted {
			return false, err
		}
	}
	for minute := mark + 1; minute <= last && a.queue.size() < maxQueued; minute++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		a.index.reached.Store(minute)
		keys, err := a.index.list(ctx, minute)
		if err != nil {
			a.index.reached.Store(minute - 1) // list it again
			return false, err
		}
		for _, key := range keys {
			a.queue.push(key, timeOf(minute), minute)
		}
	}
	return last < current && a.queue.size() < maxQueued, a.storeWatermark(ctx)
}

// storeWatermark stores how far everything is done: when something was, or
// after watermarkEvery idle minutes.
func (a *Agenda) storeWatermark(ctx context.Context) error {
	done, dirty := a.queue.doneUpTo(a.index.reached.Load())
	last := a.index.stored.Load()
	if done <= last || (!dirty && done-last < watermarkEvery) {
		return nil
	}
	if err := a.index.store(ctx, done); err != nil {
		return err
	}
	a.queue.clean()
	return nil
}

// Settle settles an entry that was taken.
func (a *Agenda) Settle(ctx context.Context, e *Entry) {
	out, err := a.settle(ctx, e)
	a.Done(ctx, e, out, err)
}

// settle turns a panic into an error, so that one key cannot take down every
// mount of the process.
func (a *Agenda) settle(ctx context.Context, e *Entry) (out Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.o.Logger.Error("panic", "key", e.key, "panic", p, "stack", string(debug.Stack()))
			out, err = Outcome{}, fmt.Errorf("panic: %v", p)
		}
	}()
	return a.o.Settle(ctx, e.Task())
}

// Done takes what came of an entry: it drops the due entries that brought it up,
// or queues it again.
func (a *Agenda) Done(ctx context.Context, e *Entry, out Outcome, err error) {
	if ctx.Err() != nil {
		return // the due entries bring it back
	}
	verdict := a.hear(ctx, e, out.Signal)
	if out.Signal.Reach == Reached {
		e.alone = 0
	}
	now := a.o.Now()
	switch {
	case verdict == everybody && out.Signal.Reach == Unreached:
		a.queue.putOff(e, e.at) // where it was, the oldest first
		return
	case err != nil:
		a.o.Logger.Error("could not settle; trying again in a minute", "key", e.key, "error", err)
		if _, err := a.Put(ctx, e.key, now.Add(errorRetry)); err != nil {
			a.queue.putBack(e, now.Add(storageRetry))
			return
		}
	case verdict == alone && !out.Next.IsZero():
		e.alone++
		at := now.Add(aloneWait(e.alone, out.Signal.After))
		if at.Before(out.Next) {
			at = out.Next
		}
		a.queue.putOff(e, at)
		return
	case !out.Next.IsZero():
		a.queue.putBack(e, out.Next)
		return
	}
	a.drop(ctx, e)
}

// drop drops the due entries of one that is settled.
func (a *Agenda) drop(ctx context.Context, e *Entry) {
	minutes := a.queue.minutesOf(e)
	for _, minute := range minutes {
		if err := a.index.drop(ctx, minute, e.key); err != nil {
			a.o.Logger.Warn("could not drop a due entry; trying again", "key", e.key, "error", err)
			a.queue.putBack(e, a.o.Now().Add(storageRetry))
			return
		}
	}
	a.queue.finish(e, len(minutes))
}

// verdict says whom a failure concerns.
type verdict int

const (
	nobody verdict = iota
	alone
	everybody
)

// hear takes note of what the other side said to a task. If that may concern
// every key, a probe tells.
func (a *Agenda) hear(ctx context.Context, e *Entry, s Signal) verdict {
	switch s.Reach {
	case Unasked:
		return nobody
	case Reached:
		a.Reached()
		return nobody
	}
	if a.brake.isSet(a.o.Now()) {
		return everybody
	}
	switch probed := a.prober.ask(ctx, a.o.Probe); {
	case ctx.Err() != nil:
		return nobody
	case probed.Reach != Reached:
		s = probed
	case a.brake.alone(e.key):
		return alone
	}
	a.wait(a.o.Now(), s)
	return everybody
}

// wait sets the brake and says so.
func (a *Agenda) wait(now time.Time, s Signal) {
	if a.brake.isSet(now) {
		return
	}
	wait := a.brake.apply(now, s)
	a.o.Logger.Warn("everything that is due waits", "wait", wait.String(), "error", s.Why)
}
