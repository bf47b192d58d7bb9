// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"reflect"
	"slices"
	"sync/atomic"
	"time"
)

// Fault makes matching requests fail. Without Status, DropBefore, CommitLate
// or Redirect the request is acted upon first. A Fault that sets only Delay and
// ClockOffset goes together with other faults; of the rest, the first added
// that matches is used.
type Fault struct {
	Op     string `json:"op"`     // operation name as in Requests, "" = any
	Object string `json:"object"` // an ID in the request (connector, decoy, credential, app, client), "" = any
	Times  int    `json:"times"`  // how many requests, 0 = until cleared

	Delay       time.Duration `json:"-"` // wait this long before handling
	ClockOffset time.Duration `json:"-"` // C1's clock (checks and Date header) minus Options.Now

	// Instead of acting:
	Status     int             `json:"status"`      // answer this status
	RetryAfter string          `json:"retry_after"` // with this Retry-After header
	Body       string          `json:"body"`        // and this body, "" = C1's error form
	DropBefore bool            `json:"drop_before"` // close the connection
	Redirect   string          `json:"redirect"`    // answer 307 with this Location
	CommitLate <-chan struct{} `json:"-"`           // close the connection now, act when the channel closes

	// After acting:
	DropAfter        bool `json:"drop_after"`        // close the connection without an answer
	StatusAfter      int  `json:"status_after"`      // answer this status, as a proxy in between would
	Truncate         bool `json:"truncate"`          // send half of the answer, then close the connection
	Garbage          bool `json:"garbage"`           // answer 200 with something that is no JSON
	Endless          bool `json:"endless"`           // answer 200 with a body that does not end
	EmptyAnswer      bool `json:"empty_answer"`      // answer 200 without a body
	OmitMaterial     bool `json:"omit_material"`     // leave out the credential or material
	OmitSecret       bool `json:"omit_secret"`       // leave the secret out of the material
	WrongFingerprint bool `json:"wrong_fingerprint"` // answer another fingerprint than the decoy's own

	// Set changes fields of a 200's JSON object, by their dotted paths
	// ("credential.lastUsedAt", "list.0.id"), to any value that marshals, nil
	// for null, or Absent. Missing objects on the way are made.
	Set map[string]any `json:"set,omitempty"`
}

// passive faults change no answer, so they combine with others.
func (f Fault) passive() bool {
	f.Op, f.Object, f.Times, f.Delay, f.ClockOffset = "", "", 0, 0, 0
	return reflect.ValueOf(f).IsZero()
}

func (f Fault) merge(g Fault) Fault {
	g.Delay += f.Delay
	g.ClockOffset += f.ClockOffset
	return g
}

// FaultHandle is a fault that was added to a tenant.
type FaultHandle struct {
	id     int
	tenant *Tenant
	fault  Fault
	hits   atomic.Int64
	gate   *gate // of a late commit that was asked for over the admin path
}

// AddFault makes requests that match f fail from now on.
func (t *Tenant) AddFault(f Fault) *FaultHandle {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextID++
	h := &FaultHandle{id: t.nextID, tenant: t, fault: f}
	t.faults = append(t.faults, h)
	return h
}

// Clear takes the fault away; requests that it already hit are not changed.
func (h *FaultHandle) Clear() {
	h.tenant.mu.Lock()
	defer h.tenant.mu.Unlock()
	h.tenant.faults = slices.DeleteFunc(h.tenant.faults, func(other *FaultHandle) bool { return other == h })
}

// Hits counts the requests that the fault was applied to.
func (h *FaultHandle) Hits() int { return int(h.hits.Load()) }

// ClearFaults takes every fault away.
func (t *Tenant) ClearFaults() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = nil
}

// faultFor returns the sum of the faults that hit this request; t.mu is held.
func (t *Tenant) faultFor(rq *request) Fault {
	var sum Fault
	found := false
	for _, h := range t.faults {
		f := h.fault
		spent := f.Times > 0 && h.Hits() >= f.Times
		if spent || !rq.matches(f.Op, f.Object) || (found && !f.passive()) {
			continue
		}
		h.hits.Add(1)
		if f.passive() {
			sum.Delay += f.Delay
			sum.ClockOffset += f.ClockOffset
			continue
		}
		found = true
		sum = sum.merge(f)
	}
	return sum
}
