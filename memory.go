// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// mostRemembered bounds a mount's memory: a target with its records takes
	// some kilobytes.
	mostRemembered = 5_000
	// doubtfulFor is how long nothing is remembered of an entry after a write of
	// it failed: Vault may carry it out until the request that it belongs to has
	// ended, after 90 s.
	doubtfulFor = 3 * time.Minute
)

// memory is a mount's storage that remembers in decoded form what was read or
// written last. Each call from a plugin back to Vault costs a good part of what
// a whole read does.
//
// It remembers only on the node that may write: there each change comes through
// here, by one process. Elsewhere changes come behind its back, and Invalidate
// may be late. Nobody gets from it anything older than somebody has seen: while
// an entry is being written nothing is known of it, and what was read meanwhile
// is not kept.
type memory struct {
	logical.Storage
	now func() time.Time

	mu       sync.Mutex
	enabled  bool
	known    map[string]any       // decoded, never changed in place
	reading  map[string]*reading  // reads of storage under way
	writing  map[string]int       // writes under way
	doubtful map[string]time.Time // until when nothing is kept
}

// reading are the reads of one entry between the same two changes of it.
type reading struct {
	readers  int
	obsolete bool // the entry was changed since they began
}

func newMemory(s logical.Storage, now func() time.Time) *memory {
	return &memory{
		Storage: s, now: now,
		known: map[string]any{}, reading: map[string]*reading{}, writing: map[string]int{}, doubtful: map[string]time.Time{},
	}
}

// enable says whether this node may write; if not, everything is forgotten.
func (m *memory) enable(writable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled = writable
	if writable {
		return
	}
	clear(m.known)
	for key := range m.reading {
		m.changed(key)
	}
}

// forget drops an entry that somebody else has changed.
func (m *memory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed(key)
}

// changed drops what is known of an entry, and what is being read of it; m.mu is
// held.
func (m *memory) changed(key string) {
	delete(m.known, key)
	if r := m.reading[key]; r != nil {
		r.obsolete = true
		delete(m.reading, key)
	}
}

// Put writes an entry, and forgets what was known of it.
func (m *memory) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return m.write(entry.Key, nil, func() error { return m.Storage.Put(ctx, entry) })
}

// Delete deletes an entry, and forgets it.
func (m *memory) Delete(ctx context.Context, key string) error {
	return m.write(key, nil, func() error { return m.Storage.Delete(ctx, key) })
}

// worthKeeping says which entries requests read.
func worthKeeping(key string) bool {
	return strings.HasPrefix(key, bindingPrefix) || strings.HasPrefix(key, targetPrefix) || key == configKey
}

// write changes an entry, and then remembers its value unless that is nil.
func (m *memory) write(key string, value any, change func() error) (err error) {
	if !worthKeeping(key) {
		return recognised(change())
	}
	m.mu.Lock()
	m.changed(key)
	m.writing[key]++
	m.mu.Unlock()

	returned := false // or change panicked
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changed(key)
		if m.writing[key]--; m.writing[key] == 0 {
			delete(m.writing, key)
		}
		if err != nil || !returned {
			m.doubtful[key] = m.now().Add(doubtfulFor)
		}
		m.keep(key, value)
	}()
	err = recognised(change())
	returned = true
	return err
}

// recognised restores the one error of storage's that has a meaning to Vault:
// on the way to a plugin it kept its text only.
func recognised(err error) error {
	if err != nil && err.Error() == logical.ErrReadOnly.Error() {
		return logical.ErrReadOnly
	}
	return err
}

// keep remembers a value; m.mu is held.
func (m *memory) keep(key string, value any) {
	if value == nil || !m.enabled || m.writing[key] > 0 {
		return
	}
	if until, ok := m.doubtful[key]; ok {
		if m.now().Before(until) {
			return
		}
		delete(m.doubtful, key)
	}
	if _, ok := m.known[key]; !ok && len(m.known) >= mostRemembered {
		for other := range m.known { // any will do
			delete(m.known, other)
			break
		}
	}
	m.known[key] = value
}

// recall returns what is known of an entry. If that is nothing, what is read
// from storage is to be given to learned.
func (m *memory) recall(key string) (value any, learned func(value any)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value := m.known[key]; value != nil {
		return value, nil
	}
	r := m.reading[key]
	if r == nil {
		r = &reading{}
		m.reading[key] = r
	}
	r.readers++
	return nil, func(value any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if r.readers--; r.readers == 0 && !r.obsolete {
			delete(m.reading, key)
		}
		if !r.obsolete {
			m.keep(key, value)
		}
	}
}

// stored is a type that is kept in storage, and can be copied for somebody who
// may change it.
type stored[T any] interface {
	*T
	copied() *T
}

// recalled returns what is remembered of an entry, or nil. It is not the
// caller's to change.
func recalled[T any](m *memory, key string) *T {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, _ := m.known[key].(*T)
	return value
}

// readStored returns what an entry holds, as the caller's own, or nil when there
// is none.
func readStored[T any, P stored[T]](ctx context.Context, s logical.Storage, key string, decode func(*logical.StorageEntry) (*T, error)) (*T, error) {
	learned := func(any) {}
	if m, ok := s.(*memory); ok {
		value, tell := m.recall(key)
		if value != nil {
			return P(value.(*T)).copied(), nil
		}
		learned = tell
	}
	entry, err := s.Get(ctx, key)
	if err != nil || entry == nil {
		learned(nil)
		return nil, err
	}
	value, err := decode(entry)
	if err != nil {
		learned(nil)
		return nil, err
	}
	learned(P(value).copied())
	return value, nil
}

// writeStored writes an entry, and remembers a copy of the value that it was
// made of.
func writeStored[T any, P stored[T]](ctx context.Context, s logical.Storage, entry *logical.StorageEntry, value *T) error {
	m, ok := s.(*memory)
	if !ok {
		return s.Put(ctx, entry)
	}
	return m.write(entry.Key, P(value).copied(), func() error { return m.Storage.Put(ctx, entry) })
}
