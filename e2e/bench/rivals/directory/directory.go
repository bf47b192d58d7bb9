// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package directory is an LDAP server on loopback, for the engine that rotates
// passwords of LDAP accounts: everybody may bind, every DN exists, and a change
// takes as long as it is told to and is remembered.
package directory

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jimlambrt/gldap"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// Change is one modification of an entry.
type Change struct {
	DN   string
	Time time.Time // when it was made, after the delay
}

// Directory is a running server.
type Directory struct {
	addr  string
	delay time.Duration
	done  chan struct{} // closed when it stops: whatever waits gives up

	mu      sync.Mutex
	changes []Change
}

// Start serves until the benchmark ends. Each modification takes the delay.
func Start(tb testing.TB, delay time.Duration) *Directory {
	tb.Helper()
	// A port that was free a moment ago: gldap does not say which one it chose.
	addr := vaulttest.FreeAddress(tb)
	d := &Directory{addr: addr, delay: delay, done: make(chan struct{})}
	server, err := d.server()
	if err != nil {
		tb.Fatalf("starting the directory: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(addr) }()
	tb.Cleanup(func() {
		close(d.done)
		if err := errors.Join(server.Stop(), <-ended); err != nil {
			tb.Errorf("the directory: %v", err)
		}
	})
	for ticker := time.NewTicker(time.Millisecond); !server.Ready(); <-ticker.C {
	}
	return d
}

// URL is what the engine's config takes.
func (d *Directory) URL() string { return "ldap://" + d.addr }

// Changes returns every modification so far, in order.
func (d *Directory) Changes() []Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.changes)
}

func (d *Directory) server() (*gldap.Server, error) {
	mux, err := gldap.NewMux()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(mux.Bind(bind), mux.Search(search), mux.Modify(d.modify)); err != nil {
		return nil, err
	}
	server, err := gldap.NewServer(gldap.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, err
	}
	return server, server.Router(mux)
}

// The handlers ignore errors of Write: who has gone needs no answer.

func bind(w *gldap.ResponseWriter, r *gldap.Request) {
	_ = w.Write(r.NewBindResponse(gldap.WithResponseCode(gldap.ResultSuccess)))
}

// search answers with the entry that was asked for.
func search(w *gldap.ResponseWriter, r *gldap.Request) {
	done := r.NewSearchDoneResponse(gldap.WithResponseCode(gldap.ResultOperationsError))
	if m, err := r.GetSearchMessage(); err == nil {
		_ = w.Write(r.NewSearchResponseEntry(m.BaseDN, gldap.WithAttributes(map[string][]string{"objectClass": {"person"}})))
		done.SetResultCode(gldap.ResultSuccess)
	}
	_ = w.Write(done)
}

func (d *Directory) modify(w *gldap.ResponseWriter, r *gldap.Request) {
	answer := r.NewModifyResponse(gldap.WithResponseCode(gldap.ResultUnwillingToPerform))
	if m, err := r.GetModifyMessage(); err == nil && d.wait() {
		d.mu.Lock()
		d.changes = append(d.changes, Change{DN: m.DN, Time: time.Now()})
		d.mu.Unlock()
		answer.SetResultCode(gldap.ResultSuccess)
	}
	_ = w.Write(answer)
}

// wait passes the delay, and reports whether the directory is still open.
func (d *Directory) wait() bool {
	timer := time.NewTimer(d.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.done:
		return false
	}
}
