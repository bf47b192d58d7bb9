// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// material is what a reader that runs its own loop has read.
type material struct {
	version, id, secret string
	again               time.Duration // when to read again; zero: the reader's own interval
}

func TestKVClientInGoByVersion1(t *testing.T) {
	follow(t, client{
		name: "Go, KV v1 (`KVv1().Get`), heeding ttl", ran: "vault/api " + moduleVersion(t, "github.com/hashicorp/vault/api"),
		needs: "a token; restarts what it feeds itself",
		start: func(s *story) {
			kv := s.Client(s.token(s.credsPath())).KVv1(s.Mount)
			s.readAgain(func(ctx context.Context) (material, error) {
				secret, err := kv.Get(ctx, s.credsPath())
				if err != nil {
					return material{}, err
				}
				return plain(secret.Data)
			})
		},
	})
}

func TestKVClientInGoByVersion2(t *testing.T) {
	follow(t, client{
		name: "Go, KV v2 (`KVv2().Get`), every 15 s", ran: "vault/api " + moduleVersion(t, "github.com/hashicorp/vault/api"),
		needs: "a token; restarts what it feeds itself",
		start: func(s *story) {
			kv := s.Client(s.token("data/" + s.credsPath())).KVv2(s.Mount)
			s.readAgain(func(ctx context.Context) (material, error) {
				secret, err := kv.Get(ctx, s.credsPath())
				if err != nil {
					return material{}, err
				}
				return baton(secret.Data, secret.VersionMetadata.Version)
			})
		},
	})
}

func TestVaultKV(t *testing.T) {
	follow(t, client{
		name: "`vault kv get` in a loop, every 15 s", ran: vaultVersion(t),
		needs: "a token; the mount tuned with `-options=version=2`", options: map[string]string{"version": "2"},
		start: func(s *story) {
			token := s.token("data/" + s.credsPath())
			s.readAgain(func(context.Context) (material, error) {
				stdout, stderr, code := s.CLIAs(token, "", "kv", "get", "-mount="+s.Mount, "-format=json", s.credsPath())
				if code != 0 {
					return material{}, errors.New(stderr)
				}
				var secret struct {
					Data struct {
						Data     map[string]any
						Metadata struct{ Version int }
					}
				}
				if err := json.Unmarshal([]byte(stdout), &secret); err != nil {
					return material{}, err
				}
				return baton(secret.Data.Data, secret.Data.Metadata.Version)
			})
		},
	})
}

// readAgain reads until the test ends, and delivers each new version. A reader heeds
// the ttl of its answers where they have one, and else reads each refreshInterval.
func (s *story) readAgain(read func(context.Context) (material, error)) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	s.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		have := ""
		for {
			next := refreshInterval
			m, err := read(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				s.t.Logf("a read failed, and is tried again: %v", err)
				next = time.Second
			default:
				if m.version != have {
					s.deliver(m.id, m.secret)
					have = m.version
				}
				if m.again != 0 {
					next = m.again
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(next):
			}
		}
	}()
}

// plainRead reads a binding as a program does that knows nothing of KV.
func plainRead(ctx context.Context, vault *api.Client, path string) (material, error) {
	secret, err := vault.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return material{}, err
	}
	return plain(secret.Data)
}

// plain are the fields of a plain read.
func plain(data map[string]any) (material, error) {
	ttl, ok := data["ttl"].(json.Number)
	if !ok {
		return material{}, errors.New("the answer has no ttl")
	}
	seconds, err := ttl.Int64()
	if err != nil {
		return material{}, err
	}
	m := material{version: fmt.Sprint(data["version"]), again: time.Duration(seconds) * time.Second}
	m.id, _ = data["client_id"].(string)
	m.secret, _ = data["client_secret"].(string)
	return m, m.check()
}

// baton are the fields of the KV v2 view of a binding with keys_preset=baton.
func baton(data map[string]any, version int) (material, error) {
	if len(data) != 2 {
		return material{}, fmt.Errorf("the answer has %d keys instead of two", len(data))
	}
	m := material{version: fmt.Sprint(version)}
	m.id, _ = data["BATON_CLIENT_ID"].(string)
	m.secret, _ = data["BATON_CLIENT_SECRET"].(string)
	return m, m.check()
}

func (m material) check() error {
	if m.id == "" || m.secret == "" {
		return errors.New("the answer has no client ID and secret")
	}
	return nil
}

// moduleVersion is that of a module that the tests are built with.
func moduleVersion(t *testing.T, path string) string {
	t.Helper()
	printed, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", path).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(printed))
}
