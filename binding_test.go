// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// connectorData is a valid binding of the seeded connector.
func (e *engine) connectorData(extra ...any) map[string]any {
	ref := e.c1.Connector()
	return merge(fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "read"), extra...)
}

func TestBindingRoundTrip(t *testing.T) {
	t.Parallel()
	e := configured(t)
	require.Nil(t, e.read("connectors/hr"))
	ref := e.bindConnector("hr", "cooldown", "1m", "wrap_ttl", 90, "ttl", "10m", "max_ttl", "1h",
		"on_lease_end", "keep", "metadata", map[string]any{"team": "people"})
	require.Zero(t, e.c1.Requests("rotateConnector"), "writing a binding rotates nothing")
	got := e.read("connectors/hr").Data
	require.Equal(t, map[string]any{
		"app_id": ref.AppID, "connector_id": ref.ConnectorID, "rotate_on": "read",
		"cooldown": int64(60), "wrap_ttl": int64(90), "ttl": int64(600), "max_ttl": int64(3600), "on_lease_end": "keep",
		"metadata": map[string]string{"team": "people"}, "keys": map[string]string{}, "keys_preset": "", "state": "ready", "problems": []string{}, "version": 0,
		"last_rotation": "", "credential_id": "", "fingerprint_sha256": "", "live_leases": 0,
		"rotation_period": int64(0), "rotation_schedule": "", "next_rotation": "", "grace_period": int64(0),
		"refresh_interval": int64(0), "rotation_window": int64(0), "paused": false, "paused_reason": "", "paused_by": "", "paused_at": "",
	}, got)

	e.write("connectors/hr", "rotate_on", "write", "ttl", "5m")
	changed := e.read("connectors/hr").Data
	require.Equal(t, "write", changed["rotate_on"])
	require.Equal(t, int64(300), changed["ttl"])
	require.Equal(t, int64(60), changed["cooldown"], "fields not given stay")
}

func TestDecoyBindingHasItsOwnFieldsAndDefaults(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken)
	got := e.read("decoys/bait").Data
	require.Equal(t, id, got["decoy_id"])
	require.Equal(t, leaseEndKeep, got["on_lease_end"])
	require.NotContains(t, got, "app_id")
	require.Equal(t, e.c1.DecoyFingerprint(id), e.state(decoyTarget(id)).Baseline)
}

