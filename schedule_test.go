// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// scheduled binds a name to the seeded connector, rotated every hour.
func (e *engine) scheduled(name string, extra ...any) c1test.ConnectorRef {
	e.Helper()
	return e.bindConnector(name, append([]any{"rotate_on", "schedule", "rotation_period", "1h"}, extra...)...)
}

// scheduledDecoy binds a name to the seeded decoy of a kind, rotated every hour.
func (e *engine) scheduledDecoy(name string, k c1test.Kind, extra ...any) string {
	e.Helper()
	return e.bindDecoy(name, k, append([]any{"rotate_on", "schedule", "rotation_period", "1h"}, extra...)...)
}

// stored reads what a scheduled binding vends.
func (e *engine) stored(path string) *logical.Response {
	e.Helper()
	resp := e.read(path)
	require.Nil(e, resp.Secret, "stored material has no lease")
	require.Positive(e, resp.Data["ttl"])
	return resp
}

func instant(t *testing.T, v any) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, v.(string))
	require.NoError(t, err)
	return at
}

func TestScheduledBindingRotatesOnceAndKeepsTheMaterial(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.c1.Connector()
	written := e.must(logical.CreateOperation, "connectors/hr", fields(
		"app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "schedule", "rotation_period", "1h"))
	require.Equal(t, 1, written.Data["version"])
	require.NotContains(t, written.Data, "client_secret", "the material is stored, not returned")
	require.Equal(t, 1, e.c1.Changes("rotateConnector"))

	requests := e.c1.Requests("")
	e.storage.written()
	resp := e.stored("connector-creds/hr")
	require.Equal(t, requests, e.c1.Requests(""), "a read never asks C1")
	require.Empty(t, e.storage.written(), "and writes nothing")
	require.True(t, e.alive(resp))
	require.Empty(t, resp.Warnings)
	require.Equal(t, 1, resp.Data["version"])
	require.Equal(t, int64(3600), resp.Data["rotation_period"])
	require.LessOrEqual(t, resp.Data["ttl"], int64(3600))
	require.Equal(t, target.Fingerprint(resp.Data["client_secret"].(string)), resp.Data["fingerprint_sha256"])
	require.WithinDuration(t, e.clock.now(), instant(t, resp.Data["last_vault_rotation"]), 2*time.Second)

	record := e.history("connectors/hr")[0]
	require.Equal(t, target.OutcomeStored, record["outcome"])
	require.Equal(t, target.ReasonInitial, record["reason"])
	require.Equal(t, "approle-billing", record["display_name"])
	got := e.read("connectors/hr").Data
	require.Equal(t, target.Ready, got["state"])
	require.Equal(t, int64(3600), got["rotation_period"])
	require.Equal(t, written.Data["next_rotation"], got["next_rotation"])
	require.Empty(t, got["on_lease_end"])
}

func TestScheduledBindingsRotateInTimeAndNeverLate(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	id := e.scheduledDecoy("bait", c1test.KindAccessToken)
	first := e.stored("connector-creds/hr")
	next := instant(t, e.read("connectors/hr").Data["next_rotation"])
	require.Greater(t, next.Sub(e.clock.now()), 53*time.Minute, "early by at most a tenth of the period")

	e.after(next.Sub(e.clock.now()) - 2*time.Second)
	require.Equal(t, 1, e.c1.Changes("rotateConnector"), "not before its time")
	e.after(3 * time.Second)
	require.Equal(t, 2, e.c1.Changes("rotateConnector"))
	second := e.stored("connector-creds/hr")
	require.Equal(t, 2, second.Data["version"])
	require.True(t, e.alive(second))
	require.True(t, e.alive(first), "without grace_period C1 decides about the old one")
	require.Equal(t, target.ReasonSchedule, e.history("connectors/hr")[0]["reason"])

	for range 20 {
		e.after(time.Hour)
	}
	require.GreaterOrEqual(t, e.c1.Changes("rotateConnector"), 20)
	require.GreaterOrEqual(t, e.c1.Changes("rotateDecoy"), 20)
	require.Equal(t, e.c1.DecoyFingerprint(id), e.stored("decoy-creds/bait").Data["fingerprint_sha256"])
	require.Len(t, e.records(connectorTarget(ref)), defaultHistoryLimit)
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestScheduledRotationCostsEightWrites(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.storage.written()
	e.write("connectors/hr/rotate")
	keys := e.storage.written()
	require.Len(t, keys, 8, "%v", keys)
	prefixes := make([]string, len(keys))
	for i, key := range keys {
		prefixes[i], _, _ = strings.Cut(key, "/")
	}
	require.Equal(t, "due", prefixes[0], "when to look, then the attempt")
	require.ElementsMatch(t, []string{"record", "target"}, prefixes[1:3])
	require.ElementsMatch(t, []string{"due", "fingerprint", "id", "id"}, prefixes[3:7])
	require.Equal(t, "target", prefixes[7], "nobody can read what lookup does not know")
}

func TestCronScheduleIsExactAndInItsZone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	written := e.write("connectors/hr", "app_id", e.c1.Connector().AppID, "connector_id", e.c1.Connector().ConnectorID,
		"rotate_on", "schedule", "rotation_schedule", "CRON_TZ=Asia/Tokyo 30 4 * * *")
	next := instant(t, written.Data["next_rotation"]).UTC()
	require.Equal(t, "19:30:00", next.Format(time.TimeOnly), "04:30 in Tokyo")
	resp := e.stored("connector-creds/hr")
	require.Equal(t, resp.Data["ttl"], resp.Data["rotation_period"], "with a cron line both say when the next turn is")
	e.after(next.Sub(e.clock.now()) + time.Second)
	require.Equal(t, 2, e.c1.Changes("rotateConnector"))
	require.Equal(t, rfc3339(next.AddDate(0, 0, 1)), e.read("connectors/hr").Data["next_rotation"])
}

func TestManualScheduleRotatesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "rotate_on", "schedule")
	require.Equal(t, "", e.read("connectors/hr").Data["next_rotation"])
	resp := e.stored("connector-creds/hr")
	require.Equal(t, int64(300), resp.Data["ttl"])
	require.Equal(t, int64(300), resp.Data["rotation_period"])
	for range 40 {
		e.after(24 * time.Hour)
	}
	require.Equal(t, 1, e.c1.Changes("rotateConnector"))
	got := e.write("connectors/hr/rotate")
	require.Equal(t, 2, got.Data["version"])
	require.Empty(t, got.Data["next_rotation"])
}

