// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

const (
	// maxLooks is how many looks are held in memory before the listing of
	// further minutes waits.
	maxLooks = 10_000
	// Between two tries when storage does not answer.
	storageRetry = 5 * time.Second
	// mayWriteFor is how long Vault's word that this node may write is good.
	mayWriteFor = time.Second
	// busyRetry is how much later a target is looked at that somebody else has.
	busyRetry = time.Second
)

// worker settles what is due, outside of Vault's own calls. It ends when the
// node may not write any more, and is woken again at the latest by Vault's
// PeriodicFunc.
type worker struct {
	ctx  context.Context // ends when the plugin stops
	stop context.CancelFunc

	mu      sync.Mutex
	running bool
	limit   int // looks at the same time, from config
}

func (w *worker) init() {
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.limit = defaultRotationWorkers
}

// wakeWorker starts the worker unless it runs. It does nothing on a node that
// may not write.
func (b *backend) wakeWorker() {
	if b.store == nil || !b.mayWrite() {
		return
	}
	b.replanInBackground()
	w := &b.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running && w.ctx.Err() == nil {
		w.running = true
		go b.dispatch()
	}
}

// dispatch hands out what is due to a bounded number of goroutines, until the
// plugin stops or the node may not write any more.
func (b *backend) dispatch() {
	w := &b.worker
	ended := make(chan struct{}, maxRotationWorkers)
	busy := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	for w.ctx.Err() == nil {
		// Not for each of hundreds of rotations a second: it is a call to Vault.
		if now := b.now(); now.Before(asked) || now.Sub(asked) >= mayWriteFor {
			if !b.mayWrite() {
				break
			}
			asked = now
		}
		next := b.nextMinuteOr(b.feed(w.ctx))
		for busy < b.gate.width(b.now(), w.width()) {
			l := b.looks.pop(b.now())
			if l == nil {
				break
			}
			busy++
			go func() {
				defer func() { ended <- struct{}{} }()
				b.settleLook(w.ctx, l)
			}()
		}
		if head := b.looks.head(); !head.IsZero() && (busy == 0 || busy < b.gate.width(b.now(), w.width())) {
			next = sooner(next, b.gate.notBefore(head))
		}
		timer.Reset(max(next.Sub(b.now()), time.Millisecond))
		select {
		case <-timer.C:
		case <-b.looks.wake:
		case <-ended:
			busy--
		case <-w.ctx.Done():
		}
	}
	for ; busy > 0; busy-- {
		<-ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
}

func (w *worker) width() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limit
}

// nextMinuteOr says when to list again: when the next minute begins, or soon if
// the last listing failed.
func (b *backend) nextMinuteOr(failed error) time.Time {
	if failed == nil || b.worker.ctx.Err() != nil {
		return time.Unix((minuteOf(b.now())+1)*60, 0)
	}
	b.Logger().Error("cannot list what is due; trying again", "error", failed)
	return b.now().Add(storageRetry)
}

// feed lists each minute since the watermark, and queues what it names.
func (b *backend) feed(ctx context.Context) error {
	d := &b.due
	mark, err := d.watermark(ctx)
	if err != nil || mark == 0 {
		return err // 0: nothing was ever written
	}
	now := minuteOf(b.now())
	if mark > now {
		// The clock went back. Looking twice at a minute is harmless.
		mark = now
		d.reached.Store(mark)
	}
	if mark == now || b.looks.size() >= maxLooks {
		return nil
	}
	if err := b.readWidth(ctx); err != nil {
		return err
	}
	for minute := mark + 1; minute <= now && b.looks.size() < maxLooks; minute++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.reached.Store(minute)
		names, err := d.list(ctx, minute)
		if err != nil {
			d.reached.Store(minute - 1) // list it again
			return err
		}
		for _, name := range names {
			b.looks.push(name, time.Unix(minute*60, 0), minute)
		}
	}
	return b.storeWatermark(ctx)
}

func (b *backend) readWidth(ctx context.Context) error {
	cfg, err := readConfig(ctx, b.store)
	if err == nil && cfg != nil {
		b.worker.setWidth(cfg)
	}
	return err
}

func (w *worker) setWidth(cfg *config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// More would begin what then waits for its turn, while its time runs.
	w.limit = min(cfg.RotationWorkers, c1api.BackgroundRequests(cfg.MaxConcurrentRequests))
}

// storeWatermark stores how far everything is done: when something was, or
// after watermarkEvery idle minutes.
func (b *backend) storeWatermark(ctx context.Context) error {
	done, dirty := b.looks.doneUpTo(b.due.reached.Load())
	last := b.due.stored.Load()
	if done <= last || (!dirty && done-last < watermarkEvery) {
		return nil
	}
	if err := b.due.store(ctx, done); err != nil {
		return err
	}
	b.looks.clean()
	return nil
}

