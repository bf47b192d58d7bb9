// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// writes are the paths that take input, with what a good write of each holds.
func (e *engine) writes() map[string]map[string]any {
	id := e.c1.Identity()
	return map[string]map[string]any{
		"config": fields("client_id", id.ClientID, "client_secret", id.ClientSecret, "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM(),
			"request_timeout", "7s", "max_retries", 1, "max_requests_per_second", 500.0, "max_concurrent_requests", 20, "history_limit", 9,
			"rotation_workers", 3, "drift_check_period", "2h"),
		"connectors/leased": e.connectorData("cooldown", "3s", "wrap_ttl", "70s", "ttl", "8m", "max_ttl", "2h", "on_lease_end", "keep",
			"metadata", map[string]any{"team": "people"}),
		"decoys/stored": fields("decoy_id", e.c1.Decoy(c1test.KindAccessToken), "rotate_on", "schedule", "rotation_period", "3h",
			"cooldown", "5s", "metadata", map[string]any{"team": "red"}, "keys", map[string]any{"access_token": "TOKEN"}),
		"connector-creds/leased": nil,
		"decoy-creds/stored":     nil,
		"decoys/stored/rotate":   nil,
		"lookup":                 fields("fingerprint_sha256", strings.Repeat("ab", 32)),
	}
}

// writeAll sends the good writes of config and bindings, so that no field has its default.
func (e *engine) writeAll() {
	e.Helper()
	for _, path := range []string{"config", "connectors/leased", "decoys/stored"} {
		e.must(logical.CreateOperation, path, e.writes()[path])
	}
}

// entries are all that the mount has stored.
func (e *engine) entries() map[string]string {
	e.Helper()
	keys, err := logical.CollectKeys(e.Context(), e.storage.Storage)
	require.NoError(e, err)
	all := map[string]string{}
	for _, key := range keys {
		entry, err := e.storage.Storage.Get(e.Context(), key)
		require.NoError(e, err)
		all[key] = string(entry.Value)
	}
	return all
}

func TestNullMeansNotNamed(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.writeAll()
	shown := func(path string) map[string]any {
		data := e.read(path).Data
		delete(data, "checked_at") // each write of a binding asks C1
		return data
	}
	for _, path := range []string{"config", "connectors/leased", "decoys/stored"} {
		before := shown(path)
		for field := range e.b.Route(path).Fields {
			if field == "name" {
				continue
			}
			e.must(logical.UpdateOperation, path, fields(field, nil))
			require.Equal(t, before, shown(path), "%s: %s given as null", path, field)
		}
	}
	requests := e.c1.Requests(c1test.OpIntrospect)
	f := e.refused(logical.UpdateOperation, "config", fields("client_secret", "wrong", "verify_connection", nil))
	require.Contains(t, f.message, "does not work", "null does not switch the check off")
	require.Equal(t, requests, e.c1.Requests(c1test.OpIntrospect), "no token, so no introspection")
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup", fields("fingerprint_sha256", nil)).message, "fingerprint_sha256")
}

func TestTextFieldsTakeTextAlone(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.writeAll()
	before := e.entries()
	for path := range e.writes() {
		for field, schema := range e.b.Route(path).Fields {
			if schema.Type != framework.TypeString || field == "name" {
				continue
			}
			for _, odd := range []any{9007199254740993.0, 7, true, []any{"a"}, map[string]any{"value": "secret-token:conductorone.com:v1:x"}} {
				f := e.refused(logical.UpdateOperation, path, fields(field, odd))
				require.Equal(t, http.StatusBadRequest, f.status)
				require.Contains(t, f.message, field+": must be text", "%s: %v", path, odd)
				require.NotContains(t, f.message, "secret-token", "a secret in the wrong place is not repeated")
			}
		}
	}
	for _, odd := range []any{map[string]any{"n": 9007199254740993.0}, map[string]any{"n": nil}, map[string]any{"n": map[string]any{}}, []any{1}, true} {
		f := e.refused(logical.UpdateOperation, "connectors/leased", fields("metadata", odd))
		require.Contains(t, f.message, "metadata: must be pairs of texts", "%v", odd)
	}
	require.Equal(t, before, e.entries(), "nothing was changed")
}