func TestRefreshIntervalBoundsWhatReadersKeep(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "rotation_period", "24h", "refresh_interval", "1m")
	require.Equal(t, int64(60), e.read("connectors/hr").Data["refresh_interval"])
	for range 3 {
		resp := e.stored("connector-creds/hr")
		require.Equal(t, int64(60), resp.Data["ttl"])
		require.Equal(t, int64(86400), resp.Data["rotation_period"], "how often it rotates is something else")
		require.Empty(t, resp.Warnings)
	}
	next := instant(t, e.read("connectors/hr").Data["next_rotation"])
	e.clock.advance(next.Sub(e.clock.now()) - 20*time.Second)
	require.LessOrEqual(t, e.stored("connector-creds/hr").Data["ttl"], int64(21), "the turn comes sooner")

	e.write("connectors/hr", "refresh_interval", 1)
	e.clock.advance(time.Minute)
	resp := e.stored("connector-creds/hr")
	require.Equal(t, int64(1), resp.Data["ttl"], "also while it is overdue")
	require.Contains(t, resp.Warnings[0], "read again in 1 s")
	f := e.refused(logical.UpdateOperation, "connectors/hr", fields("rotation_period", "1m", "refresh_interval", "2m"))
	require.Contains(t, f.message, "refresh_interval (2m0s) must not be longer")
	e.write("connectors/hr", "refresh_interval", "2m")
	f = e.refused(logical.UpdateOperation, "connectors/hr", fields("rotation_period", "1m"))
	require.Contains(t, f.message, "refresh_interval (2m0s) must not be longer", "what is stored counts too")
	e.write("connectors/hr", "refresh_interval", 0)
	require.Equal(t, int64(0), e.read("connectors/hr").Data["refresh_interval"])

	e.write("connectors/hr", "refresh_interval", "2m")
	e.write("connectors/hr", "rotate_on", "read")
	require.Equal(t, int64(0), e.read("connectors/hr").Data["refresh_interval"], "leases have none")
}

