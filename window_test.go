// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// nightly binds the seeded connector to a cron line with a window of two hours, and
// returns its next turn.
func (e *engine) nightly(extra ...any) time.Time {
	e.Helper()
	e.bindConnector("hr", append([]any{"rotate_on", "schedule", "rotation_schedule", "0 3 * * *", "rotation_window", "2h"}, extra...)...)
	return instant(e.T, e.read("connectors/hr").Data["next_rotation"])
}

// at moves the clock to a time and settles what is due.
func (e *engine) at(when time.Time) {
	e.Helper()
	e.after(when.Sub(e.clock.now()))
}

func TestARotationInItsWindowIsOrdinary(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	require.Equal(t, int64(7200), e.read("connectors/hr").Data["rotation_window"])
	e.at(turn.Add(2*time.Hour - time.Minute)) // nobody was there before
	require.Equal(t, 2, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
	require.Equal(t, rfc3339(turn.AddDate(0, 0, 1)), e.read("connectors/hr").Data["next_rotation"])
}

func TestARotationThatMissesItsWindowWaitsForTheNextTurn(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	e.at(turn.Add(2 * time.Hour)) // nobody was there before
	require.Equal(t, 1, e.c1.Changes(c1test.OpRotateConnector))
	shown := e.read("connectors/hr").Data
	require.Equal(t, target.AttentionFailing, shown["state"])
	require.Equal(t, rfc3339(turn.AddDate(0, 0, 1)), shown["next_rotation"])
	problems := strings.Join(shown["problems"].([]string), "\n")
	require.Contains(t, problems, "the rotation scheduled for "+rfc3339(turn)+" did not happen within rotation_window (2h0m0s), so it waits for the next scheduled time")
	require.Equal(t, 1, e.read("status").Data["failing"])
	resp := e.stored("connector-creds/hr")
	require.True(t, e.alive(resp))
	require.InDelta(t, (22 * time.Hour).Seconds(), resp.Data["ttl"], 5)

	for _, write := range []func(){
		func() { e.write("config", "max_retries", 1) },
		func() { e.write("connectors/hr", "cooldown", "1m") },
		func() { e.restart() },
	} {
		write()
		e.after(time.Hour)
		require.Equal(t, 1, e.c1.Changes(c1test.OpRotateConnector), "nothing brings it forward")
	}
	e.at(turn.AddDate(0, 0, 1).Add(time.Second))
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestARotationThatFailsIsTriedWithinItsWindowOnly(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	fault := e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Status: 403})
	var asked []time.Duration
	before := e.c1.Requests(c1test.OpRotateConnector)
	for at := turn.Add(-time.Hour); at.Before(turn.Add(20 * time.Hour)); at = at.Add(5 * time.Minute) {
		e.at(at.Add(time.Second))
		if n := e.c1.Requests(c1test.OpRotateConnector); n > before {
			asked, before = append(asked, at.Sub(turn)), n
		}
	}
	require.Greater(t, len(asked), 2, "it is tried again")
	require.GreaterOrEqual(t, asked[0], time.Duration(0))
	require.Less(t, asked[len(asked)-1], 2*time.Hour)
	problems := strings.Join(e.read("connectors/hr").Data["problems"].([]string), "\n")
	require.Contains(t, problems, "rotation_window (2h0m0s) closes before the next try, so it waits for the next scheduled time")
	require.Contains(t, problems, "403 Forbidden", "and why it failed")
	require.Equal(t, rfc3339(turn.AddDate(0, 0, 1)), e.read("connectors/hr").Data["next_rotation"])
	fault.Clear()
	require.Equal(t, 2, e.write("connectors/hr/rotate").Data["version"], "by hand at any time")
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
}

func TestWithoutItsWindowARotationIsDueAtOnce(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	e.at(turn.Add(5 * time.Hour))
	require.Equal(t, 1, e.c1.Changes(c1test.OpRotateConnector))
	e.write("connectors/hr", "rotation_window", 0)
	require.Equal(t, int64(0), e.read("connectors/hr").Data["rotation_window"])
	e.after(time.Second)
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
}

func TestAnotherPeriodHasNoWindow(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.nightly()
	e.write("connectors/hr", "rotation_period", "24h")
	require.Equal(t, int64(0), e.read("connectors/hr").Data["rotation_window"])
	require.Contains(t, e.refused(logical.UpdateOperation, "connectors/hr", fields("rotation_window", "1h")).message, "rotation_window goes with rotation_schedule")
}

func TestAnUnknownOutcomeHealsOutsideOfItsWindow(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	e.at(turn.Add(2*time.Hour - time.Minute))
	require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"])
	e.after(2 * time.Minute)
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"], "readers may hold a dead credential")
	require.Equal(t, target.ReasonRecovery, e.history("connectors/hr")[0]["reason"])
}

func TestACredentialThatWouldExpireIsReplacedOutsideOfItsWindow(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.SetCredentialTTL(20 * time.Hour)
	e.at(e.clock.now().Truncate(24 * time.Hour).Add(28 * time.Hour)) // four o'clock
	next := e.nightly()
	require.WithinDuration(t, e.clock.now().Add(18*time.Hour), next, time.Minute, "before it expires, and before the turn")
	e.at(next.Add(2*time.Hour + time.Second))
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
}

func TestAPauseOverAWholeWindowWaitsForTheNextTurn(t *testing.T) {
	t.Parallel()
	e := configured(t)
	turn := e.nightly()
	e.write("connectors/hr/pause", "reason", "freeze")
	e.at(turn.Add(3 * time.Hour))
	resumed := e.write("connectors/hr/resume")
	require.Equal(t, rfc3339(turn.AddDate(0, 0, 1)), resumed.Data["next_rotation"])
	e.after(time.Minute)
	require.Equal(t, 1, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, target.AttentionFailing, e.read("connectors/hr").Data["state"])
}