func TestNumbersAreNotCutToFit(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.writeAll()
	before, seen := e.entries(), 0
	for path := range e.writes() {
		for field, schema := range e.b.Route(path).Fields {
			var odd []any
			switch schema.Type {
			case framework.TypeDurationSecond:
				odd = []any{"500ms", "900ms", "1500ms", "61s1ns", 0.5, 90.5, "-500ms"}
			case framework.TypeInt:
				odd = []any{0.5, 1.5, true}
			default:
				continue
			}
			seen++
			for _, value := range odd {
				f := e.refused(logical.UpdateOperation, path, fields(field, value))
				require.Equal(t, http.StatusBadRequest, f.status)
				require.True(t, strings.HasPrefix(f.message, field), "%s=%v: %s", field, value, f.message)
			}
		}
	}
	require.Greater(t, seen, 15)
	require.Equal(t, before, e.entries(), "nothing was changed")
}

func TestNamesThatStorageRefusesAreRefusedByName(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.storage.operations()
	for _, path := range []string{"connectors/%s", "decoys/%s", "connector-creds/%s", "decoy-creds/%s", "connectors/%s/history", "decoys/%s/rotate"} {
		for _, name := range []string{"a..b", "a..", "..."} {
			path := strings.Replace(path, "%s", name, 1)
			for op := range e.b.Route(path).Operations {
				req := newRequest(op, path, nil)
				req.Storage = e.storage
				if op == logical.CreateOperation {
					_, found, err := e.b.HandleExistenceCheck(t.Context(), req)
					require.NoError(t, err, path)
					require.False(t, found)
				}
				f := e.refusedRequest(t.Context(), req)
				require.Equal(t, http.StatusBadRequest, f.status, "%s %s: %s", op, path, f.message)
				require.Contains(t, f.message, "name ", path)
			}
		}
	}
	require.Zero(t, e.storage.operations(), "storage was not asked")
}

func TestTextThatATerminalDoesNotShowAsItIsIsRefused(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.writeAll()
	before := e.entries()
	for what, text := range map[string]string{
		"line end":            "a\nb",
		"escape":              "a\x1b[2Jb",
		"delete":              "a\x7fb",
		"right-to-left":       "web-1:/srv/\u202Etxt.exe",
		"isolate":             "a\u2066b",
		"zero-width space":    "a\u200Bb",
		"zero-width joiner":   "a\u200Db",
		"byte-order mark":     "\uFEFFa",
		"soft hyphen":         "a\u00ADb",
		"tags":                "a\U000E0041\U000E0042",
		"Hangul filler":       "a\u3164b",
		"grapheme joiner":     "a\u034Fb",
		"variation selectors": "a\U000E0100b",
		"line separator":      "a\u2028b",
		"private use":         "a\uE000b",
		"invalid UTF-8":       "a\xffb",
	} {
		for path, data := range map[string]map[string]any{
			"decoy-creds/stored":   fields("placement", text),
			"decoys/stored/rotate": fields("placement", text),
			"connectors/leased":    fields("metadata", map[string]any{"k": text}),
			"decoys/stored":        fields("metadata", map[string]any{text: "v"}),
		} {
			f := e.refused(logical.UpdateOperation, path, data)
			require.Equal(t, http.StatusBadRequest, f.status)
			require.NotContains(t, f.message, text, what)
			require.Regexp(t, "^(placement|metadata): ", f.message, what)
		}
	}
	require.Equal(t, before, e.entries(), "nothing was changed")
	for _, text := range []string{"web-1:/srv/app/.env", "Zürich — Büro №7", "مكتب القاهرة", "東京", "⚠️ lobby", "a  b"} {
		e.write("connectors/leased", "metadata", map[string]any{"k": text})
		require.Equal(t, text, e.read("connectors/leased").Data["metadata"].(map[string]string)["k"])
	}
}