func TestSkippedInitialRotationLeavesNothingToRead(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "skip_initial_rotation", true)
	require.Zero(t, e.c1.Requests("rotateConnector"))
	require.Equal(t, target.Pending, e.read("connectors/hr").Data["state"])
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, "no material yet: the first rotation is planned for ")
	require.Contains(t, f.message, "write connector-creds/hr to rotate now")
	e.after(time.Hour)
	require.Equal(t, 1, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, target.ReasonInitial, e.history("connectors/hr")[0]["reason"])
}

func TestWritingAScheduledBindingsCredsRotatesNow(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	before := e.read("connectors/hr").Data["next_rotation"].(string)
	e.after(20 * time.Minute)
	resp := e.write("connector-creds/hr", "placement", "ci: build 7")
	require.Nil(t, resp.Secret)
	require.Equal(t, 2, resp.Data["version"])
	require.True(t, e.alive(resp))
	after := e.read("connectors/hr").Data["next_rotation"].(string)
	require.Equal(t, []string{"the next scheduled rotation moved from " + before + " to " + after}, resp.Warnings)
	require.Equal(t, 20*time.Minute, instant(t, after).Sub(instant(t, before)).Round(time.Minute))
	require.Equal(t, resp.Data["client_secret"], e.stored("connector-creds/hr").Data["client_secret"])
	record := e.history("connectors/hr")[0]
	require.Equal(t, "ci: build 7", record["placement"])
	require.Equal(t, target.ReasonWrite, record["reason"])
	e.after(36 * time.Minute)
	require.Equal(t, 2, e.c1.Changes("rotateConnector"), "the turn that was planned before is off")
}

func TestRotatePathShowsNoSecret(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.scheduledDecoy("bait", c1test.KindUserClientCredential)
	for _, path := range []string{"connectors/hr", "decoys/bait"} {
		resp := e.write(path + "/rotate")
		require.Equal(t, 2, resp.Data["version"])
		require.Equal(t, false, resp.Data["shared"])
		require.Equal(t, resp.Data["next_rotation"], e.read(path).Data["next_rotation"])
		for _, secret := range e.emu.Secrets() {
			for _, v := range resp.Data {
				require.NotEqual(t, secret, v)
			}
		}
		require.Equal(t, target.ReasonRotate, e.history(path)[0]["reason"])
	}
	other := e.c1.NewConnector("Leased")
	e.must(logical.CreateOperation, "connectors/leased", fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "read"))
	f := e.refused(logical.UpdateOperation, "connectors/leased/rotate", nil)
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, "write connector-creds/leased")
	require.Contains(t, e.refused(logical.UpdateOperation, "connectors/nobody/rotate", nil).message, "write connectors/nobody first")
}

func TestCallersShareOneRotation(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
	const callers = 20
	answers := make(chan *logical.Response, callers)
	var all sync.WaitGroup
	ask := func(path string, data map[string]any) {
		all.Go(func() {
			resp, err := e.do(context.Background(), newRequest(logical.UpdateOperation, path, data))
			if err == nil && resp.Error() == nil {
				answers <- resp
			}
		})
	}
	ask("connector-creds/hr", fields("placement", "first"))
	<-hold.Arrived()
	for i := range callers - 1 {
		if i%2 == 0 {
			ask("connectors/hr/rotate", nil)
		} else {
			ask("connector-creds/hr", fields("placement", "other"))
		}
	}
	ref := connectorTarget(e.c1.Connector())
	require.Eventually(t, func() bool {
		e.b.shared.mu.Lock()
		defer e.b.shared.mu.Unlock()
		return e.b.shared.open[ref] != nil && e.b.shared.open[ref].callers == callers
	}, 10*time.Second, time.Millisecond)
	hold.Release()
	all.Wait()
	close(answers)
	told := 0
	for resp := range answers {
		require.Equal(t, 2, resp.Data["version"])
		for _, warning := range resp.Warnings {
			if warning == "this call shared a rotation that was under way" {
				told++
			}
		}
	}
	require.Equal(t, callers-1, told, "each but the first is told that it shared")
	require.Equal(t, 2, e.c1.Changes("rotateConnector"))
	require.Contains(t, e.history("connectors/hr")[0]["placement"], "first; other; other")
}

