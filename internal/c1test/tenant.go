// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Tenant is one C1 tenant on one port.
type Tenant struct {
	emulator *Emulator
	name     string
	host     string // host:port, as in client IDs
	server   port
	admin    http.Handler

	mu            sync.Mutex // guards everything below
	semantics     Semantics
	credentialTTL time.Duration
	off           map[Feature]bool
	revoked       RevokedAnswer
	tokenErrors   TokenErrors
	seeds         seeds

	identities  map[string]*identity  // by client ID
	own         []*ownCredential      // in the order of their creation, ended ones included
	principals  map[string]*principal // by user ID
	tokens      map[string]*token     // by access token
	staticToken string
	dpop        dpop
	users       map[string]bool
	apps        map[string]bool
	connectors  map[ConnectorRef]*connector
	decoys      map[string]*decoy // by ID, deleted ones included
	uses        []Finding         // every use of a decoy, oldest first
	findings    []*findingRecord  // in the order in which they were raised
	journal     []Entry
	requests    map[string]int // by operation
	inFlight    map[string]int // rotations under way, by object
	maxInFlight map[string]int
	faults      []*FaultHandle
	barriers    []*Barrier
	nextID      int // of faults and barriers, for the admin path
}

// port is where a tenant is reached.
type port interface {
	start() error
	stop() error  // until the next start, at the same address
	close() error // for good
}

func startTenant(e *Emulator, name, addr string) (*Tenant, error) {
	t := &Tenant{
		emulator:    e,
		name:        name,
		semantics:   e.options.Semantics,
		off:         map[Feature]bool{},
		revoked:     e.options.RevokedAnswer,
		tokenErrors: e.options.TokenErrors,
		identities:  map[string]*identity{},
		principals:  map[string]*principal{},
		tokens:      map[string]*token{},
		dpop:        newDPoP(),
		users:       map[string]bool{},
		apps:        map[string]bool{},
		connectors:  map[ConnectorRef]*connector{},
		decoys:      map[string]*decoy{},
		requests:    map[string]int{},
		inFlight:    map[string]int{},
		maxInFlight: map[string]int{},
	}
	t.admin = t.adminHandler()

	// No request may see a tenant without its seeds, and the seeds need the port.
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.options.Offline {
		t.server, t.host = &offline{}, name+".c1.test:443"
	} else {
		server, err := listen(addr, e.tls, http.HandlerFunc(t.serve))
		if err != nil {
			return nil, err
		}
		t.server, t.host = server, publicHost(addr, server.addr)
	}
	t.seed()
	return t, nil
}

// URL returns the root of the tenant, e.g. https://127.0.0.1:41234.
func (t *Tenant) URL() string {
	if t.emulator.tls != nil || t.emulator.options.Offline {
		return "https://" + t.host
	}
	return "http://" + t.host
}

// Name returns the tenant's name, as in Options.Tenants.
func (t *Tenant) Name() string { return t.name }

// Audience returns what the aud claim of a client assertion must contain.
func (t *Tenant) Audience() string {
	if t.emulator.options.Audience != "" {
		return t.emulator.options.Audience
	}
	host, _, _ := net.SplitHostPort(t.host)
	return host
}

// SetSemantics changes what later rotations do to the previous credential.
func (t *Tenant) SetSemantics(s Semantics) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.semantics = s
	t.record(Entry{Op: "setSemantics", Detail: string(s)})
}

// SetCredentialTTL sets how far ahead the expiresTime of later connector
// credentials lies; 0 mints credentials without one.
func (t *Tenant) SetCredentialTTL(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.credentialTTL = d
	t.record(Entry{Op: "setCredentialTTL", Detail: d.String()})
}

// SetDown closes the tenant's port and every connection to it, or opens the
// same port again; requests under way are acted upon. It panics when something
// else took the port meanwhile, since no test could go on.
func (t *Tenant) SetDown(down bool) {
	if err := t.setDown(down); err != nil {
		panic(err)
	}
}

func (t *Tenant) setDown(down bool) error {
	if down {
		return t.server.stop()
	}
	return t.server.start()
}

// now is the emulator's idea of time, outside of a request.
func (t *Tenant) now() time.Time { return t.emulator.options.Now() }

// client returns an HTTP client that trusts the emulator's CA and follows no
// redirect.
func (t *Tenant) client() *http.Client {
	client := newHTTPClient(t.emulator.tls.certPool())
	if t.emulator.options.Offline {
		client.Transport = t
	}
	return client
}