func TestBadBindingIsRefusedByNameAndAsksC1Nothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	requests := e.c1.Requests("")
	long := strings.Repeat("x", 10<<10)
	for name, tc := range map[string]struct {
		path   string
		change []any
		names  string
	}{
		"rotate_on missing":       {"connectors/a", []any{"rotate_on", ""}, "rotate_on is required"},
		"rotate_on unknown":       {"connectors/a", []any{"rotate_on", "sometimes"}, "rotate_on"},
		"schedule's period":       {"connectors/a", []any{"rotation_period", "1h"}, "rotation_period goes with rotate_on=schedule"},
		"schedule's cron line":    {"connectors/a", []any{"rotation_schedule", "0 3 * * *"}, "rotation_schedule goes with rotate_on=schedule"},
		"schedule's grace":        {"connectors/a", []any{"grace_period", "1h"}, "grace_period goes with rotate_on=schedule"},
		"schedule's window":       {"connectors/a", []any{"rotation_window", "1h"}, "rotation_window goes with rotate_on=schedule"},
		"window of a period":      {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "5h", "rotation_window", "1h"}, "rotation_window goes with rotation_schedule"},
		"window of nobody":        {"connectors/a", []any{"rotate_on", "schedule", "rotation_window", 3600}, "rotation_window goes with rotation_schedule"},
		"window too short":        {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "0 3 * * *", "rotation_window", "59m"}, "rotation_window must lie between 1h0m0s"},
		"window of half a second": {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "0 3 * * *", "rotation_window", "0.5s"}, "rotation_window"},
		"schedule's refresh":      {"connectors/a", []any{"refresh_interval", "1m"}, "refresh_interval goes with rotate_on=schedule"},
		"refresh above period":    {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1h", "refresh_interval", "61m"}, "refresh_interval (1h1m0s) must not be longer"},
		"refresh above the turns": {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "0 3 * * *", "refresh_interval", "25h"}, "refresh_interval (25h0m0s) must not be longer"},
		"refresh of nobody":       {"connectors/a", []any{"rotate_on", "schedule", "refresh_interval", "6m"}, "refresh_interval (6m0s) must not be longer"},
		"refresh below a second":  {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1h", "refresh_interval", "500ms"}, "refresh_interval: must be whole seconds"},
		"negative refresh":        {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1h", "refresh_interval", -1}, "refresh_interval"},
		"schedule's skip":         {"connectors/a", []any{"skip_initial_rotation", true}, "skip_initial_rotation goes with rotate_on=schedule"},
		"revoke with a write":     {"connectors/a", []any{"revoke", true}, "revoke goes with a delete"},
		"lease of a schedule":     {"connectors/a", []any{"rotate_on", "schedule", "ttl", "1h"}, "ttl goes with leases"},
		"longest lease of one":    {"connectors/a", []any{"rotate_on", "schedule", "max_ttl", "1h"}, "max_ttl goes with leases"},
		"lease end of one":        {"connectors/a", []any{"rotate_on", "schedule", "on_lease_end", "keep"}, "on_lease_end goes with leases"},
		"period and cron line":    {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1h", "rotation_schedule", "0 3 * * *"}, "exclude each other"},
		"period too short":        {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "59s"}, "rotation_period must lie between"},
		"period too long":         {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "99999h"}, "rotation_period must lie between"},
		"cooldown above period":   {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1h", "cooldown", "2h"}, "cooldown (2h0m0s) must not be longer"},
		"grace far above period":  {"connectors/a", []any{"rotate_on", "schedule", "rotation_period", "1m", "grace_period", "720h"}, "grace_period"},
		"negative grace":          {"connectors/a", []any{"rotate_on", "schedule", "grace_period", -1}, "grace_period"},
		"cron of six fields":      {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "0 0 3 * * *"}, "rotation_schedule"},
		"cron out of range":       {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "61 3 * * *"}, "rotation_schedule"},
		"cron that never comes":   {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "0 3 30 2 *"}, "never matches"},
		"cron of an odd zone":     {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "CRON_TZ=Mars/Base 0 3 * * *"}, "rotation_schedule"},
		"cron of no fixed zone":   {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "CRON_TZ=Local 0 3 * * *"}, "name one"},
		"cron with a zone only":   {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "CRON_TZ=UTC"}, "no time"},
		"cron @every":             {"connectors/a", []any{"rotate_on", "schedule", "rotation_schedule", "@every 1h"}, "use rotation_period"},
		"app_id missing":          {"connectors/a", []any{"app_id", ""}, "app_id is required"},
		"connector_id missing":    {"connectors/a", []any{"connector_id", ""}, "connector_id is required"},
		"ID with a slash":         {"connectors/a", []any{"connector_id", "a/b"}, "connector_id"},
		"ID with dots":            {"connectors/a", []any{"app_id", ".."}, "app_id"},
		"ID with a control char":  {"connectors/a", []any{"app_id", "a\x00b"}, "app_id"},
		"ID of 10 kB":             {"connectors/a", []any{"app_id", long}, "app_id"},
		"odd name":                {"connectors/a%20b", nil, "name"},
		"name that begins badly":  {"connectors/.a", nil, "name"},
		"name too long":           {"connectors/" + strings.Repeat("a", 129), nil, "name"},
		"ttl above max_ttl":       {"connectors/a", []any{"ttl", "2h", "max_ttl", "1h"}, "ttl"},
		"negative ttl":            {"connectors/a", []any{"ttl", -1}, "ttl"},
		"absurd ttl":              {"connectors/a", []any{"ttl", "999999h"}, "ttl"},
		"absurd cooldown":         {"connectors/a", []any{"cooldown", "99999h"}, "cooldown"},
		"absurd wrap_ttl":         {"connectors/a", []any{"wrap_ttl", "99999h"}, "wrap_ttl"},
		"lease end of the other":  {"connectors/a", []any{"on_lease_end", "rotate"}, "on_lease_end"},
		"keys of a lease":         {"connectors/a", []any{"keys", map[string]any{"client_secret": "A"}}, "keys goes with rotate_on=schedule"},
		"preset of a lease":       {"connectors/a", []any{"keys_preset", "baton"}, "keys_preset goes with rotate_on=schedule"},
		"unknown field":           {"connectors/a", []any{"colour", "red"}, "colour"},
		"field of the other kind": {"connectors/a", []any{"decoy_id", "x"}, "decoy_id"},
		"metadata too long":       {"connectors/a", []any{"metadata", map[string]any{"k": long}}, "metadata"},
		"metadata control char":   {"connectors/a", []any{"metadata", map[string]any{"k": "a\nb"}}, "metadata"},
		"metadata not a map":      {"connectors/a", []any{"metadata", 7}, "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			sub := *e
			sub.T = t
			f := sub.refused(logical.CreateOperation, tc.path, sub.connectorData(tc.change...))
			require.Equal(t, http.StatusBadRequest, f.status, f.message)
			require.Contains(t, f.message, tc.names)
			require.Less(t, len(f.message), 500, "the input is not repeated whole")
		})
	}
	f := e.refused(logical.CreateOperation, "decoys/d", fields("decoy_id", "x", "rotate_on", "write", "on_lease_end", "revoke"))
	require.Contains(t, f.message, "keep or rotate")
	require.Equal(t, requests, e.c1.Requests(""), "bad input asks C1 nothing")
	require.Empty(t, e.must(logical.ListOperation, "connectors", nil).Data)
}