func TestCooldownHoldsBackCallersAndNotTheClock(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "cooldown", "1h")
	f := e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
	require.Equal(t, http.StatusTooManyRequests, f.status)
	require.Contains(t, f.message, "allowed in")
	e.after(time.Hour)
	require.Equal(t, 2, e.c1.Changes("rotateConnector"))
}

func TestChangedPeriodCountsFromTheLastRotation(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	rotated := instant(t, e.read("connectors/hr").Data["last_rotation"])
	same := e.write("connectors/hr", "rotation_period", "1h", "metadata", map[string]any{"a": "b"})
	require.Equal(t, e.read("connectors/hr").Data["next_rotation"], same.Data["next_rotation"], "writing the same again shifts nothing")

	longer := e.write("connectors/hr", "rotation_period", "48h")
	next := instant(t, longer.Data["next_rotation"])
	require.Greater(t, next.Sub(rotated), 43*time.Hour)
	e.after(3 * time.Hour)
	require.Equal(t, 1, e.c1.Changes("rotateConnector"))

	e.write("connectors/hr", "rotation_period", "2h")
	e.after(time.Second)
	require.Equal(t, 2, e.c1.Changes("rotateConnector"), "a period that has passed already takes effect at once")

	cron := e.write("connectors/hr", "rotation_schedule", "0 3 * * *")
	require.Equal(t, "03:00:00", instant(t, cron.Data["next_rotation"]).UTC().Format(time.TimeOnly))
	require.Zero(t, e.read("connectors/hr").Data["rotation_period"], "naming one replaces the other")
	manual := e.write("connectors/hr", "rotation_schedule", "")
	require.Empty(t, manual.Data["next_rotation"])
}

func TestCredentialThatExpiresSoonerIsReplacedBefore(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.SetCredentialTTL(10 * time.Hour)
	e.scheduled("hr", "rotation_period", "720h")
	for range 40 {
		require.True(t, e.alive(e.stored("connector-creds/hr")))
		e.after(time.Hour)
	}
	require.Equal(t, 5, e.c1.Changes("rotateConnector"))
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestExpiryOfAManualBindingIsTold(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.SetCredentialTTL(10 * time.Hour)
	e.bindConnector("hr", "rotate_on", "schedule")
	e.after(10*time.Hour + time.Minute)
	require.Equal(t, target.AttentionDrifted, e.read("connectors/hr").Data["state"])
	require.Contains(t, e.stored("connector-creds/hr").Warnings[0], "expired")
	require.Equal(t, 1, e.c1.Changes("rotateConnector"))
}

func TestGracePeriodRetiresThePreviousCredential(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr", "grace_period", "10m")
	first := e.stored("connector-creds/hr")
	e.write("connectors/hr/rotate")
	require.Equal(t, 1, e.read("connectors/hr").Data["live_leases"])
	e.after(9 * time.Minute)
	require.True(t, e.alive(first), "not before its grace is over")
	e.after(2 * time.Minute)
	require.False(t, e.alive(first))
	require.Len(t, e.c1.AliveCredentials(ref), 1)
	require.True(t, e.alive(e.stored("connector-creds/hr")))
	old := e.history("connectors/hr")[1]
	require.NotEmpty(t, old["ends_at"])
	require.NotEmpty(t, old["ended_at"])
}

func TestGracePeriodOutlastsAnAbsentC1(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	ref := e.scheduled("hr", "rotation_period", "100h", "grace_period", "10m")
	e.write("connectors/hr/rotate")
	denied := e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 403})
	e.after(11 * time.Minute)
	status := e.read("status").Data
	require.Equal(t, 1, status["retiring"])
	entry := status["attention"].([]any)[0].(map[string]any)
	require.Equal(t, []string{e.history("connectors/hr")[1]["credential_id"].(string)}, entry["credential_ids"])
	require.Empty(t, e.stored("connector-creds/hr").Warnings, "readers need not know")
	denied.Clear()
	e.after(3 * time.Minute)
	require.Len(t, e.c1.AliveCredentials(ref), 1)
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestSwitchingToScheduleRotatesAndLeavesLeasesAlone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "ttl", "10m", "on_lease_end", "keep")
	leased := e.vend("connector-creds/hr")
	e.write("connectors/hr", "on_lease_end", "revoke")
	owned := e.vend("connector-creds/hr")
	resp := e.write("connectors/hr", "rotate_on", "schedule", "rotation_period", "1h")
	require.Equal(t, 3, resp.Data["version"])
	require.Contains(t, resp.Warnings[0], "1 leased credential(s)")
	got := e.read("connectors/hr").Data
	require.Zero(t, got["ttl"])
	require.Empty(t, got["on_lease_end"])
	require.True(t, e.alive(e.stored("connector-creds/hr")))
	_, err := e.revoke(owned.Secret)
	require.NoError(t, err)
	require.False(t, e.alive(owned))
	require.True(t, e.alive(leased))
}

