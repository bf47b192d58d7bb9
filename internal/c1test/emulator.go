// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package c1test is an emulator of the part of C1 that this project uses: a
// stateful C1 on net/http, for tests and for trying the plugin without
// a tenant of one's own.
//
// It shares no code with the client in internal/c1api, so that the two cannot
// be wrong in the same way; openapi.yaml in this directory is the contract
// between them. It takes what C1 takes and refuses what C1 refuses, mints
// material in C1's format, keeps a journal of everything that changed, and can
// be told to fail in every way that a network or a server can (see Fault and
// Barrier). Where C1's behaviour is not documented, a switch picks one: whether
// a rotation ends the previous credential (Semantics), how a revoked one is
// shown (RevokedAnswer), in which form the token endpoint refuses (TokenErrors),
// where DPoP proofs need a nonce (SetDPoPNonces).
package c1test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Semantics says what a rotation does to the connector's previous credential.
// C1 does not document it, so code that uses C1 must be right under both.
type Semantics string

const (
	// Exclusive: a rotation ends the previous credential at once.
	Exclusive Semantics = "exclusive"
	// Overlapping: it stays alive until it is revoked or expires.
	Overlapping Semantics = "overlapping"
)

func (s Semantics) check() error {
	if s != Exclusive && s != Overlapping {
		return fmt.Errorf("semantics: want %q or %q, got %q", Exclusive, Overlapping, string(s))
	}
	return nil
}

// Options is what Start takes; the zero value is a usable emulator.
type Options struct {
	TLS           bool             // serve HTTPS with a certificate of the emulator's own CA
	Addr          string           // listen address of the first tenant, default 127.0.0.1:0
	Tenants       []string         // names, one listener each, default {"acme"}
	Semantics     Semantics        // default Overlapping
	RevokedAnswer RevokedAnswer    // default RevokedNotFound
	TokenErrors   TokenErrors      // default TokenErrorsOAuth
	TokenTTL      time.Duration    // lifetime of issued access tokens, default 10m
	Audience      string           // what an assertion's aud must contain, default the host without port
	Now           func() time.Time // default time.Now
	Offline       bool             // no port: requests come through Tenant.RoundTrip alone
}

const (
	defaultAddr     = "127.0.0.1:0"
	defaultTenant   = "acme"
	defaultTokenTTL = 10 * time.Minute
)

func (o *Options) setDefaults() error {
	if o.Addr == "" {
		o.Addr = defaultAddr
	}
	if len(o.Tenants) == 0 {
		o.Tenants = []string{defaultTenant}
	}
	if o.Semantics == "" {
		o.Semantics = Overlapping
	}
	if o.RevokedAnswer == "" {
		o.RevokedAnswer = RevokedNotFound
	}
	if o.TokenErrors == "" {
		o.TokenErrors = TokenErrorsOAuth
	}
	if o.TokenTTL == 0 {
		o.TokenTTL = defaultTokenTTL
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := errors.Join(o.Semantics.check(), o.RevokedAnswer.check(), o.TokenErrors.check()); err != nil {
		return err
	}
	if o.TokenTTL < time.Second {
		return fmt.Errorf("token TTL %v is shorter than a second", o.TokenTTL)
	}
	for i, name := range o.Tenants {
		if name == "" || slices.Contains(o.Tenants[:i], name) {
			return fmt.Errorf("tenant names must be distinct and not empty, got %q", o.Tenants)
		}
	}
	return nil
}

// Emulator is a set of C1 tenants that share a clock and a certificate
// authority. It is safe for concurrent use.
type Emulator struct {
	options Options
	tls     *authority // nil without TLS
	tenants []*Tenant
	done    chan struct{} // closed by Close: whatever waits gives up

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // requests and late commits under way
	secrets []string
}

// Start serves every tenant of o, each seeded with identities, a connector and
// one decoy of each kind. The caller must Close the emulator.
func Start(o Options) (*Emulator, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	e := &Emulator{options: o, done: make(chan struct{})}
	if o.TLS {
		var err error
		if e.tls, err = newAuthority(); err != nil {
			return nil, err
		}
	}
	addr := o.Addr
	for _, name := range o.Tenants {
		t, err := startTenant(e, name, addr)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.tenants = append(e.tenants, t)
		addr = withPortZero(o.Addr)
	}
	return e, nil
}

// StartT starts an emulator for the length of a test.
func StartT(tb testing.TB, o Options) *Emulator {
	tb.Helper()
	e, err := Start(o)
	if err != nil {
		tb.Fatalf("start the C1 emulator: %v", err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Errorf("close the C1 emulator: %v", err)
		}
	})
	return e
}

// Close stops every tenant. Requests held by a barrier, a delay or a late
// commit end without committing.
func (e *Emulator) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.done)
	e.mu.Unlock()

	// Twice, since an order to come up again may just have been under way.
	err := e.stop()
	e.running.Wait()
	return errors.Join(err, e.stop())
}

// stop closes every tenant's port.
func (e *Emulator) stop() error {
	var errs []error
	for _, t := range e.tenants {
		errs = append(errs, t.server.close())
	}
	return errors.Join(errs...)
}

// enter counts a request or late commit in, unless the emulator is closed; the
// caller must call e.running.Done when it returned true.
func (e *Emulator) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.running.Add(1)
	return true
}

// CACertPEM returns the certificate of the CA that signed every tenant's
// certificate, or "" without TLS.
func (e *Emulator) CACertPEM() string {
	if e.tls == nil {
		return ""
	}
	return e.tls.caPEM
}

// Tenant returns the tenant with this name, or nil.
func (e *Emulator) Tenant(name string) *Tenant {
	for _, t := range e.tenants {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Tenants returns every tenant in the order of Options.Tenants.
func (e *Emulator) Tenants() []*Tenant { return slices.Clone(e.tenants) }

// Default returns the first tenant.
func (e *Emulator) Default() *Tenant { return e.tenants[0] }

// Secrets returns every secret that was ever minted, issued or presented, for
// scans of logs and storage: client secrets (whole, without their prefix, and
// the private part of their key), access tokens and client assertions.
func (e *Emulator) Secrets() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.secrets)
}

func (e *Emulator) remember(secrets ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secrets = append(e.secrets, secrets...)
}
