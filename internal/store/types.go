// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/helper/jsonutil"
	"github.com/hashicorp/vault/sdk/logical"
)

// Type is a kind of entry. It is stored as a JSON object that begins with the
// format's number; T needs no field for it.
type Type[T any] struct {
	// What it is called in errors.
	What string
	// Format is the number of the form that is written, and the newest that
	// can be read.
	Format int
	// New returns the value to decode into. May be nil.
	New func() *T
	// Check says what is wrong with a decoded value. May be nil.
	Check func(*T) error
	// Copy returns a copy that shares nothing which is changed in place. It is
	// nil if the entry is never remembered.
	Copy func(*T) *T
}

// UnreadableError is an entry that is there and cannot be used: it is damaged,
// or a newer version has written it. Nothing may be written in its place.
type UnreadableError struct {
	What  string // the kind of entry
	Key   string // as storage sees it
	Cause error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("stored %s (%s) cannot be read: %s", e.What, e.Key, e.Cause)
}

func (e *UnreadableError) Unwrap() error { return e.Cause }

// Unreadable reports whether an error is about one entry, while storage as a
// whole works.
func Unreadable(err error) bool {
	var unreadable *UnreadableError
	return errors.As(err, &unreadable)
}

// Read returns what an entry holds, as the caller's own, or nil when there is
// none. The error is an UnreadableError, or storage's.
func (ty Type[T]) Read(ctx context.Context, s *Store, key Key) (*T, error) {
	raw, err := s.find(ctx, key)
	if err != nil || raw == "" {
		return nil, err
	}
	known, learned := s.memory.recall(raw)
	if known != nil {
		return ty.Copy(known.(*T)), nil
	}
	var value *T
	defer func() {
		if value == nil || ty.Copy == nil || !s.remembers(raw) {
			learned(nil)
			return
		}
		learned(ty.Copy(value))
	}()
	entry, err := s.Get(ctx, raw)
	if err != nil || entry == nil {
		return nil, err
	}
	value, err = ty.decode(entry.Value, s.options.Version)
	if err != nil {
		return nil, &UnreadableError{What: ty.What, Key: raw, Cause: err}
	}
	return value, nil
}

// Recall returns what is remembered of an entry, or nil. It is not the
// caller's to change. Nothing is asked of storage.
func (ty Type[T]) Recall(s *Store, key Key) *T {
	raw := key.name
	if key.by != byItself {
		raw = s.names.known(key)
	}
	value, _ := s.memory.peek(raw).(*T)
	return value
}

// InDoubt reports whether a write of a remembered entry failed a short time ago,
// so that Vault may still carry it out.
func (s *Store) InDoubt(key Key) bool {
	raw := key.name
	if key.by != byItself {
		raw = s.names.known(key)
	}
	return s.memory.inDoubt(raw)
}

// Write stores a value, and remembers a copy of it.
func (ty Type[T]) Write(ctx context.Context, s *Store, key Key, value *T) error {
	raw, err := s.KeyOf(ctx, key)
	if err != nil {
		return err
	}
	encoded, err := ty.encode(value)
	if err != nil {
		return err
	}
	var copied any // nil, and not a nil *T
	if ty.Copy != nil {
		copied = ty.Copy(value)
	}
	return s.change(raw, copied, func() error {
		return s.storage.Put(ctx, &logical.StorageEntry{Key: raw, Value: encoded})
	})
}

// encode puts the format's number before the value's own fields.
func (ty Type[T]) encode(value *T) ([]byte, error) {
	fields, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, `{"format":%d`, ty.Format)
	fields = fields[1:]
	if len(fields) > 1 {
		head = append(head, ',')
	}
	return append(head, fields...), nil
}

// decode decodes a value, of a format that is known.
func (ty Type[T]) decode(encoded []byte, version string) (*T, error) {
	if !bytes.HasPrefix(encoded, fmt.Appendf(nil, `{"format":%d,`, ty.Format)) {
		var head struct {
			Format *int `json:"format"`
		}
		switch err := json.Unmarshal(encoded, &head); {
		case err != nil:
			return nil, err
		case head.Format == nil:
			return nil, errors.New("it has no format number")
		case *head.Format > ty.Format:
			return nil, fmt.Errorf("it has format %d, and version %s of the plugin reads formats up to %d: "+
				"run the version that wrote it, or a newer one", *head.Format, version, ty.Format)
		}
	}
	value := new(T)
	if ty.New != nil {
		value = ty.New()
	}
	if err := jsonutil.DecodeJSON(encoded, value); err != nil {
		return nil, err
	}
	if ty.Check != nil {
		if err := ty.Check(value); err != nil {
			return nil, err
		}
	}
	return value, nil
}