func TestTooManyLabelsAreRefused(t *testing.T) {
	t.Parallel()
	labels := map[string]string{}
	for i := range maxMetadataPairs + 1 {
		labels[strings.Repeat("k", i+1)] = "v"
	}
	require.ErrorContains(t, validMetadata(labels), "at most 64")
}

func TestOneBindingPerTarget(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	f := e.refused(logical.CreateOperation, "connectors/payroll", e.connectorData())
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, "connectors/hr")
	require.Nil(t, e.read("connectors/payroll"))

	e.must(logical.DeleteOperation, "connectors/hr", nil)
	e.bindConnector("payroll")
	require.Equal(t, 1, e.vend("connector-creds/payroll").Data["version"])
}

func TestClaimWithoutItsBindingIsTakenOver(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	// A crash between the two writes of a binding leaves only the claim.
	require.NoError(t, e.b.store.Remove(context.Background(), bindingKey(target.Connector, "hr")))
	e.bindConnector("payroll")
	require.Equal(t, "payroll", e.state(connectorTarget(e.c1.Connector())).Binding)
}

func TestTargetIsFixedForABindingsLife(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	other := e.c1.NewConnector("other")
	f := e.refused(logical.UpdateOperation, "connectors/hr", fields("connector_id", other.ConnectorID))
	require.Contains(t, f.message, "connector_id is fixed")
	require.Equal(t, e.c1.Connector().ConnectorID, e.read("connectors/hr").Data["connector_id"])
}

func TestBindingIsCheckedAtC1(t *testing.T) {
	t.Parallel()
	t.Run("missing target refuses", func(t *testing.T) {
		t.Parallel()
		e := configured(t)
		f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData("connector_id", "2abcdefghijklmnopqrstuvwxyz"))
		require.Equal(t, http.StatusBadRequest, f.status)
		require.Contains(t, f.message, "verify=false")
		require.Nil(t, e.read("connectors/hr"))
		e.must(logical.CreateOperation, "connectors/hr", e.connectorData("connector_id", "2abcdefghijklmnopqrstuvwxyz", "verify", false))
		require.NotNil(t, e.read("connectors/hr"))
	})
	t.Run("missing right only warns", func(t *testing.T) {
		t.Parallel()
		e := newEngine(t)
		id := e.c1.NewIdentity(c1test.Denied("getConnector"))
		e.must(logical.UpdateOperation, "config", e.identity(e.c1, "client_id", id.ClientID, "client_secret", id.ClientSecret))
		resp := e.must(logical.CreateOperation, "connectors/hr", e.connectorData())
		require.Len(t, resp.Warnings, 1)
		require.True(t, e.alive(e.vend("connector-creds/hr")))
	})
	t.Run("C1 down refuses", func(t *testing.T) {
		t.Parallel()
		e := configured(t)
		e.c1.SetDown(true)
		f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData())
		require.Equal(t, http.StatusBadGateway, f.status)
		require.Nil(t, e.read("connectors/hr"))
	})
	t.Run("tenant without decoys refuses", func(t *testing.T) {
		t.Parallel()
		e := configured(t)
		e.c1.SetDecoyFeature(false)
		f := e.refused(logical.CreateOperation, "decoys/bait", fields("decoy_id", e.c1.Decoy(c1test.KindAccessToken), "rotate_on", "write"))
		require.Equal(t, http.StatusBadRequest, f.status)
		require.Contains(t, f.message, "early access")
	})
}

