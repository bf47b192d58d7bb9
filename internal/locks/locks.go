// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package locks holds one fair lock per key in use: no key shares a lock with another, so
// whoever is slow holds up only those who want the same thing.
package locks

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Keyed are the locks of all keys. Its zero value is ready to use.
type Keyed struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	turn  *semaphore.Weighted // first come, first served, and a wait can be left
	users int
}

// ErrTaken is TryLock's error: somebody has the key's turn, or waits for it.
var ErrTaken = errors.New("somebody else has its turn")

// Lock waits for the key's turn until ctx ends, and returns how to release it, once.
// Its error is that of ctx.
func (l *Keyed) Lock(ctx context.Context, key string) (unlock func(), err error) {
	return l.take(key, func(turn *semaphore.Weighted) error { return turn.Acquire(ctx, 1) })
}

// TryLock takes the key's turn only if nobody has it or waits for it.
func (l *Keyed) TryLock(key string) (unlock func(), err error) {
	return l.take(key, func(turn *semaphore.Weighted) error {
		if !turn.TryAcquire(1) {
			return ErrTaken
		}
		return nil
	})
}

func (l *Keyed) take(key string, acquire func(*semaphore.Weighted) error) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[key]
	if k == nil {
		k = &lock{turn: semaphore.NewWeighted(1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
	if err := acquire(k.turn); err != nil {
		leave()
		return nil, err
	}
	return func() {
		k.turn.Release(1)
		leave()
	}, nil
}
