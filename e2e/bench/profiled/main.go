// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command profiled is the engine with a clock beside it, for the benchmarks that
// explain where its time and memory go: for each read of material it notes when
// each call to Vault began and ended. It is never released.
package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // as the plugin itself has

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	c1 "github.com/c1-community/vault-plugin-c1"
	"github.com/c1-community/vault-plugin-c1/e2e/bench/heapdump"
)

// traceEnv names the file that the traces go to, one line each.
const traceEnv = "C1_BENCH_TRACE"

var version = "v0.0.0-dev" // stamped by vaulttest

func main() {
	logger := hclog.New(&hclog.LoggerOptions{JSONFormat: true})
	heapdump.OnSignal(func(err error) { logger.Error("no heap profile", "error", err) })
	c := &clock{path: os.Getenv(traceEnv), logger: logger}
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: c.factory(c1.Factory(version))}); err != nil {
		logger.Error("the profiled plugin stopped", "error", err)
		os.Exit(1)
	}
}

// clock times one read after the other: with one client, whatever happens
// between its start and its end belongs to it.
type clock struct {
	path   string // "" for none
	logger hclog.Logger

	mu    sync.Mutex
	trace *trace // of the read that runs; nil between two
}

// trace is one read. All times are µs since its start. It names no key beyond
// its first element, and no value.
type trace struct {
	Calls []*call `json:"calls"`
	Total int64   `json:"total"`

	began time.Time
}

type call struct {
	Name  string `json:"name"`
	Begin int64  `json:"begin"`
	End   int64  `json:"end,omitempty"` // absent when it went on after the read
}

func (t *trace) now() int64 { return time.Since(t.began).Microseconds() }

// start begins a read, and returns what ends it.
func (c *clock) start() func() {
	t := &trace{began: time.Now()}
	c.mu.Lock()
	c.trace = t
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.Total, c.trace = t.now(), nil
		if err := c.append(t); err != nil {
			c.logger.Error("could not write a trace", "error", err)
		}
	}
}

func (c *clock) append(t *trace) error {
	line, err := json.Marshal(t)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// call begins a call to Vault, and returns what ends it.
func (c *clock) call(name string) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trace
	if t == nil {
		return func() {}
	}
	made := &call{Name: name, Begin: t.now()}
	t.Calls = append(t.Calls, made)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		made.End = t.now()
	}
}

// factory puts the clock beside all that the engine asks Vault.
func (c *clock) factory(engine logical.Factory) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		timed := *conf
		if conf.StorageView != nil { // as it is while Vault asks for the version only
			timed.StorageView = &timedStorage{Storage: conf.StorageView, clock: c}
		}
		if conf.System != nil {
			timed.System = &timedSystem{SystemView: conf.System, clock: c}
		}
		if conf.EventsSender != nil {
			timed.EventsSender = &timedEvents{EventSender: conf.EventsSender, clock: c}
		}
		backend, err := engine(ctx, &timed)
		if err != nil {
			return nil, err
		}
		return &timedBackend{Backend: backend, clock: c}, nil
	}
}

type timedBackend struct {
	logical.Backend
	clock *clock
}

func (b *timedBackend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if b.clock.path != "" && req.Operation == logical.ReadOperation && strings.Contains(req.Path, "-creds/") {
		defer b.clock.start()()
	}
	return b.Backend.HandleRequest(ctx, req)
}

// PluginVersion is one of the things a logical.Backend need not have.
func (b *timedBackend) PluginVersion() logical.PluginVersion {
	if versioner, ok := b.Backend.(logical.PluginVersioner); ok {
		return versioner.PluginVersion()
	}
	return logical.EmptyPluginVersion
}

// kindOf is all that a trace tells of a key.
func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

type timedStorage struct {
	logical.Storage
	clock *clock
}

func (s *timedStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	defer s.clock.call("get " + kindOf(key))()
	return s.Storage.Get(ctx, key)
}

func (s *timedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	defer s.clock.call("put " + kindOf(entry.Key))()
	return s.Storage.Put(ctx, entry)
}

func (s *timedStorage) Delete(ctx context.Context, key string) error {
	defer s.clock.call("delete " + kindOf(key))()
	return s.Storage.Delete(ctx, key)
}

func (s *timedStorage) List(ctx context.Context, prefix string) ([]string, error) {
	defer s.clock.call("list " + kindOf(prefix))()
	return s.Storage.List(ctx, prefix)
}

// timedSystem times what the engine asks of it: each is a call to Vault.
type timedSystem struct {
	logical.SystemView
	clock *clock
}

func (s *timedSystem) DefaultLeaseTTL() time.Duration {
	defer s.clock.call("DefaultLeaseTTL")()
	return s.SystemView.DefaultLeaseTTL()
}

func (s *timedSystem) MaxLeaseTTL() time.Duration {
	defer s.clock.call("MaxLeaseTTL")()
	return s.SystemView.MaxLeaseTTL()
}

func (s *timedSystem) Tainted() bool {
	defer s.clock.call("Tainted")()
	return s.SystemView.Tainted()
}

func (s *timedSystem) LocalMount() bool {
	defer s.clock.call("LocalMount")()
	return s.SystemView.LocalMount()
}

func (s *timedSystem) ReplicationState() consts.ReplicationState {
	defer s.clock.call("ReplicationState")()
	return s.SystemView.ReplicationState()
}

type timedEvents struct {
	logical.EventSender
	clock *clock
}

func (e *timedEvents) SendEvent(ctx context.Context, kind logical.EventType, event *logical.EventData) error {
	defer e.clock.call("SendEvent")()
	return e.EventSender.SendEvent(ctx, kind, event)
}
