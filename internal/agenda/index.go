// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// Prefix is the storage prefix of the due entries.
	Prefix = "due/"
	// WatermarkKey is the storage key of the last minute that is done with.
	WatermarkKey = "watermark"

	// watermarkEvery is how many idle minutes may pass before the watermark is
	// stored again: an idle mount writes once an hour.
	watermarkEvery = 60
)

// index answers "which keys are due in this minute". An entry due/<minute>/<key>
// carries nothing else; a stray one costs a look at its key.
//
// Minutes up to the watermark have been listed. Writers use a later minute, so
// that each minute is listed once and never the whole index.
type index struct {
	storage logical.Storage
	now     func() time.Time

	reached atomic.Int64 // minute whose listing has begun; 0 before the first
	stored  atomic.Int64 // watermark in storage, as far as known

	mu      sync.Mutex
	next    int64 // the first minute that has entries when it was listed; 0 if none has
	listed  bool  // next is known
	changes int   // of the entries, so that a listing which was overtaken is not kept
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func timeOf(minute int64) time.Time { return time.Unix(minute*60, 0) }

func minutePrefix(minute int64) string { return fmt.Sprintf("%s%010d/", Prefix, minute) }

// enter stores the entry for a key in the minute of a time or soon after, and
// returns its minute.
func (d *index) enter(ctx context.Context, key string, at time.Time) (minute int64, err error) {
	if key == "" || strings.Contains(key, "/") {
		return 0, fmt.Errorf("%q cannot be the key of a due entry", key)
	}
	// The listing of this minute may be over, or begin while we write; then
	// nobody would come back to it, so a later one is written as well.
	minute = max(minuteOf(at), minuteOf(d.now())+1)
	for {
		if reached := d.reached.Load(); minute <= reached {
			minute = reached + 1
		}
		err := d.storage.Put(ctx, &logical.StorageEntry{Key: minutePrefix(minute) + key})
		d.changed(func() {
			if d.next == 0 || minute < d.next {
				d.next = minute
			}
		})
		if err != nil {
			return 0, err
		}
		if minute > d.reached.Load() {
			return minute, nil
		}
	}
}

func (d *index) drop(ctx context.Context, minute int64, key string) error {
	err := d.storage.Delete(ctx, minutePrefix(minute)+key)
	d.changed(func() { d.listed = d.listed && minute != d.next })
	return err
}

// changed notes that an entry was written or deleted, and what that says of next.
func (d *index) changed(note func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	note()
}

// forget drops what is remembered, which another node has changed.
func (d *index) forget() {
	d.reached.Store(0)
	d.changed(func() { d.listed = false })
}

// list returns the keys that are due in exactly this minute.
func (d *index) list(ctx context.Context, minute int64) ([]string, error) {
	return d.storage.List(ctx, minutePrefix(minute))
}

// watermark returns the last minute that is done with, or 0 before the first.
func (d *index) watermark(ctx context.Context) (int64, error) {
	if m := d.reached.Load(); m != 0 {
		return m, nil
	}
	entry, err := d.storage.Get(ctx, WatermarkKey)
	if err != nil || entry == nil {
		return 0, err
	}
	m, err := strconv.ParseInt(string(entry.Value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stored %s: %w", WatermarkKey, err)
	}
	d.stored.Store(m)
	return m, nil
}

func (d *index) store(ctx context.Context, minute int64) error {
	err := d.storage.Put(ctx, &logical.StorageEntry{Key: WatermarkKey, Value: []byte(strconv.FormatInt(minute, 10))})
	if err == nil {
		d.stored.Store(minute)
	}
	return err
}

// start stores a first watermark unless there is one.
func (d *index) start(ctx context.Context) error {
	m, err := d.watermark(ctx)
	if err != nil || m != 0 {
		return err
	}
	return d.store(ctx, minuteOf(d.now()))
}

// near is how many minutes are looked at one by one before all are listed: where
// there are so many entries that a listing of all takes long, one of these has some.
const near = 5

// nextMinute returns the first minute after the given one that has entries, or
// 0, and remembers it.
func (d *index) nextMinute(ctx context.Context, after int64) (int64, error) {
	d.mu.Lock()
	next, listed, changes := d.next, d.listed, d.changes
	d.mu.Unlock()
	if listed && (next == 0 || next > after) {
		return next, nil
	}
	next, err := d.findNext(ctx, after)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if changes == d.changes {
		d.next, d.listed = next, true
	}
	return next, nil
}

func (d *index) findNext(ctx context.Context, after int64) (int64, error) {
	for minute := after + 1; minute <= after+near; minute++ {
		keys, err := d.list(ctx, minute)
		if err != nil || len(keys) > 0 {
			return minute, err
		}
	}
	minutes, err := d.storage.List(ctx, Prefix) // those in use, not what is in them
	if err != nil {
		return 0, err
	}
	for _, name := range minutes { // sorted, and all of one length
		if minute, err := strconv.ParseInt(strings.TrimSuffix(name, "/"), 10, 64); err == nil && minute > after {
			return minute, nil
		}
	}
	return 0, nil
}