func TestSwitchingFromScheduleRemovesTheMaterial(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr", "grace_period", "1h")
	kept := e.stored("connector-creds/hr")
	resp := e.write("connectors/hr", "rotate_on", "read")
	require.Contains(t, resp.Warnings[0], "material of version 1 is removed from Vault")
	require.Contains(t, resp.Warnings[0], "stays alive at C1")
	require.True(t, e.alive(kept))
	state := e.state(connectorTarget(ref))
	require.False(t, state.Scheduled)
	require.Nil(t, state.Current.Material)
	require.Zero(t, state.NextRotation)
	require.Equal(t, "revoke", e.read("connectors/hr").Data["on_lease_end"])
	for range 5 {
		e.after(time.Hour)
	}
	require.Equal(t, 1, e.c1.Changes("rotateConnector"), "the clock does not rotate it any more")
	require.NotNil(t, e.vend("connector-creds/hr").Secret)
}

func TestDeletedScheduledBindingSaysWhatStaysAliveOrEndsIt(t *testing.T) {
	t.Parallel()
	for _, revoke := range []bool{false, true} {
		e := configured(t)
		ref := e.scheduled("hr", "grace_period", "1h")
		e.write("connectors/hr/rotate")
		id := e.state(connectorTarget(ref)).Current.CredentialID
		resp := e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", revoke))
		require.Nil(t, e.read("connectors/hr"))
		if revoke {
			require.Nil(t, resp)
			require.Empty(t, e.c1.AliveCredentials(ref))
		} else {
			require.Len(t, resp.Warnings, 2)
			require.Contains(t, resp.Warnings[0], "1 vended credential(s)")
			require.Contains(t, resp.Warnings[1], id)
			require.Contains(t, resp.Warnings[1], "revoke=true")
			require.Len(t, e.c1.AliveCredentials(ref), 2)
		}
		state := e.state(connectorTarget(ref))
		require.False(t, state.Scheduled)
		require.Nil(t, state.Current.Material, "no secret stays behind")
		for range 5 {
			e.after(time.Hour)
		}
		require.Equal(t, 2, e.c1.Changes("rotateConnector"))
	}
}

func TestDeleteWithRevokeOfADecoyMakesItsCopiesDead(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.scheduledDecoy("bait", c1test.KindAccessToken)
	before := e.c1.DecoyFingerprint(id)
	require.Nil(t, e.must(logical.DeleteOperation, "decoys/bait", fields("revoke", true)))
	require.NotEqual(t, before, e.c1.DecoyFingerprint(id))
	require.Equal(t, target.OutcomeDiscarded, e.records(decoyTarget(id))[1].Outcome)
}

func TestDeleteWithRevokeIsCarriedOutLaterWhenC1IsAbsent(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	ref := e.scheduled("hr")
	e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 500, Times: 1})
	resp := e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", true))
	require.Contains(t, resp.Warnings[0], "could not be ended yet")
	require.Equal(t, 1, e.read("status").Data["retiring"])
	e.after(3 * time.Minute)
	require.Empty(t, e.c1.AliveCredentials(ref))
}

func TestInitialRotationThatC1RefusesStoresNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: 403, Times: 1})
	ref := e.c1.Connector()
	data := fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "schedule", "rotation_period", "1h")
	f := e.refused(logical.CreateOperation, "connectors/hr", data)
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "the binding was not stored")
	require.Nil(t, e.read("connectors/hr"))
	for range 5 {
		e.after(time.Hour)
	}
	require.Zero(t, e.c1.Changes("rotateConnector"))
	require.Equal(t, true, e.read("status").Data["healthy"])

	e.bindConnector("hr")
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: 403, Times: 1})
	f = e.refused(logical.UpdateOperation, "connectors/hr", fields("rotate_on", "schedule"))
	require.Contains(t, f.message, "the binding was not stored")
	require.Equal(t, "read", e.read("connectors/hr").Data["rotate_on"], "it is as it was before")
	require.NotNil(t, e.vend("connector-creds/hr").Secret)
}

