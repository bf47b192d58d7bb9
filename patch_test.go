// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"net/http"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAPatchOfABindingChangesWhatItNamesAndNullRemoves(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "cooldown", "1m", "refresh_interval", "5m", "metadata", map[string]any{"team": "people", "tier": "1", "old": "x"})
	before := e.read("connectors/hr").Data
	rotations := e.c1.Requests("rotateConnector")

	e.must(logical.PatchOperation, "connectors/hr", fields(
		"refresh_interval", "10m", "cooldown", nil, "metadata", map[string]any{"tier": "2", "old": nil, "new": "y"}))
	got := e.read("connectors/hr").Data
	require.Equal(t, int64(600), got["refresh_interval"])
	require.Equal(t, int64(0), got["cooldown"])
	require.Equal(t, map[string]string{"team": "people", "tier": "2", "new": "y"}, got["metadata"])
	for _, field := range []string{"rotation_period", "next_rotation", "rotate_on", "version", "connector_id"} {
		require.Equal(t, before[field], got[field], field)
	}
	require.Equal(t, rotations, e.c1.Requests("rotateConnector"))

	e.must(logical.PatchOperation, "connectors/hr", fields("metadata", nil, "rotation_period", nil, "refresh_interval", nil))
	got = e.read("connectors/hr").Data
	require.Empty(t, got["metadata"])
	require.Equal(t, int64(0), got["rotation_period"], "only callers rotate it now")
	require.Empty(t, got["next_rotation"])
}

func TestAPatchThatIsWrongIsRefused(t *testing.T) {
	t.Parallel()
	e := configured(t)
	f := e.refused(logical.PatchOperation, "connectors/hr", e.connectorData())
	require.Equal(t, http.StatusNotFound, f.status, f.message)
	require.Contains(t, f.message, "a patch does not create one")
	e.scheduled("hr", "metadata", map[string]any{"a": "b"})
	before := e.read("connectors/hr").Data
	for names, data := range map[string]map[string]any{
		"rotate_on is required":    fields("rotate_on", nil),
		"connector_id is required": fields("connector_id", nil),
		"unknown field":            fields("colour", nil),
		"rotation_period must lie": fields("rotation_period", "1s"),
		"metadata":                 fields("metadata", map[string]any{"a": 7}),
		"null to remove one":       fields("metadata", "a=b"),
		"ttl goes with leases":     fields("ttl", "1h"),
	} {
		f := e.refused(logical.PatchOperation, "connectors/hr", data)
		require.Equal(t, http.StatusBadRequest, f.status)
		require.Contains(t, f.message, names)
	}
	require.Equal(t, before, e.read("connectors/hr").Data)
}

func TestAPatchOfTheConfigKeepsItsSecretWhereItIs(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	require.Equal(t, http.StatusNotFound, e.refused(logical.PatchOperation, "config", fields("max_retries", 1)).status)
	e.configure(e.c1, "max_retries", 1, "request_timeout", "5s", "drift_check_period", 0)
	e.must(logical.PatchOperation, "config", fields("max_retries", nil, "request_timeout", nil, "drift_check_period", nil, "history_limit", 30))
	got := e.read("config").Data
	require.Equal(t, defaultMaxRetries, got["max_retries"])
	require.Equal(t, seconds(defaultRequestTimeout), got["request_timeout"])
	require.Equal(t, seconds(defaultDriftCheck), got["drift_check_period"])
	require.Equal(t, 30, got["history_limit"])
	for _, data := range []map[string]any{fields("url", "https://evil.example"), fields("url", nil), fields("ca_cert", nil), fields("client_secret", nil)} {
		require.Equal(t, http.StatusBadRequest, e.refused(logical.PatchOperation, "config", data).status)
	}
	require.Equal(t, got, e.read("config").Data)
}
