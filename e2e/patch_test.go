// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

func TestAMergePatchChangesBindingsAndConfig(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{
		"rotation_period": "24h", "cooldown": "1m", "metadata": object{"team": "people", "old": "x"},
	})
	before := e.MustRead("connectors/github").Data
	patch := func(path string, fields object) error {
		_, err := e.Root.Logical().JSONMergePatch(t.Context(), e.Path(path), fields)
		return err
	}
	require.NoError(t, patch("connectors/github", object{"refresh_interval": "1m", "cooldown": nil, "metadata": object{"old": nil, "new": "y"}}))
	shown := e.MustRead("connectors/github").Data
	require.EqualValues(t, 60, integer(t, shown["refresh_interval"]))
	require.Zero(t, integer(t, shown["cooldown"]))
	require.Equal(t, object{"team": "people", "new": "y"}, shown["metadata"])
	changed := []string{"refresh_interval", "cooldown", "metadata"}
	require.Equal(t, without(before, changed...), without(shown, changed...))

	command(t, e, "patch", e.Path("connectors/github"), "refresh_interval=2m")
	require.EqualValues(t, 120, integer(t, e.MustRead("connectors/github").Data["refresh_interval"]))
	requireRefused(t, patch("connectors/other", object{"cooldown": "1m"}), 404, "a patch does not create one")
	requireRefused(t, patch("connectors/github", object{"rotate_on": nil}), 400, "rotate_on is required")

	require.NoError(t, patch("config", object{"history_limit": 30}))
	require.NoError(t, patch("config", object{"history_limit": nil}))
	require.EqualValues(t, 20, integer(t, e.MustRead("config").Data["history_limit"]))
	requireRefused(t, patch("config", object{"url": "https://evil.example"}), 400, "client_secret")
	require.Equal(t, 1, rotations(e))
	requireHealthy(t, e)
}
