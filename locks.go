// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// maxLockWait bounds how long a caller waits for a target's turn. With the
// longest request_timeout it stays below the 90 s after which Vault gives up
// on a request.
const maxLockWait = 45 * time.Second

// keyedLocks holds one fair lock per key in use. Lock order: binding names
// first, then targets. No key shares a lock with another, so a slow C1 holds up
// only callers of the same target.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	turn  *semaphore.Weighted // first come, first served, and a wait can be left
	users int
}

// lock waits for the key's turn until ctx ends, and returns how to release it.
func (l *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	return l.take(key, func(turn *semaphore.Weighted) error { return turn.Acquire(ctx, 1) })
}

var errTaken = errors.New("somebody else has its turn")

// tryLock takes the key's turn only if nobody has it or waits for it.
func (l *keyedLocks) tryLock(key string) (unlock func(), err error) {
	return l.take(key, func(turn *semaphore.Weighted) error {
		if !turn.TryAcquire(1) {
			return errTaken
		}
		return nil
	})
}

func (l *keyedLocks) take(key string, acquire func(*semaphore.Weighted) error) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*keyedLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &keyedLock{turn: semaphore.NewWeighted(1)}
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
