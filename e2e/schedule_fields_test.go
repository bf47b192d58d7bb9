// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

func TestAWindowAndARefreshIntervalReadBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{
		"rotation_schedule": "0 3 * * *", "rotation_window": "2h", "refresh_interval": "5m",
	})
	shown := e.MustRead("connectors/github").Data
	require.EqualValues(t, 7200, integer(t, shown["rotation_window"]))
	require.EqualValues(t, 300, integer(t, shown["refresh_interval"]))
	require.Equal(t, "03:00:00", parseTime(t, shown["next_rotation"]).UTC().Format(time.TimeOnly))
	read := e.MustRead("connector-creds/github")
	require.LessOrEqual(t, integer(t, read.Data["ttl"]), int64(300))

	e.MustWrite("connectors/github", object{ // what was read can be written
		"rotation_window": shown["rotation_window"], "refresh_interval": shown["refresh_interval"],
	})
	require.Equal(t, shown, e.MustRead("connectors/github").Data)
	for field, wrong := range map[string]object{
		"rotation_window":  {"rotation_window": "30m"},
		"refresh_interval": {"refresh_interval": "25h"},
	} {
		_, err := e.Write("connectors/github", wrong)
		requireRefused(t, err, 400, field)
	}
	_, err := e.Write("connectors/github", object{"rotation_period": "24h", "rotation_window": "2h"})
	requireRefused(t, err, 400, "rotation_window goes with rotation_schedule")
	require.Equal(t, shown, e.MustRead("connectors/github").Data)
	e.MustWrite("connectors/github", object{"rotation_window": 0, "refresh_interval": 0})
	shown = e.MustRead("connectors/github").Data
	require.Zero(t, integer(t, shown["rotation_window"]))
	require.Zero(t, integer(t, shown["refresh_interval"]))
	require.Equal(t, 1, rotations(e))
	requireHealthy(t, e)
}
