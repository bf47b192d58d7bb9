// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package agenda decides when to settle what. It keeps a due index in storage, a
// queue of what has fallen due, a bounded number of workers, and one brake for
// the time in which the other side, on which all of the work depends, is out of
// reach. What a key stands for, and what settling it takes, is the caller's
// business.
//
// A file holds one subject: index.go the due entries in storage, queue.go what
// was listed of them, brake.go whether the other side can be reached, clock.go
// whether this machine's clock can be believed, worker.go the work itself.
package agenda

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// Options is everything an Agenda is built from. All of it is required.
type Options struct {
	Storage logical.Storage
	Logger  hclog.Logger
	// Now is the clock. It must not carry a monotonic reading, since what it says
	// is compared with what storage holds.
	Now func() time.Time

	// MayRun reports whether this node may act. It is asked about once a second,
	// and the worker ends when it says no.
	MayRun func() bool
	// Workers is how many entries may be settled at the same time.
	Workers func(ctx context.Context) (int, error)
	// Settle does what is due for a key. An error means that nothing can be said
	// of it; it is tried again in a minute.
	Settle func(ctx context.Context, t Task) (Outcome, error)
	// Probe asks the other side whether it is there, with a request that changes
	// nothing and concerns no key.
	Probe func(ctx context.Context) Signal
	// ClockTrusted returns an error unless something other than this machine
	// confirms that its clock is not ahead. It is asked after the clock moved
	// further than the time in between explains.
	ClockTrusted func(ctx context.Context) error
}

// Task is one key that is to be settled.
type Task struct {
	Key string
	Due time.Time // since when it has been due
	// Alone: the last try failed for this key while the other side answered the
	// probe, so that the failure is this key's own.
	Alone bool
}

// Outcome is what came of a task.
type Outcome struct {
	// Next is when to settle the key again on behalf of the same due entry; zero
	// when that entry is done with.
	Next   time.Time
	Signal Signal
}

// Signal is what a task or a probe heard from the other side.
type Signal struct {
	Reach Reach
	After time.Duration // how long it asked to wait, if it did
	Why   error         // for people; nil when it was reached
}

// Reach says whether the other side was reached.
type Reach int

const (
	// Unasked: there was no reason to ask it for anything.
	Unasked Reach = iota
	// Reached: it answered. A refusal that concerns the key alone is an answer.
	Reached
	// Unclear: it may have acted, and what it said, if anything, was no answer.
	Unclear
	// Unreached: it did nothing, for a reason that may concern every key. The task
	// is as due as before.
	Unreached
)

// Agenda settles keys when they fall due; safe for concurrent use. What it holds
// in memory can be lost at any time: the due entries bring it back.
type Agenda struct {
	ctx    context.Context // ends the worker
	o      Options
	index  *index
	queue  *queue
	brake  brake
	prober prober

	mu      sync.Mutex
	running bool
	seen    time.Time // the newest time that can be believed
}

// New returns an agenda whose worker ends with ctx. It does nothing before Wake.
func New(ctx context.Context, o Options) *Agenda {
	return &Agenda{ctx: ctx, o: o, index: &index{storage: o.Storage, now: o.Now}, queue: newQueue(), prober: prober{turn: semaphore.NewWeighted(1)}}
}

// Start stores where the listing begins, before the first entry that relies on
// it. Without it nothing is ever listed.
func (a *Agenda) Start(ctx context.Context) error { return a.index.start(ctx) }

// Put stores an entry that has the key settled at a time, and returns the minute
// of the entry. A key must not be empty nor hold a slash.
func (a *Agenda) Put(ctx context.Context, key string, at time.Time) (minute int64, err error) {
	minute, err = a.index.enter(ctx, key, at)
	if err == nil && minute > minuteOf(at) {
		a.Hurry(key, at) // or it would wait for the minute to be listed
	}
	return minute, err
}

// Enter stores an entry as Put does, for a time that need not be kept to the
// second: it may be up to a minute late.
func (a *Agenda) Enter(ctx context.Context, key string, at time.Time) (minute int64, err error) {
	return a.index.enter(ctx, key, at)
}

// Drop deletes an entry that Put or Enter stored. One that stays costs a look at
// its key.
func (a *Agenda) Drop(ctx context.Context, minute int64, key string) error {
	return a.index.drop(ctx, minute, key)
}

// Hurry has the key settled at a time, as far as memory lasts: it stores nothing.
func (a *Agenda) Hurry(key string, at time.Time) { a.queue.push(key, at, 0) }

// Listed reports whether the minute of a time was listed, so that an entry for
// it would come too late.
func (a *Agenda) Listed(at time.Time) bool { return minuteOf(at) <= a.index.reached.Load() }

// Reached tells that the other side answered somebody, so that nothing needs to
// wait for it any longer.
func (a *Agenda) Reached() {
	if a.brake.release() {
		a.queue.signal()
	}
}

// Refresh has a worker that runs look at once at what it is given: its limits, and
// the clock.
func (a *Agenda) Refresh() { a.queue.signal() }

// Forget drops what is remembered of the stored watermark, which another node has
// changed.
func (a *Agenda) Forget() { a.index.forget() }
