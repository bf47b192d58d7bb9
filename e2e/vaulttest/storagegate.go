// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// StorageGateEnv names the variable that tells the gated plugin where its gate
// is.
const StorageGateEnv = "C1_E2E_STORAGE_GATE"

// WriteWhen says at which point of a write a WriteHold holds it.
type WriteWhen string

const (
	// BeforeWrite: nothing is stored yet.
	BeforeWrite WriteWhen = "before"
	// AfterWrite: it is stored, and the engine does not know yet.
	AfterWrite WriteWhen = "after"
)

// Write is what the gated plugin asks its gate about.
type Write struct {
	Key   string    `json:"key"`   // within the mount's storage; it says nothing of what it is about
	About string    `json:"about"` // the connector or decoy and the tenant, as the entry names them
	When  WriteWhen `json:"when"`
}

// Gated reports whether the gated plugin asks about writes of this key: it does
// for those that make up a rotation.
func Gated(key string) bool {
	return key == "config" || strings.HasPrefix(key, "target/") || strings.HasPrefix(key, "due/") || strings.HasPrefix(key, "fingerprint/")
}

// StorageGate holds writes of the gated plugin, so that a test can kill it at
// exactly that point. Options.Gate gives one to a server.
type StorageGate struct {
	url  string
	done chan struct{}

	mu    sync.Mutex
	holds []*WriteHold
}

// NewStorageGate opens a gate until the test ends. It must outlive the server,
// so open it first.
func NewStorageGate(t testing.TB) *StorageGate {
	t.Helper()
	g := &StorageGate{done: make(chan struct{})}
	server := httptest.NewServer(g) // on loopback
	g.url = server.URL
	t.Cleanup(func() {
		close(g.done)
		server.Close()
	})
	return g
}

// WriteHold holds one write until it is released.
type WriteHold struct {
	when       WriteWhen
	prefix, id string
	used       bool // guarded by the gate's mu
	arrived    chan struct{}
	released   chan struct{}
	once       sync.Once
}

// Hold holds one write from now on: the first whose key has this prefix, of
// those about the connector or decoy with this ID, or of a mount whose tenant has this
// URL. Later ones pass.
func (g *StorageGate) Hold(when WriteWhen, prefix, id string) *WriteHold {
	h := &WriteHold{
		when: when, prefix: prefix, id: id,
		arrived: make(chan struct{}), released: make(chan struct{}),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds = append(g.holds, h)
	return h
}

// Arrived is closed when the write is held.
func (h *WriteHold) Arrived() <-chan struct{} { return h.arrived }

// Release lets the write go on, if its process is still there, and holds
// nothing from then on. It may be called more than once.
func (h *WriteHold) Release() { h.once.Do(func() { close(h.released) }) }

// ServeHTTP answers the gated plugin when its write may go on.
func (g *StorageGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var write Write
	if err := json.NewDecoder(r.Body).Decode(&write); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if h := g.holdFor(write); h != nil {
		select {
		case <-h.released:
		case <-r.Context().Done(): // the process was killed
			return
		case <-g.done:
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// holdFor returns the hold that is meant for this write, if any, and tells its
// owner that it has come.
func (g *StorageGate) holdFor(write Write) *WriteHold {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.holds {
		if !h.used && h.when == write.When && strings.HasPrefix(write.Key, h.prefix) && strings.Contains(write.About, h.id) {
			h.used = true
			close(h.arrived)
			return h
		}
	}
	return nil
}
