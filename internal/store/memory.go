// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"maps"
	"strings"
	"sync"
	"time"
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

// memory holds in decoded form what was read or written last, by the key that
// storage sees. Each call from a plugin back to Vault costs a good part of what
// a whole read does.
//
// It remembers only on the node that may write: there each change comes through
// here, by one process. Elsewhere changes come behind its back, and Invalidate
// may be late. Nobody gets from it anything older than somebody has seen: while
// an entry is being written nothing is known of it, and what was read meanwhile
// is not kept.
type memory struct {
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

func newMemory(now func() time.Time) *memory {
	return &memory{
		now:   now,
		known: map[string]any{}, reading: map[string]*reading{}, writing: map[string]int{}, doubtful: map[string]time.Time{},
	}
}

// enable says whether this node may write; if not, everything is forgotten.
func (m *memory) enable(writable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled = writable
	if !writable {
		m.clear()
	}
}

// forgetAll drops everything, as if somebody else had changed it.
func (m *memory) forgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}

// clear drops everything, and what is being read; m.mu is held.
func (m *memory) clear() {
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

// remembers says which entries requests read.
func (s *Store) remembers(key string) bool {
	for _, prefix := range s.options.Remember {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// write changes an entry, and then remembers its value unless that is nil.
func (m *memory) write(key string, value any, change func() error) (err error) {
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
	err = change()
	returned = true
	return err
}

// keep remembers a value; m.mu is held.
func (m *memory) keep(key string, value any) {
	if value == nil || !m.enabled || m.writing[key] > 0 {
		return
	}
	if m.doubts(key) {
		return
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

// peek returns what is known of an entry, or nil.
func (m *memory) peek(key string) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[key]
}

func (m *memory) all() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.known)
}

// doubts reports whether a write of an entry that failed may still be carried
// out; m.mu is held.
func (m *memory) doubts(key string) bool {
	until, ok := m.doubtful[key]
	if ok && !m.now().Before(until) {
		delete(m.doubtful, key)
		return false
	}
	return ok
}

func (m *memory) inDoubt(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doubts(key)
}
