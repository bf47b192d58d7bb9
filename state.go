// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const targetPrefix = "target/"

const (
	// storeTries is how often an outcome is written before it is given up: the
	// material exists nowhere else.
	storeTries = 3
	// storeTimeout bounds one round of storage writes of a rotation.
	storeTimeout = 10 * time.Second
)

// pathsOf returns the path prefixes of a kind's bindings and of its vends.
func pathsOf(k target.Kind) (bindings, creds string) {
	if k == target.Decoy {
		return "decoys", "decoy-creds"
	}
	return "connectors", "connector-creds"
}

// kindOfCreds tells the kind by the path prefix of its vends.
var kindOfCreds = map[string]target.Kind{"connector-creds": target.Connector, "decoy-creds": target.Decoy}

// storedState is how a target's state is stored.
var storedState = store.Type[target.State]{
	What: "state of a target", Format: 1, Copy: (*target.State).Copy, Check: (*target.State).Restore,
}

// identityRef is the mount's own credential at C1.
var identityRef = target.Ref{Kind: target.Identity}

// newState is the state of a target that has none yet.
func newState(ref target.Ref) *target.State {
	return target.New(ref, target.Splay(rand.N(1<<16))) //nolint:gosec // it spreads load, and is no secret
}

// stateKey is the entry of a target's state. The last part of it also names the
// target in the due index, under attention/ and under record/.
func stateKey(ref target.Ref) store.Key { return store.Hashed(targetPrefix, ref.Key()) }

// stateNamed is stateKey for a name that comes from a listing.
func stateNamed(name string) store.Key { return store.Fixed(targetPrefix + name) }

// nameOf is the name under which storage knows a target, of 32 hex digits.
func nameOf(ctx context.Context, s *store.Store, ref target.Ref) (string, error) {
	return s.Name(ctx, stateKey(ref))
}

// readState reads a target's state; nil if there is none.
func readState(ctx context.Context, s *store.Store, ref target.Ref) (*target.State, error) {
	t, err := storedState.Read(ctx, s, stateKey(ref))
	switch {
	case store.Unreadable(err):
		return nil, fmt.Errorf("%s: %w", ref, err)
	case err == nil && t != nil && t.Ref != ref:
		return nil, misplaced(ref.String(), t)
	default:
		return t, err
	}
}

// readStateNamed reads the state of a target that a listing names; nil if there is
// none.
func readStateNamed(ctx context.Context, s *store.Store, name string) (*target.State, error) {
	t, err := storedState.Read(ctx, s, stateNamed(name))
	if err != nil || t == nil {
		return nil, err
	}
	if own, err := nameOf(ctx, s, t.Ref); err != nil || own != name {
		return nil, errors.Join(err, misplaced(targetPrefix+name, t))
	}
	return t, nil
}

// misplaced is the error of a state in the place of another one's.
func misplaced(place string, t *target.State) error {
	return &store.UnreadableError{What: storedState.What, Key: place, Cause: fmt.Errorf("it is that of %s", t.Ref)}
}

// walkStates reads the state of every target, one at a time, until do returns an
// error. A state that cannot be read does not keep it from the others, and is told in
// the end.
func walkStates(ctx context.Context, s *store.Store, do func(*target.State) error) error {
	names, err := s.List(ctx, targetPrefix)
	if err != nil {
		return err
	}
	var unreadable error
	for _, name := range names {
		t, err := readStateNamed(ctx, s, name)
		if store.Unreadable(err) {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if err := do(t); err != nil {
			return err
		}
	}
	return unreadable
}

// inTurn runs storage writes one after the other, until one fails.
func inTurn(writes ...func() error) error {
	for _, write := range writes {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// parallel runs one round of storage writes and returns the first error.
func parallel(writes ...func() error) error {
	if len(writes) == 1 {
		return writes[0]()
	}
	var group errgroup.Group
	for _, write := range writes {
		group.Go(write)
	}
	return group.Wait()
}
