// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package drain lets work end before a process stops.
package drain

import (
	"sync"
	"time"
)

// Group counts work that must not be cut short, and can refuse more. Its zero value is
// ready to use.
type Group struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// Enter reports whether work may start; the caller must then call Leave.
func (g *Group) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Add(1)
	return true
}

// Leave ends work that Enter began.
func (g *Group) Leave() { g.wg.Done() }

// Wait waits until no work is under way.
func (g *Group) Wait() { g.wg.Wait() }

// Drain refuses new work and reports whether what was under way ended in time.
func (g *Group) Drain(timeout time.Duration) bool {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
