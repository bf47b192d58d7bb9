// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func TestAPausedClockRotatesNothingAndReadersGoOn(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "grace_period", "30m")
	bait := e.scheduledDecoy("bait", c1test.KindAccessToken, "check_period", "5h")
	e.write("connectors/hr/rotate") // version 1 ends in half an hour
	paused := e.write("connectors/hr/pause", "reason", "change freeze until Monday").Data
	require.Equal(t, true, paused["paused"])
	require.Equal(t, "change freeze until Monday", paused["paused_reason"])
	require.Equal(t, "approle-billing", paused["paused_by"])
	require.WithinDuration(t, e.clock.now(), instant(t, paused["paused_at"]), 2*time.Second)
	e.write("decoys/bait/pause", "reason", "freeze")

	for range 30 {
		e.after(time.Hour)
	}
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, 1, e.c1.Changes(c1test.OpRotateDecoy))
	require.Equal(t, 1, e.c1.Changes(c1test.OpRevokeConnectorCredential), "planned ends go on")
	require.WithinDuration(t, e.clock.now(), instant(t, e.read("decoys/bait").Data["checked_at"]), 6*time.Hour, "checks go on")
	require.WithinDuration(t, e.clock.now(), e.state(connectorTarget(e.c1.Connector())).CheckedAt, 25*time.Hour)

	resp := e.stored("connector-creds/hr")
	require.True(t, e.alive(resp))
	require.Equal(t, int64(300), resp.Data["ttl"], "nobody knows when a person resumes it")
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], "paused: approle-billing paused the scheduled rotations at "+paused["paused_at"].(string)+": change freeze until Monday")
	shown := e.read("connectors/hr").Data
	for field, value := range paused {
		require.Equal(t, value, shown[field])
	}
	require.Equal(t, target.Ready, shown["state"])
	require.Empty(t, shown["next_rotation"])
	require.Len(t, shown["problems"], 1)

	status := e.read("status").Data
	require.Equal(t, 2, status["paused"])
	require.Equal(t, 2, status["ready"])
	require.Equal(t, true, status["healthy"], "a person has chosen it")
	require.Len(t, status["attention"], 2)
	require.Equal(t, target.AttentionPaused, status["attention"].([]any)[0].(map[string]any)["reason"])

	e.restart()
	e.after(time.Hour)
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector), "it is stored")

	resumed := e.write("connectors/hr/resume")
	require.Empty(t, resumed.Warnings)
	require.True(t, instant(t, resumed.Data["next_rotation"]).Before(e.clock.now()), "its turn has passed")
	e.after(time.Second)
	require.Equal(t, 3, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, 3, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, target.ReasonSchedule, e.history("connectors/hr")[0]["reason"])
	require.Equal(t, false, e.read("connectors/hr").Data["paused"])
	require.Empty(t, e.read("connectors/hr").Data["paused_reason"])
	require.Equal(t, 1, e.read("status").Data["paused"])
	require.Equal(t, []string{"it was not paused"}, e.write("connectors/hr/resume").Warnings)
	require.Equal(t, e.c1.DecoyFingerprint(bait), e.stored("decoy-creds/bait").Data["fingerprint_sha256"])
}

func TestAnOperatorStillRotatesWhatIsPaused(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.write("connectors/hr/pause", "reason", "freeze")
	rotated := e.write("connectors/hr/rotate")
	require.Equal(t, 2, rotated.Data["version"])
	require.Empty(t, rotated.Data["next_rotation"])
	require.Len(t, rotated.Warnings, 1)
	require.Contains(t, rotated.Warnings[0], "paused: ")
	written := e.write("connector-creds/hr")
	require.Equal(t, 3, written.Data["version"])
	require.Len(t, written.Warnings, 1, "%v", written.Warnings)
	e.after(3 * time.Hour)
	require.Equal(t, 3, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, true, e.read("connectors/hr").Data["paused"])
	e.write("connectors/hr", "rotation_period", "2h")
	require.Equal(t, true, e.read("connectors/hr").Data["paused"], "a write of the binding resumes nothing")
	require.Equal(t, rfc3339(time.Time{}), e.read("connectors/hr").Data["next_rotation"])
}

func TestPausedUnknownOutcomesWaitForAPerson(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.write("connectors/hr/pause", "reason", "freeze")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	f := e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
	require.Equal(t, http.StatusConflict, f.status)
	require.Contains(t, f.message, "which the engine does not do by itself while the binding is paused")
	for range 10 {
		e.after(time.Hour)
	}
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"])
	require.Equal(t, int64(300), e.stored("connector-creds/hr").Data["ttl"], "readers need not come each few seconds for days")
	require.Equal(t, false, e.read("status").Data["healthy"])
	e.write("connectors/hr/resume")
	e.after(time.Second)
	require.Equal(t, 3, e.c1.Changes(c1test.OpRotateConnector))
	require.Equal(t, target.ReasonRecovery, e.history("connectors/hr")[0]["reason"])
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
}

