// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package store is a mount's storage. It remembers entries in decoded form,
// gives each stored type a format number, and names entries so that their keys
// say nothing: Vault encrypts values, not keys.
package store

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Options say what a mount keeps in its storage.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Version is the plugin's, for the message that refuses a newer format.
	Version string
	// Remember are the prefixes of the keys whose entries requests read.
	Remember []string
	// Listed is the folder of the entries that are named by Listed.
	Listed string
}

// Store is a mount's storage. It implements logical.Storage for keys as
// storage sees them; entries with a Type and a Key are read and written by
// the methods of Type. It is safe for concurrent use.
type Store struct {
	options Options
	storage logical.Storage
	memory  *memory
	names   *names
}

// New returns the store on a mount's storage. It remembers nothing before
// Enable.
func New(storage logical.Storage, options Options) *Store {
	return &Store{
		options: options,
		storage: storage,
		memory:  newMemory(options.Now),
		names:   newNames(options.Listed),
	}
}

// Enable says whether this node may write. If not, everything that others may
// change is forgotten, and nothing is remembered.
func (s *Store) Enable(writable bool) { s.memory.enable(writable) }

// Invalidate forgets the entry under a key of storage, since somebody else has
// changed it.
func (s *Store) Invalidate(key string) {
	if s.names.invalidate(key) {
		s.memory.forgetAll() // all keys are others now
		return
	}
	s.memory.forget(key)
	if s.listed(key) {
		s.memory.forget(s.options.Listed)
	}
}

// Remembered returns what is known of each entry, by the key that storage sees.
// It is for those who compare it with what is stored.
func (s *Store) Remembered() map[string]any {
	all := s.memory.all()
	delete(all, s.options.Listed) // no entry, but their number
	return all
}

// Get implements logical.Storage.
func (s *Store) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	return s.storage.Get(ctx, key)
}

// List implements logical.Storage.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	return s.storage.List(ctx, prefix)
}

// Put implements logical.Storage. It forgets what was known of the entry.
func (s *Store) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return s.change(entry.Key, nil, func() error { return s.storage.Put(ctx, entry) })
}

// Delete implements logical.Storage. It forgets the entry.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.change(key, nil, func() error { return s.storage.Delete(ctx, key) })
}

// change changes an entry, and then remembers its value unless that is nil.
func (s *Store) change(key string, value any, do func() error) error {
	change := func() error { return recognised(do()) }
	if s.remembers(key) {
		entry := change
		change = func() error { return s.memory.write(key, value, entry) }
	}
	if s.listed(key) { // so there may be one more or less
		return s.memory.write(s.options.Listed, nil, change)
	}
	return change()
}

// listed reports whether a key is that of a Listed entry.
func (s *Store) listed(key string) bool { return strings.HasPrefix(key, s.options.Listed) }

// recognised restores the one error of storage's that has a meaning to Vault:
// on the way to a plugin it kept its text only.
func recognised(err error) error {
	if err != nil && err.Error() == logical.ErrReadOnly.Error() {
		return logical.ErrReadOnly
	}
	return err
}

// Mark stores an entry without a value: that it is there says everything.
func (s *Store) Mark(ctx context.Context, key Key) error {
	raw, err := s.KeyOf(ctx, key)
	if err != nil {
		return err
	}
	return s.Put(ctx, &logical.StorageEntry{Key: raw})
}

// Remove deletes an entry. It is no error if there is none.
func (s *Store) Remove(ctx context.Context, key Key) error {
	raw, err := s.find(ctx, key)
	if err != nil || raw == "" {
		return err
	}
	return s.Delete(ctx, raw)
}

// Has reports whether there is an entry, whatever it holds.
func (s *Store) Has(ctx context.Context, key Key) (bool, error) {
	raw, err := s.find(ctx, key)
	if err != nil || raw == "" {
		return false, err
	}
	entry, err := s.Get(ctx, raw)
	return entry != nil, err
}
