// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command gatedplugin is the plugin for tests that kill it between two writes:
// before and after each write to storage it asks a vaulttest.StorageGate, which
// may keep it waiting. It is never released; without a gate it does not start.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	c1 "github.com/c1-community/vault-plugin-c1"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

var version = "v0.0.0-dev" // stamped by vaulttest, which registers the plugin under it

func main() {
	if err := serve(); err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("the gated plugin stopped", "error", err)
		os.Exit(1)
	}
}

func serve() error {
	url := os.Getenv(vaulttest.StorageGateEnv)
	if url == "" {
		return errors.New("this is a program of the tests: set " + vaulttest.StorageGateEnv + ", or run vault-plugin-c1")
	}
	// A held write occupies a connection for as long as it is held.
	g := &gate{url: url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	return plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: g.factory(c1.Factory(version))})
}

// gate asks whether a write may go on.
type gate struct {
	url    string
	client *http.Client
}

// pass returns when the write may go on. It does not look at the caller's
// context: what a test holds stays held until the process is killed, however
// long the engine would have waited for its storage.
func (g *gate) pass(ctx context.Context, write vaulttest.Write) error {
	question, err := json.Marshal(write)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, g.url, bytes.NewReader(question))
	if err != nil {
		return err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the storage gate: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the storage gate answered %s", resp.Status)
	}
	return nil
}

// factory puts the gate before the storage that the engine keeps, by which it
// does all of its work: its requests' too.
func (g *gate) factory(engine logical.Factory) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		gated := *conf
		if conf.StorageView != nil { // as it is while Vault asks for the version only
			gated.StorageView = &gatedStorage{Storage: conf.StorageView, gate: g, about: map[string]string{}}
		}
		return engine(ctx, &gated)
	}
}

// gatedStorage asks the gate about each write that a rotation makes.
type gatedStorage struct {
	logical.Storage
	gate *gate

	mu    sync.Mutex
	about map[string]string // the connector or decoy, by its name in storage
}

// aboutEntry returns the connector or decoy that an entry is about, or the tenant of
// a mount's identity. A state and a pointer name it, and a due entry ends like the key
// of a state that was written before.
func (s *gatedStorage) aboutEntry(entry *logical.StorageEntry) string {
	name := entry.Key[strings.LastIndexByte(entry.Key, '/')+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	var named struct {
		Ref    json.RawMessage `json:"ref"`
		Tenant string          `json:"tenant"` // of a state
		URL    string          `json:"url"`    // of a config
	}
	if json.Unmarshal(entry.Value, &named) == nil {
		s.about[name] = string(named.Ref) + " " + named.Tenant + named.URL
	}
	return s.about[name]
}

func (s *gatedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if !vaulttest.Gated(entry.Key) {
		return s.Storage.Put(ctx, entry)
	}
	write := vaulttest.Write{Key: entry.Key, About: s.aboutEntry(entry), When: vaulttest.BeforeWrite}
	if err := s.gate.pass(ctx, write); err != nil {
		return err
	}
	if err := s.Storage.Put(ctx, entry); err != nil {
		return err
	}
	write.When = vaulttest.AfterWrite
	return s.gate.pass(ctx, write)
}
