// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/vault/sdk/helper/salt"
	"github.com/hashicorp/vault/sdk/logical"
)

// Key names an entry in the engine's own words. Storage sees it only through
// Store.KeyOf. Two keys are equal if they name the same entry.
type Key struct {
	by     naming
	folder string
	group  string // of the entries of a folder that are listed together
	name   string
}

type naming int

const (
	byItself naming = iota
	byHash
	byCiphertext
)

// Fixed is an entry whose key says nothing worth hiding, such as config, or
// has come from a listing.
func Fixed(key string) Key { return Key{name: key} }

// Hashed is an entry that is found by its name, and never by a listing: its
// key holds the keyed hash of the name.
func Hashed(folder, name string) Key { return Key{by: byHash, folder: folder, name: name} }

// HashedIn is a Hashed entry in a group, whose entries Group lists.
func HashedIn(folder, group, name string) Key {
	return Key{by: byHash, folder: folder, group: group, name: name}
}

// Listed is an entry whose name can be listed: its key holds the encrypted
// name. Its folder is Options.Listed.
func Listed(name string) Key { return Key{by: byCiphertext, name: name} }

// Name returns the last part of a hashed key: a name for the same thing under
// any other folder, of 32 hex digits.
func (s *Store) Name(ctx context.Context, key Key) (string, error) {
	raw, err := s.KeyOf(ctx, key)
	return raw[strings.LastIndexByte(raw, '/')+1:], err
}

// KeyOf returns the key under which storage holds an entry. It makes the
// mount's secrets for names if there are none, so it is for writers.
func (s *Store) KeyOf(ctx context.Context, key Key) (string, error) {
	raw, err := s.keyOf(ctx, key, true)
	if err == nil && raw == "" {
		err = errors.New("no entry can have such a name")
	}
	return raw, err
}

// find is KeyOf for readers: without secrets for names there is no such entry,
// and the key is "".
func (s *Store) find(ctx context.Context, key Key) (string, error) {
	return s.keyOf(ctx, key, false)
}

func (s *Store) keyOf(ctx context.Context, key Key, create bool) (string, error) {
	if key.by == byItself {
		return key.name, nil
	}
	if raw := s.names.known(key); raw != "" {
		return raw, nil
	}
	var raw string
	var err error
	if key.by == byCiphertext {
		raw, err = s.encrypted(ctx, key, create)
	} else {
		raw, err = s.hashed(ctx, key, create)
	}
	if err == nil && raw != "" && s.remembers(raw) {
		s.names.learn(key, raw)
	}
	return raw, err
}

func (s *Store) hashed(ctx context.Context, key Key, create bool) (string, error) {
	salt, err := s.names.salt.get(ctx, s, create)
	if err != nil || salt == nil {
		return "", err
	}
	// The folder keeps apart what has the same name for different reasons.
	raw := key.folder
	if key.group != "" {
		raw += digest(salt, key.folder+key.group) + "/"
	}
	return raw + digest(salt, key.folder+key.name), nil
}

// digest is a name's keyed hash, cut to the 128 bits that tell names apart
// (RFC 2104, section 5): a target's is in most of the keys that its life writes.
func digest(salt *salt.Salt, name string) string { return salt.GetHMAC(name)[:32] }

func (s *Store) encrypted(ctx context.Context, key Key, create bool) (string, error) {
	if strings.Contains(key.name, "/") {
		return "", nil // the wrapper would take it for a path, and no entry has such a name
	}
	policy, err := s.names.policy.get(ctx, s, create)
	if err != nil || policy == nil {
		return "", err
	}
	var seen onlyKey
	_, err = policy.Wrap(&seen).Get(ctx, key.name)
	return seen.key, err
}

// Group returns the keys of a group's entries, in no order that means
// anything.
func (s *Store) Group(ctx context.Context, folder, group string) ([]Key, error) {
	salt, err := s.names.salt.get(ctx, s, false)
	if err != nil || salt == nil {
		return nil, err
	}
	prefix := folder + digest(salt, folder+group) + "/"
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(names))
	for i, name := range names {
		keys[i] = Fixed(prefix + name)
	}
	return keys, nil
}

// ListedNames returns the names of all Listed entries, sorted.
func (s *Store) ListedNames(ctx context.Context) ([]string, error) {
	policy, err := s.names.policy.get(ctx, s, false)
	if err != nil || policy == nil {
		return nil, err
	}
	keys, err := s.List(ctx, s.options.Listed)
	if err != nil {
		return nil, err
	}
	names, err := policy.Wrap(listing{keys: keys}).List(ctx, "")
	if err != nil {
		return nil, &UnreadableError{What: "name", Key: s.options.Listed, Cause: err}
	}
	return names, nil
}

// listing is a storage that was listed.
type listing struct {
	logical.Storage
	keys []string
}

func (l listing) List(context.Context, string) ([]string, error) { return l.keys, nil }

// CountListed returns how many Listed entries there are. It remembers the number
// until one of them is written or deleted.
func (s *Store) CountListed(ctx context.Context) (int, error) {
	known, learned := s.memory.recall(s.options.Listed)
	if count, ok := known.(int); ok {
		return count, nil
	}
	var count any
	defer func() { learned(count) }()
	keys, err := s.List(ctx, s.options.Listed)
	if err != nil {
		return 0, err
	}
	count = len(keys)
	return len(keys), nil
}