func TestBindingNeedsAConfig(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData())
	require.Equal(t, failure{http.StatusBadRequest, "this mount is not configured: write config first"}, f)
}

func TestLongerThanTheMountAllowsIsWarned(t *testing.T) {
	t.Parallel()
	e := configured(t)
	resp := e.must(logical.CreateOperation, "connectors/hr", e.connectorData("ttl", "1h", "max_ttl", "100h"))
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], "24h")
}

func TestDeletingABindingSaysWhatStaysAliveAndKeepsItsRecords(t *testing.T) {
	t.Parallel()
	e := configured(t)
	require.Nil(t, e.must(logical.DeleteOperation, "connectors/hr", nil), "deleting what is not there is fine")
	e.bindConnector("hr")
	vended := e.vend("connector-creds/hr")
	resp := e.must(logical.DeleteOperation, "connectors/hr", nil)
	require.Contains(t, resp.Warnings[0], "1 vended credential(s)")
	require.True(t, e.alive(vended), "deleting a binding ends nothing")
	found := e.write("lookup", "fingerprint_sha256", vended.Data["fingerprint_sha256"])
	require.Equal(t, "hr", found.Data["binding"])

	e.bindDecoy("bait", c1test.KindAccessToken)
	require.Nil(t, e.must(logical.DeleteOperation, "decoys/bait", nil), "never rotated: nothing to say")
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.write("decoy-creds/bait")
	require.Contains(t, e.must(logical.DeleteOperation, "decoys/bait", nil).Warnings[0], "stay at C1")
}

func TestListPagesThroughNames(t *testing.T) {
	t.Parallel()
	e := configured(t)
	for _, name := range []string{"b", "d", "a", "c"} {
		ref := e.c1.NewConnector(name)
		e.must(logical.CreateOperation, "connectors/"+name, fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "write"))
	}
	list := func(pairs ...any) any {
		return e.must(logical.ListOperation, "connectors", fields(pairs...)).Data["keys"]
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, list())
	require.Equal(t, []string{"a", "b"}, list("limit", 2))
	require.Equal(t, []string{"c", "d"}, list("after", "b", "limit", 5))
	require.Equal(t, []string{"c", "d"}, list("after", "bb"))
	require.Contains(t, e.refused(logical.ListOperation, "connectors", fields("limit", 0)).message, "limit")
}

func TestFailingStorageLeavesNoHalfBinding(t *testing.T) {
	t.Parallel()
	e := configured(t)
	for _, broken := range []string{"get binding/", "get config", "get target/", "put target/", "put binding/", "get names/"} {
		op, prefix, _ := strings.Cut(broken, " ")
		e.restart() // or nothing of it is read
		e.storage.failWhen(func(o, k string) bool { return o == op && strings.HasPrefix(k, prefix) })
		f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData())
		require.Equal(t, http.StatusInternalServerError, f.status, broken)
		e.storage.failWhen(nil)
		require.Nil(t, e.read("connectors/hr"), broken)
	}
	e.bindConnector("hr")
	e.storage.failWhen(func(o, _ string) bool { return o == "delete" })
	require.Equal(t, http.StatusInternalServerError, e.refused(logical.DeleteOperation, "connectors/hr", nil).status)
	e.storage.failWhen(nil)
	require.NotNil(t, e.read("connectors/hr"))
}
