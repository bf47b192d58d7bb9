// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "sync"

// When says at which point of a request a Barrier holds it.
type When string

const (
	// BeforeCommit: the request was checked, nothing has changed yet.
	BeforeCommit When = "before_commit"
	// AfterCommit: the change is made, nothing was answered yet.
	AfterCommit When = "after_commit"
)

// gate is a channel that can be closed more than once.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate() *gate   { return &gate{c: make(chan struct{})} }
func (g *gate) close() { g.once.Do(func() { close(g.c) }) }

// Barrier holds requests until it is released. A held request is acted upon
// even when its caller has gone by then, as C1 would.
type Barrier struct {
	id      int
	tenant  *Tenant
	op      string
	object  string
	when    When
	missing int // requests still to be held; guarded by tenant.mu
	held    int // requests held so far; guarded by tenant.mu
	arrived *gate
	release *gate
}

// Hold holds the next request of an operation ("" = any).
func (t *Tenant) Hold(op string, when When) *Barrier { return t.HoldNext(op, "", when, 1) }

// HoldNext holds the next n requests of an operation ("" = any) that name an
// object ("" = any).
func (t *Tenant) HoldNext(op, object string, when When, n int) *Barrier {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextID++
	b := &Barrier{
		id: t.nextID, tenant: t, op: op, object: object, when: when, missing: n,
		arrived: newGate(), release: newGate(),
	}
	t.barriers = append(t.barriers, b)
	return b
}

// Arrived is closed when as many requests as the barrier holds are held.
func (b *Barrier) Arrived() <-chan struct{} { return b.arrived.c }

// Held counts the requests that the barrier stopped so far.
func (b *Barrier) Held() int {
	b.tenant.mu.Lock()
	defer b.tenant.mu.Unlock()
	return b.held
}

// Release lets the held requests go on; the barrier holds no more from then
// on. It may be called more than once.
func (b *Barrier) Release() {
	b.tenant.mu.Lock()
	b.missing = 0
	b.tenant.mu.Unlock()
	b.release.close()
}

// barrierFor returns the barrier that has to hold this request, if any; t.mu is held.
func (t *Tenant) barrierFor(rq *request, when When) *Barrier {
	for _, b := range t.barriers {
		if b.missing == 0 || b.when != when || !rq.matches(b.op, b.object) {
			continue
		}
		b.missing--
		b.held++
		if b.missing == 0 {
			b.arrived.close()
		}
		return b
	}
	return nil
}

// wait stops the request at a barrier that is meant for it, and reports
// whether it may go on; not when the emulator was closed meanwhile.
func (t *Tenant) wait(rq *request, when When) bool {
	t.mu.Lock()
	b := t.barrierFor(rq, when)
	t.mu.Unlock()
	if b == nil {
		return true
	}
	select {
	case <-b.release.c:
		return true
	case <-t.emulator.done:
		return false
	}
}
