// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

func TestAPausedClockWaitsAndCatchesUp(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": shortestPeriod, "refresh_interval": "2s"})
	_, err := e.Write("connectors/github/pause", nil)
	requireRefused(t, err, 400, "reason is required")
	paused := e.MustWrite("connectors/github/pause", object{"reason": "change freeze"})
	require.Equal(t, true, paused.Data["paused"])
	require.Equal(t, "root", paused.Data["paused_by"])

	overdue := time.Now().Add(shortestPeriod*time.Second + begins)
	for now := range time.Tick(5 * time.Second) {
		if now.After(overdue) {
			break
		}
		read := e.MustRead("connector-creds/github")
		require.EqualValues(t, 1, integer(t, read.Data["version"]))
		require.EqualValues(t, 2, integer(t, read.Data["ttl"]))
		require.Contains(t, strings.Join(read.Warnings, "\n"), "paused: root paused the scheduled rotations at ")
		require.NoError(t, e.Login(read))
	}
	require.Equal(t, 1, rotations(e))
	status := e.MustRead("status").Data
	require.EqualValues(t, 1, integer(t, status["paused"]))
	require.Zero(t, integer(t, status["overdue"]))
	require.Equal(t, true, status["healthy"])

	resumed := e.MustWrite("connectors/github/resume", nil)
	require.True(t, parseTime(t, resumed.Data["next_rotation"]).Before(time.Now()), "its turn has passed")
	vaulttest.Eventually(t, begins, func() error {
		if read := e.MustRead("connector-creds/github"); integer(t, read.Data["version"]) < 2 {
			return errors.New("it has not caught up")
		}
		return nil
	})
	read := e.MustRead("connector-creds/github")
	require.NoError(t, e.Login(read))
	require.Empty(t, read.Warnings)
	requireHealthy(t, e)
}