func TestInitialRotationOfUnknownOutcomeHealsByItself(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", DropAfter: true, Times: 1})
	ref := e.c1.Connector()
	f := e.refused(logical.CreateOperation, "connectors/hr",
		fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "schedule", "rotation_period", "1h"))
	require.Equal(t, statusOutcomeUnknown, f.status)
	require.Contains(t, f.message, "the binding is stored: outcome unknown")
	require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"])
	e.after(time.Minute + time.Second)
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
	require.True(t, e.alive(e.stored("connector-creds/hr")))
	require.Equal(t, target.ReasonRecovery, e.history("connectors/hr")[0]["reason"])
}

func TestBindingsWrittenTogetherDriftApart(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 100 {
		early := newState(decoyTarget("same")).Splay.Of(6 * time.Minute)
		require.Zero(t, early%time.Second)
		require.GreaterOrEqual(t, early, time.Duration(0))
		require.Less(t, early, 6*time.Minute)
		seen[early] = true
	}
	require.Greater(t, len(seen), 60)
	require.Zero(t, target.Splay(65535).Of(0))
	require.Equal(t, 364*24*time.Hour, target.Splay(65535).Of(365*24*time.Hour).Truncate(24*time.Hour), "of the longest period too")
}

func TestScheduledReadOnAStandbyIsAnsweredThereAndAllElseIsForwarded(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.scheduledDecoy("bait", c1test.KindAccessToken)
	e.scheduledDecoy("unrotated", c1test.KindConnectorClient, "skip_initial_rotation", true)
	e.onStandby()
	require.Equal(t, 1, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, 1, e.stored("decoy-creds/bait").Data["version"])
	_, err := e.do(context.Background(), newRequest(logical.ReadOperation, "decoy-creds/unrotated", nil))
	require.Equal(t, logical.ErrReadOnly, err, "it may have been rotated a moment ago")
	_, err = e.do(context.Background(), newRequest(logical.UpdateOperation, "connector-creds/hr", nil))
	require.Equal(t, logical.ErrReadOnly, err)
	_, err = e.do(context.Background(), newRequest(logical.ReadOperation, "connector-creds/nobody", nil))
	require.Equal(t, logical.ErrReadOnly, err, "a standby may not have heard of it yet")
}

func TestScheduledWrappingIsForced(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "wrap_ttl", "90s")
	require.Equal(t, 90*time.Second, e.stored("connector-creds/hr").WrapInfo.TTL)
}

func TestLookupSaysWhenScheduledMaterialWasHandedOut(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduledDecoy("bait", c1test.KindAccessToken)
	fingerprint := e.stored("decoy-creds/bait").Data["fingerprint_sha256"]
	found := e.write("lookup", "fingerprint_sha256", fingerprint).Data
	require.Equal(t, true, found["current"])
	require.Equal(t, target.OutcomeStored, found["outcome"])
	require.NotEmpty(t, found["valid_from"])
	require.Empty(t, found["valid_until"])
	e.after(time.Hour)
	found = e.write("lookup", "fingerprint_sha256", fingerprint).Data
	require.Equal(t, false, found["current"])
	require.Equal(t, e.history("decoys/bait")[0]["finished_at"], found["valid_until"])
}

// A rotation tells as much as a check, so with equal periods C1 is asked once.
func TestNoDriftCheckIsPlannedThatARotationMakesNeedless(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "drift_check_period", "24h")
	ref := connectorTarget(e.scheduled("hr", "rotation_period", "24h"))
	require.Zero(t, recheckAt(e.state(ref)))
	e.write("connectors/hr", "rotation_period", "720h")
	planned := recheckAt(e.state(ref))
	require.WithinDuration(t, e.clock.now().Add(24*time.Hour), planned, 24*time.Hour/10)
	e.write("connectors/hr", "rotation_period", "48h")
	require.Equal(t, planned, recheckAt(e.state(ref)), "it stays as planned")
	e.after(50 * time.Hour)
	require.True(t, recheckAt(e.state(ref)).Before(e.state(ref).NextRotation))
}