// settleLook settles one target, drops the entries that named it, and queues it
// again if there is more to do before the next listing.
func (b *backend) settleLook(ctx context.Context, l *look) {
	if wait, err := b.gate.enter(ctx, b); err != nil {
		b.looks.putBack(l, l.at) // still the oldest
		if ctx.Err() == nil {
			b.Logger().Warn("C1 is out of reach: everything that is due waits", "wait", wait.String(), "error", err)
		}
		return
	}
	entries := b.looks.entriesOf(l)
	done := settled{about: l.name}
	err := b.safely(&done, func() error { return b.settle(ctx, l.name, &done) })
	if ctx.Err() != nil {
		return // the entries bring it back
	}
	b.gate.heard(b.now(), done.c1)
	switch {
	case concernsAll(done.c1) && b.gate.closed(b.now()):
		b.looks.putBack(l, l.at)
		return
	case err != nil:
		b.Logger().Error("could not settle; trying again in a minute", "target", done.about, "error", err)
		if _, err := b.due.put(ctx, l.name, b.now().Add(time.Minute)); err != nil {
			b.looks.putBack(l, b.now().Add(storageRetry))
			return
		}
	case !done.next.IsZero():
		b.looks.putBack(l, done.next)
		return
	}
	for _, minute := range entries {
		if err := b.due.drop(ctx, minute, l.name); err != nil {
			b.Logger().Warn("could not drop a due entry; looking again", "target", done.about, "error", err)
			b.looks.putBack(l, b.now().Add(storageRetry))
			return
		}
	}
	b.looks.finish(l, len(entries))
}

// panicError is a panic as an error.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// safely turns a panic into an error, so that one target cannot take down every
// mount of the process.
func (b *backend) safely(about fmt.Stringer, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.Logger().Error("panic", "target", about.String(), "panic", p, "stack", string(debug.Stack()))
			err = &panicError{p}
		}
	}()
	return do()
}

// How long the gate is closed: doubled each time, until C1 is heard.
const (
	gateFirst   = 15 * time.Second
	gateLongest = time.Minute
	// gateUnknown is how many outcomes in a row may be unknown before the gate
	// closes, as the client's breaker would.
	gateUnknown = 3
)

// gate holds back all that is due while C1 is out of reach or refuses the
// mount's identity, whatever is due: an outage costs a probe at a time, and
// after it the oldest comes first.
type gate struct {
	mu      sync.Mutex
	until   time.Time // closed until then, and then only one look may try
	closes  int       // in a row; 0 is wide open
	unknown int       // outcomes in a row
	reason  string
}

// width is how many looks may be under way.
func (g *gate) width(now time.Time, limit int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closes == 0:
		return limit
	case now.Before(g.until):
		return 0
	default:
		return 1
	}
}

func (g *gate) notBefore(at time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closes > 0 && at.Before(g.until) {
		return g.until
	}
	return at
}

func (g *gate) closed(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closes > 0 && now.Before(g.until)
}

// open lets everything through, until C1 says otherwise. Whoever hears of C1
// before the worker does may call it.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closes, g.unknown, g.until, g.reason = 0, 0, time.Time{}, ""
}

// paused says until when and why everything waits; zero when it does not.
func (g *gate) paused() (until time.Time, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, g.reason
}

// enter lets a look through. After the gate was closed it asks C1 first who we
// are, which is cheaper than to find out with somebody's rotation.
func (g *gate) enter(ctx context.Context, b *backend) (wait time.Duration, err error) {
	g.mu.Lock()
	open := g.closes == 0
	g.mu.Unlock()
	if open {
		return 0, nil
	}
	s, err := b.session(ctx)
	if err == nil {
		probe, cancel := s.bound(c1api.Background(ctx))
		_, err = s.client.Introspect(probe)
		cancel()
	}
	if err == nil || ctx.Err() != nil {
		return 0, err
	}
	now := b.now()
	g.close(now, err)
	until, _ := g.paused()
	return until.Sub(now), err
}

// heard takes note of what C1 said to a look, nil if it was not asked or did
// what it was asked for.
func (g *gate) heard(now time.Time, err error) {
	switch {
	case errors.Is(err, errNotAsked):
		return
	case concernsAll(err):
		g.close(now, err)
	case err != nil && c1api.OutcomeUnknown(err):
		g.mu.Lock()
		g.unknown++
		shut := g.unknown >= gateUnknown || g.closes > 0
		g.mu.Unlock()
		if shut {
			g.close(now, err)
		}
	default:
		g.open() // also by a refusal: C1 is there
	}
}

func (g *gate) close(now time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.until) {
		return // several looks were under way when it closed
	}
	wait := min(gateFirst<<min(g.closes, 8), gateLongest)
	switch e := c1api.AsError(err); {
	case c1api.IsReason(err, c1api.ReasonRateLimited) && e.RetryAfter > 0:
		wait = e.RetryAfter // C1 is there, and says when
	case e != nil:
		wait = max(wait, e.RetryAfter)
	}
	g.closes++
	g.until, g.reason = now.Add(wait), err.Error()
}
