// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// Tools that declare a state, Terraform for one, compare what they read with what they
// wrote, and show a change for ever where the two differ.
func TestDeclaredFieldsReadBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	e := configured(t)
	connector := func(extra ...any) map[string]any {
		okta := e.c1.NewConnector("okta")
		return merge(fields("app_id", okta.AppID, "connector_id", okta.ConnectorID, "wrap_ttl", 90, "cooldown", 60,
			"metadata", map[string]any{"team": "people"}), extra...)
	}
	seen := map[string]bool{}
	for _, c := range []struct {
		path string
		data map[string]any
	}{
		{"connectors/leased", connector("rotate_on", "read", "ttl", 600, "max_ttl", 3600, "on_lease_end", "keep")},
		{"connectors/period", connector("rotate_on", "schedule", "rotation_period", 86400, "refresh_interval", 300, "grace_period", 3600, "keys_preset", "baton")},
		{"connectors/cron", connector("rotate_on", "schedule", "rotation_schedule", "CRON_TZ=Europe/Berlin 0 3 * * 7", "rotation_window", 7200,
			"keys", map[string]any{"client_id": "ID", "client_secret": "SECRET"})},
		{"decoys/bait", fields("decoy_id", e.c1.Decoy(c1test.KindConnectorClient), "rotate_on", "write", "check_period", 600, "annotate", true, "on_lease_end", "rotate")},
		{"config", e.identity(e.c1, "ca_cert_only", true, "drift_check_period", 3600, "history_limit", 50, "max_concurrent_requests", 16,
			"max_requests_per_second", 2.5, "max_retries", 1, "request_timeout", 20, "rotation_workers", 4,
			"root_rotation_period", 86400, "root_grace_period", 600)},
		{"config", fields("root_rotation_schedule", "0 3 1 * *")},
	} {
		e.must(logical.UpdateOperation, c.path, maps.Clone(c.data))
		read := e.read(c.path).Data
		for field, value := range c.data {
			seen[field] = true
			if field != "client_secret" {
				require.JSONEq(t, asJSON(t, value), asJSON(t, read[field]), "%s of %s", field, c.path)
			}
		}
		if c.path != "config" {
			e.must(logical.DeleteOperation, c.path, nil)
		}
	}
	notStored := []string{"name", "verify", "revoke", "skip_initial_rotation"}
	for _, own := range []map[string]*framework.FieldSchema{connectorTargetFields(), decoyTargetFields()} {
		for field := range bindingFields(own, "") {
			require.True(t, seen[field] || slices.Contains(notStored, field), "%s is compared here, or is not stored", field)
		}
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return string(raw)
}
