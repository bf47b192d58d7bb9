// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// Engine is a mounted and configured engine with an emulated C1 of its own.
type Engine struct {
	*Server
	Mount    string // without a slash, e.g. c1
	Emulator *c1test.Emulator
	Tenant   *c1test.Tenant
}

// New starts a server of the test's own, with the engine at c1/.
func New(t testing.TB, o Options) *Engine {
	t.Helper()
	s := Start(t, o)
	s.RegisterPlugin()
	return s.Engine("c1", c1test.Options{})
}

// Engine mounts the engine at a path, configured for an emulator of its own.
func (s *Server) Engine(mount string, o c1test.Options) *Engine {
	s.t.Helper()
	emulator := s.Emulator(o)
	s.Mount(mount)
	s.Configure(mount, emulator.Default(), nil)
	return &Engine{Server: s, Mount: mount, Emulator: emulator, Tenant: emulator.Default()}
}

// Path returns the full path of one of the engine's paths.
func (e *Engine) Path(path string) string { return e.Mount + "/" + path }

// With returns the same engine as another test (or subtest) sees it.
func (e *Engine) With(t testing.TB) *Engine {
	view := *e
	view.Server = e.Server.With(t)
	return &view
}

// Read reads one of the engine's paths, e.g. connector-creds/github, as root.
func (e *Engine) Read(path string) (*api.Secret, error) {
	return e.Root.Logical().Read(e.Path(path))
}

// Write writes one of the engine's paths as root.
func (e *Engine) Write(path string, data map[string]any) (*api.Secret, error) {
	return e.Root.Logical().Write(e.Path(path), data)
}

// MustRead is Read of something that is there.
func (e *Engine) MustRead(path string) *api.Secret {
	e.t.Helper()
	secret, err := e.Read(path)
	if err != nil || secret == nil {
		e.t.Fatalf("reading %s: answer %t, error %v", path, secret != nil, err)
	}
	return secret
}

// MustWrite is Write that is taken. The answer is nil when there is none.
func (e *Engine) MustWrite(path string, data map[string]any) *api.Secret {
	e.t.Helper()
	secret, err := e.Write(path, data)
	if err != nil {
		e.t.Fatalf("writing %s: %v", path, err)
	}
	return secret
}

// Login tries vended material at C1: nil means that it is alive.
func (e *Engine) Login(material *api.Secret) error {
	e.t.Helper()
	id, _ := material.Data["client_id"].(string)
	secret, _ := material.Data["client_secret"].(string)
	if id == "" || secret == "" {
		e.t.Fatal("there is no client_id and client_secret to log in with")
	}
	return e.Tenant.Login(e.t.Context(), id, secret)
}

// Records returns the history of a binding, e.g. of connectors/github, newest
// first.
func (e *Engine) Records(binding string) []map[string]any {
	e.t.Helper()
	list, _ := e.MustRead(binding + "/history").Data["records"].([]any)
	records := make([]map[string]any, len(list))
	for i := range list {
		records[i], _ = list[i].(map[string]any)
	}
	return records
}

var shared struct {
	once   sync.Once
	server *instance
	mounts atomic.Int64
}

// Shared returns the server that the tests of this process share, with the
// plugin registered. A test on it leaves the server, the plugin process and the
// mounts of others alone.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() {
		s := &Server{t: t, instance: newInstance(t, Options{}), outputs: &outputs{}}
		s.shared = true
		s.initialise()
		s.RegisterPlugin()
		shared.server = s.instance
	})
	if shared.server == nil {
		t.Fatal("the shared server did not start: another test says why")
	}
	s := &Server{t: t, instance: shared.server, outputs: &outputs{}}
	s.Root = s.Client(s.rootToken)
	t.Cleanup(func() {
		t.Helper()
		s.searchForSecrets()
		s.reportTrouble()
	})
	return s
}

// OnShared mounts an engine for this test on the shared server.
func OnShared(t testing.TB) *Engine {
	t.Helper()
	return Shared(t).Engine(fmt.Sprintf("c1-%d", shared.mounts.Add(1)), c1test.Options{})
}
