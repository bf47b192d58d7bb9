// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	duePrefix    = "due/"
	watermarkKey = "watermark"

	// watermarkEvery is how many idle minutes may pass before the watermark is
	// stored again: an idle mount writes once an hour.
	watermarkEvery = 60
)

// dueIndex answers "which targets must be looked at in this minute". An entry
// due/<minute>/<name> carries nothing else; a stray one costs a look.
//
// Minutes up to the watermark have been looked at. Writers use a later minute,
// so that each exact minute is listed once and never the whole index. What is
// wanted sooner than that minute is also remembered in memory: should it be
// lost, the entry brings it back.
type dueIndex struct {
	storage logical.Storage
	now     func() time.Time
	soon    func(name string, at time.Time)

	reached atomic.Int64 // minute whose listing has begun; 0 before the first
	stored  atomic.Int64 // watermark in storage, as far as known
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func dueMinutePrefix(minute int64) string { return fmt.Sprintf("%s%010d/", duePrefix, minute) }

func dueKey(minute int64, name string) string { return dueMinutePrefix(minute) + name }

// put asks for a look at the target of this name at the given time, and returns
// the minute of the entry.
func (d *dueIndex) put(ctx context.Context, name string, at time.Time) (minute int64, err error) {
	minute, err = d.enter(ctx, name, at)
	if err == nil && minute > minuteOf(at) {
		d.soon(name, at)
	}
	return minute, err
}

// enter stores the entry for a look at the given time or in the minute after,
// and returns its minute.
func (d *dueIndex) enter(ctx context.Context, name string, at time.Time) (minute int64, err error) {
	// The listing of this minute may be over, or begin while we write; then
	// nobody would come back to it, so a later one is written as well.
	minute = max(minuteOf(at), minuteOf(d.now())+1)
	for {
		if reached := d.reached.Load(); minute <= reached {
			minute = reached + 1
		}
		if err := d.storage.Put(ctx, &logical.StorageEntry{Key: dueKey(minute, name)}); err != nil {
			return 0, err
		}
		if minute > d.reached.Load() {
			return minute, nil
		}
	}
}

func (d *dueIndex) drop(ctx context.Context, minute int64, name string) error {
	return d.storage.Delete(ctx, dueKey(minute, name))
}

// list returns the names of the targets to look at in exactly this minute.
func (d *dueIndex) list(ctx context.Context, minute int64) ([]string, error) {
	return d.storage.List(ctx, dueMinutePrefix(minute))
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

// nextMinute returns the first minute after the given one that has entries, or
// 0. It lists the minutes that are in use, not what is in them.
func (d *dueIndex) nextMinute(ctx context.Context, after int64) (int64, error) {
	minutes, err := d.storage.List(ctx, duePrefix)
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