func TestWhatFailsIsTriedAtOnceWhenResumed(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	fault := e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Status: 403})
	e.after(time.Hour)
	require.Equal(t, target.AttentionFailing, e.read("connectors/hr").Data["state"])
	e.write("connectors/hr/pause", "reason", "waiting for the role")
	asked := e.c1.Requests(c1test.OpRotateConnector)
	e.after(5 * time.Hour)
	e.write("config", "max_retries", 0) // else it would be tried at once
	e.after(time.Hour)
	require.Equal(t, asked, e.c1.Requests(c1test.OpRotateConnector))
	require.Contains(t, strings.Join(e.read("connectors/hr").Data["problems"].([]string), "\n"), "next try when the binding is resumed")
	fault.Clear()
	e.write("connectors/hr/resume")
	e.after(time.Second)
	require.Equal(t, 2, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
}

func TestPausedBeforeTheFirstRotationThereIsNothingToRead(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduledDecoy("bait", c1test.KindAccessToken, "skip_initial_rotation", true)
	e.write("decoys/bait/pause", "reason", "not yet")
	e.after(48 * time.Hour)
	require.Zero(t, e.c1.Changes(c1test.OpRotateDecoy))
	f := e.refused(logical.ReadOperation, "decoy-creds/bait", nil)
	require.Contains(t, f.message, "no material yet: the engine does not rotate it by itself; paused: ")
	require.Equal(t, target.Pending, e.read("decoys/bait").Data["state"])
}

func TestAPauseThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	other := e.c1.NewConnector("Leased")
	e.must(logical.CreateOperation, "connectors/leased", fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "read"))
	requests := e.c1.Requests("")
	e.storage.written()
	for what, tc := range map[string]struct {
		path  string
		data  map[string]any
		names string
	}{
		"no reason":               {"connectors/hr/pause", nil, "reason is required"},
		"an empty reason":         {"connectors/hr/pause", fields("reason", " \n"), "reason is required"},
		"a reason nobody can see": {"connectors/hr/pause", fields("reason", "a\x1b[2Jb"), "reason: holds the character"},
		"a novel":                 {"connectors/hr/pause", fields("reason", strings.Repeat("x", 2000)), "reason: 2000 bytes"},
		"a number":                {"connectors/hr/pause", fields("reason", 7), "reason: must be text"},
		"another field":           {"connectors/hr/pause", fields("reason", "x", "until", "monday"), "until"},
		"a leased one":            {"connectors/leased/pause", fields("reason", "x"), "connectors/leased has rotate_on=read"},
		"a leased one's clock":    {"connectors/leased/resume", nil, "connectors/leased has rotate_on=read"},
		"nothing":                 {"decoys/none/pause", fields("reason", "x"), "no decoy is bound as \"none\""},
	} {
		f := e.refused(logical.UpdateOperation, tc.path, tc.data)
		require.Equal(t, http.StatusBadRequest, f.status, what)
		require.Contains(t, f.message, tc.names, what)
	}
	require.Empty(t, e.storage.written())
	require.Equal(t, requests, e.c1.Requests(""))
}

func TestAPauseThatStorageRefusesIsNone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.storage.failWhen(func(op, key string) bool { return op == "put" && strings.HasPrefix(key, targetPrefix) })
	require.Equal(t, http.StatusInternalServerError, e.refused(logical.UpdateOperation, "connectors/hr/pause", fields("reason", "x")).status)
	e.storage.failWhen(nil)
	e.restart()
	require.Equal(t, false, e.read("connectors/hr").Data["paused"])
	require.Zero(t, e.read("status").Data["paused"], "its mark is dropped")
	e.after(time.Hour)
	require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector))
}

func TestAPauseEndsWithItsSchedule(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	e.write("connectors/hr/pause", "reason", "x")
	e.write("connectors/hr", "rotate_on", "read")
	require.Nil(t, e.state(connectorTarget(ref)).Paused)
	require.Equal(t, false, e.read("connectors/hr").Data["paused"])
	e.write("connectors/hr", "rotate_on", "schedule", "rotation_period", "1h")
	e.write("connectors/hr/pause", "reason", "x")
	e.must(logical.DeleteOperation, "connectors/hr", nil)
	require.Nil(t, e.state(connectorTarget(ref)).Paused)
	require.Zero(t, e.read("status").Data["paused"])
}

func TestPausingIsAnnounced(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.write("connectors/hr/pause", "reason", "x")
	e.write("connectors/hr/resume")
	e.b.work.Wait() // nobody else waits for an event
	var sent []string
	for _, event := range e.events.Events {
		sent = append(sent, string(event.Type))
	}
	require.ElementsMatch(t, []string{"c1/connector-rotate", "c1/connector-pause", "c1/connector-resume"}, sent)
}
