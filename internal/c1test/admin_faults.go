// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// faultOrder is a Fault in JSON.
type faultOrder struct {
	Fault
	Delay       string `json:"delay"`
	ClockOffset string `json:"clock_offset"`
	CommitLate  bool   `json:"commit_late"`
}

// handleAnswer is what an order to add a fault or a barrier answers.
type handleAnswer struct {
	ID int `json:"id"`
}

func adminAddFault(t *Tenant, r *http.Request) (any, error) {
	var in faultOrder
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if err := checkOp(in.Op); err != nil {
		return nil, err
	}
	f := in.Fault
	var err error
	if f.Delay, err = readDuration("delay", in.Delay); err != nil {
		return nil, err
	}
	if f.ClockOffset, err = readDuration("clock_offset", in.ClockOffset); err != nil {
		return nil, err
	}
	if f.Status != 0 && http.StatusText(f.Status) == "" || f.StatusAfter != 0 && http.StatusText(f.StatusAfter) == "" {
		return nil, fmt.Errorf("status and status_after must be HTTP statuses")
	}
	for path := range f.Set {
		if slices.Contains(strings.Split(path, "."), "") {
			return nil, fmt.Errorf("set: %q is no path of field names with dots in between", path)
		}
	}
	var late *gate
	if in.CommitLate {
		late = newGate()
		f.CommitLate = late.c
	}
	h := t.AddFault(f)
	t.mu.Lock()
	defer t.mu.Unlock()
	h.gate = late
	return handleAnswer{ID: h.id}, nil
}

func checkOp(op string) error {
	if op != "" && !slices.Contains(Operations(), op) {
		return fmt.Errorf("op: unknown operation %q", op)
	}
	return nil
}

func adminListFaults(t *Tenant, _ *http.Request) (any, error) {
	type shown struct {
		ID   int `json:"id"`
		Hits int `json:"hits"`
		faultOrder
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []shown{}
	for _, h := range t.faults {
		list = append(list, shown{ID: h.id, Hits: h.Hits(), faultOrder: faultOrder{
			Fault: h.fault, Delay: h.fault.Delay.String(), ClockOffset: h.fault.ClockOffset.String(),
			CommitLate: h.fault.CommitLate != nil,
		}})
	}
	return list, nil
}

func (t *Tenant) findFault(r *http.Request) (*FaultHandle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.faults {
		if h.id == readID(r) {
			return h, nil
		}
	}
	return nil, errNoSuch
}

func adminCommitFault(t *Tenant, r *http.Request) (any, error) {
	h, err := t.findFault(r)
	if err != nil {
		return nil, err
	}
	if h.gate == nil {
		return nil, fmt.Errorf("fault %d is no commit_late fault of the admin path", h.id)
	}
	h.gate.close()
	return done, nil
}

func adminClearFault(t *Tenant, r *http.Request) (any, error) {
	h, err := t.findFault(r)
	if err != nil {
		return nil, err
	}
	h.Clear()
	return done, nil
}

func adminClearFaults(t *Tenant, _ *http.Request) (any, error) {
	t.ClearFaults()
	return done, nil
}

func adminHold(t *Tenant, r *http.Request) (any, error) {
	var in struct {
		Op     string `json:"op"`
		Object string `json:"object"`
		When   When   `json:"when"`
		Count  int    `json:"count"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if err := checkOp(in.Op); err != nil {
		return nil, err
	}
	switch {
	case in.When != BeforeCommit && in.When != AfterCommit:
		return nil, fmt.Errorf("when: want %q or %q", BeforeCommit, AfterCommit)
	case in.Count < 0:
		return nil, fmt.Errorf("count must not be negative")
	}
	return handleAnswer{ID: t.HoldNext(in.Op, in.Object, in.When, max(in.Count, 1)).id}, nil
}

func (t *Tenant) findBarrier(r *http.Request) (*Barrier, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.barriers {
		if b.id == readID(r) {
			return b, nil
		}
	}
	return nil, errNoSuch
}

func adminBarrier(t *Tenant, r *http.Request) (any, error) {
	b, err := t.findBarrier(r)
	if err != nil {
		return nil, err
	}
	wait, err := readDuration("wait", r.URL.Query().Get("wait"))
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(min(wait, maxAdminWait))
	defer timer.Stop()
	arrived := false
	select {
	case <-b.Arrived():
		arrived = true
	case <-timer.C:
	case <-r.Context().Done():
	case <-t.emulator.done:
	}
	return map[string]any{"arrived": arrived, "held": b.Held()}, nil
}

func adminReleaseBarrier(t *Tenant, r *http.Request) (any, error) {
	b, err := t.findBarrier(r)
	if err != nil {
		return nil, err
	}
	b.Release()
	return done, nil
}
