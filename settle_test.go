// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func TestDecoyFingerprintTellsThatC1DidNotRotate(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "decoys/x", c1test.BeforeCommit)
	before := e.c1.DecoyFingerprint(e.c1.Decoy(c1test.KindAccessToken))
	e.after(2 * time.Minute)
	require.Equal(t, target.Ready, e.read("decoys/x").Data["state"])
	require.Equal(t, true, e.read("status").Data["healthy"])
	record := e.history("decoys/x")[0]
	require.Equal(t, target.OutcomeFailed, record["outcome"])
	require.Contains(t, record["error"], "did not rotate")
	require.Equal(t, before, e.c1.DecoyFingerprint(e.c1.Decoy(c1test.KindAccessToken)))
}

func TestDecoyFingerprintTellsThatTheMaterialWasLost(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "decoys/x", c1test.AfterCommit)
	e.after(2 * time.Minute)
	require.Contains(t, e.read("decoys/x").Data["problems"].([]string)[0], "material was lost")
	gets := e.c1.Requests("getDecoy")
	e.after(time.Hour)
	require.Equal(t, gets, e.c1.Requests("getDecoy"), "settled once, it waits for the next rotation")
}

func TestUnknownOutcomeIsNotSettledBeforeC1CouldCommitLate(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "request_timeout", 30)
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.c1.AddFault(c1test.Fault{Op: "rotateDecoy", DropBefore: true, Times: 1})
	e.refused(logical.UpdateOperation, "decoy-creds/bait", nil)
	gets := e.c1.Requests("getDecoy")
	e.after(50 * time.Second)
	require.Equal(t, gets, e.c1.Requests("getDecoy"))
	require.Equal(t, target.AttentionAmbiguous, e.read("decoys/bait").Data["state"])
	e.after(time.Minute + 15*time.Second)
	require.Equal(t, gets+1, e.c1.Requests("getDecoy"))
	require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
}

func TestSettlingADecoyWaitsForC1(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "decoys/x", c1test.BeforeCommit)
	e.write("config", "max_retries", 0)
	e.c1.AddFault(c1test.Fault{Op: "getDecoy", Status: 503, Times: 1})
	e.after(2 * time.Minute)
	require.Equal(t, target.AttentionAmbiguous, e.read("decoys/x").Data["state"])
	e.after(3 * time.Minute)
	require.Equal(t, target.Ready, e.read("decoys/x").Data["state"])
}

func TestSettlingADeletedDecoySaysSo(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "decoys/x", c1test.BeforeCommit)
	e.c1.DeleteDecoy(e.c1.Decoy(c1test.KindAccessToken))
	e.after(2 * time.Minute)
	require.Contains(t, e.read("decoys/x").Data["problems"].([]string)[0], "gone at C1")
}

// An attempt of unknown outcome is superseded by a rotation that succeeds; C1
// then commits the first one late, and what was vended is dead.
func TestLateCommitIsNoticedByASecondLook(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"connectors/x", "decoys/x"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			e := configured(t, func(o *c1test.Options) { o.Semantics = c1test.Exclusive })
			op, creds := "rotateConnector", "connector-creds/x"
			if path == "decoys/x" {
				op, creds = "rotateDecoy", "decoy-creds/x"
				e.bindDecoy("x", c1test.KindAccessToken, "rotate_on", "read")
			} else {
				e.bindConnector("x")
			}
			late := make(chan struct{})
			e.c1.AddFault(c1test.Fault{Op: op, CommitLate: late, Times: 1})
			e.refused(logical.ReadOperation, creds, nil)
			e.vend(creds)
			require.Equal(t, target.Ready, e.read(path).Data["state"])
			close(late)
			require.Eventually(t, func() bool { return e.c1.Changes(op) == 2 }, 10*time.Second, time.Millisecond)
			e.after(3 * time.Minute)
			require.Equal(t, target.AttentionDrifted, e.read(path).Data["state"], "never healthy with a dead credential")
			require.Equal(t, 1, e.read("status").Data["drifted"])
			e.vend(creds)
			require.Equal(t, true, e.read("status").Data["healthy"])
		})
	}
}

func TestSecondLookFindsNothingWrongOrComesBack(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"connectors/x", "decoys/x"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			e.write("config", "max_retries", 0)
			rotate, get, creds := "rotateConnector", "getConnectorCredential", "connector-creds/x"
			if path == "decoys/x" {
				rotate, get, creds = "rotateDecoy", "getDecoy", "decoy-creds/x"
				e.bindDecoy("x", c1test.KindAccessToken, "rotate_on", "read")
			} else {
				e.bindConnector("x")
			}
			e.c1.AddFault(c1test.Fault{Op: rotate, DropAfter: true, Times: 1})
			e.refused(logical.ReadOperation, creds, nil)
			e.vend(creds)
			e.c1.AddFault(c1test.Fault{Op: get, Status: 500, Times: 1})
			looks := e.c1.Requests(get)
			e.after(3 * time.Minute)
			require.Equal(t, looks+1, e.c1.Requests(get))
			e.after(3 * time.Minute)
			require.Equal(t, looks+2, e.c1.Requests(get))
			require.Equal(t, target.Ready, e.read(path).Data["state"])
			e.after(time.Hour)
			require.Equal(t, looks+2, e.c1.Requests(get), "once is enough")
		})
	}
}

// Vault died between our answer and its lease: nobody will ever revoke it.
func TestOrphanEndsAtItsLeasesMaximum(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "ttl", "10m", "max_ttl", "2h")
	resp := e.vend("connector-creds/hr")
	e.restart()
	require.Equal(t, target.OutcomeIssued, e.history("connectors/hr")[0]["outcome"])
	for range 11 {
		e.after(10 * time.Minute)
		require.True(t, e.alive(resp), "not before the lease's maximum")
	}
	e.after(15 * time.Minute)
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.NotEmpty(t, e.history("connectors/hr")[0]["ended_at"])
}

func TestNothingRotatesBecauseAProcessStarted(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.vend("connector-creds/hr")
	before, asked := e.changes(), e.asked()
	for range 20 {
		e.restart()
		require.NoError(t, e.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: e.storage}))
		e.b.end()
		e.after(10 * time.Minute)
	}
	require.Equal(t, before, e.changes())
	require.Equal(t, asked, e.asked())
}

func TestIdleTickListsOneMinuteAndWritesNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.configureStatic()
	e.after(time.Minute)
	lists := 0
	e.storage.failWhen(func(op, _ string) bool {
		if op == "list" {
			lists++
		}
		return false
	})
	e.storage.written()
	e.after(time.Minute)
	require.LessOrEqual(t, lists, 2)
	require.Empty(t, e.storage.written())
	e.storage.failWhen(nil)
	e.after(2 * time.Hour)
	require.LessOrEqual(t, len(e.storage.written()), 3, "about once an hour")
}

func TestTickSurvivesAClockThatGoesBack(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "ttl", "1m", "max_ttl", "1m")
	e.after(48 * time.Hour)
	e.clock.advance(-47 * time.Hour)
	require.NoError(t, e.b.tick(context.Background()))
	e.vend("connector-creds/hr")
	e.after(2 * time.Minute)
	e.after(3 * time.Minute)
	require.Empty(t, e.c1.AliveCredentials(ref))
}

func TestFailingStorageLeavesTheEntryForTheNextTick(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "ttl", "1m", "max_ttl", "1m")
	e.vend("connector-creds/hr")
	e.clock.advance(10 * time.Minute)
	for _, broken := range []string{"list " + agenda.Prefix, "get " + targetPrefix, "put " + agenda.Prefix, "delete " + agenda.Prefix, "put " + agenda.WatermarkKey} {
		op, prefix, _ := strings.Cut(broken, " ")
		e.storage.failWhen(func(o, k string) bool { return o == op && strings.HasPrefix(k, prefix) })
		_ = e.b.tick(context.Background())
		e.storage.failWhen(nil)
	}
	for range 3 {
		e.after(2 * time.Minute)
	}
	require.Empty(t, e.c1.AliveCredentials(ref))
}

func TestMinuteThatCouldNotBeListedIsListedAgain(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "connectors/x", c1test.AfterCommit)
	e.clock.advance(2 * time.Minute)
	for range 3 {
		e.storage.failWhen(func(op, key string) bool { return op == "list" && strings.HasPrefix(key, agenda.Prefix) })
		require.ErrorIs(t, e.b.tick(context.Background()), errStorage)
	}
	e.storage.failWhen(nil)
	require.NoError(t, e.b.tick(context.Background()))
	require.NotEmpty(t, e.state(connectorTarget(e.c1.Connector())).Attempt.Why)
}

// The process died inside the first round of writes: the attempt is stored,
// its due entry is not. A look at the binding has it settled.
func TestAttemptWithoutItsDueEntryIsSettledOnceSomebodyLooks(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "decoys/x", c1test.BeforeCommit)
	ctx := context.Background()
	ref := decoyTarget(e.c1.Decoy(c1test.KindAccessToken))
	now := e.clock.now().Unix() / 60
	for minute := now; minute < now+10; minute++ {
		require.NoError(t, e.b.agenda.Drop(ctx, minute, e.nameOf(ref)))
	}
	e.after(10 * time.Minute)
	require.Equal(t, target.AttentionAmbiguous, e.read("decoys/x").Data["state"])
	e.after(time.Minute)
	require.Equal(t, target.Ready, e.read("decoys/x").Data["state"])
}

func TestPanicParksOneTargetAndSparesTheRest(t *testing.T) {
	t.Parallel()
	e := configured(t)
	good := e.bindConnector("hr", "ttl", "1m", "max_ttl", "1m")
	bad := e.c1.NewConnector("bad")
	e.must(logical.CreateOperation, "connectors/bad", fields("app_id", bad.AppID, "connector_id", bad.ConnectorID, "rotate_on", "read", "ttl", "1m", "max_ttl", "1m"))
	e.vend("connector-creds/hr")
	e.vend("connector-creds/bad")
	e.restart() // or nothing needs to be read
	badKey := e.keyOf(stateKey(connectorTarget(bad)))
	e.storage.failWhen(func(op, key string) bool {
		if op == "get" && key == badKey {
			panic("a bug")
		}
		return false
	})
	for range 4 {
		e.after(2 * time.Minute)
	}
	require.Empty(t, e.c1.AliveCredentials(good))
	require.Len(t, e.c1.AliveCredentials(bad), 1)
	e.storage.failWhen(nil)
	for range 3 {
		e.after(2 * time.Minute)
	}
	require.Empty(t, e.c1.AliveCredentials(bad), "parked, not forgotten")
}

func TestInvalidationDropsWhatWasRead(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	require.NotNil(t, e.b.sessions.peek())
	e.b.InvalidateKey(context.Background(), configKey)
	require.Nil(t, e.b.sessions.peek())
	e.after(time.Minute)
	require.True(t, e.b.agenda.Listed(e.clock.now()))
	e.b.InvalidateKey(context.Background(), agenda.WatermarkKey)
	require.False(t, e.b.agenda.Listed(e.clock.now()))
}

func TestWorkerTicksByItselfAndStops(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "ttl", "1m", "max_ttl", "1m")
	e.vend("connector-creds/hr")
	e.clock.advance(2 * time.Minute) // the settle entry, then the planned end
	require.NoError(t, e.b.tick(context.Background()))
	e.clock.advance(3 * time.Minute)
	require.NoError(t, e.b.PeriodicFunc(context.Background(), &logical.Request{Storage: e.storage}))
	require.Eventually(t, func() bool { return len(e.c1.AliveCredentials(ref)) == 0 }, 30*time.Second, time.Millisecond)
	e.b.Cleanup(context.Background())
	e.b.wake()
	require.Eventually(t, func() bool { return !e.workerRuns() }, 10*time.Second, time.Millisecond, "a stopped worker stays so")
}

func TestStandbyNeverTicks(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.onStandby()
	require.NoError(t, e.b.PeriodicFunc(context.Background(), &logical.Request{Storage: e.storage}))
	require.False(t, e.workerRuns())
}

func (e *engine) workerRuns() bool { return e.b.agenda.Running() }

func TestTargetsAreFoundByTheirNamesInStorage(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	seen := map[string]target.Ref{}
	for _, ref := range []target.Ref{
		{Kind: target.Connector, AppID: "2abc", ConnectorID: "3def"},
		{Kind: target.Connector, AppID: "2abc3", ConnectorID: "def"},
		{Kind: target.Connector, AppID: "3def", ConnectorID: "2abc"},
		{Kind: target.Connector, AppID: "a:b=c", ConnectorID: "x@y~z+1"},
		{Kind: target.Decoy, DecoyID: "4_g-h"},
		{Kind: target.Decoy, DecoyID: "2abc,3def"},
	} {
		require.NoError(t, writeState(t.Context(), e.b.store, &target.State{Ref: ref}))
		name := e.nameOf(ref)
		require.Empty(t, seen[name], "%s has the name of another one", ref)
		seen[name] = ref
		got, err := readStateNamed(t.Context(), e.b.store, name)
		require.NoError(t, err)
		require.Equal(t, ref, got.Ref)
	}
	got, err := readStateNamed(t.Context(), e.b.store, "thing")
	require.NoError(t, err)
	require.Nil(t, got)
	require.NoError(t, storedState.Write(t.Context(), e.b.store, stateNamed("thing"), &target.State{Ref: decoyTarget("x")}))
	_, err = readStateNamed(t.Context(), e.b.store, "thing")
	require.True(t, store.Unreadable(err), "it lies in the place of another one")
}

func TestWhatSettlingFindsPushesOutNothingThatWasIssued(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "history_limit", 2)
	e.bindDecoy("bait", c1test.KindAccessToken)
	pointer := func(resp *logical.Response) *logical.StorageEntry {
		entry, err := e.storage.Get(context.Background(), e.keyOf(fingerprintKey(resp.Data["fingerprint_sha256"].(string))))
		require.NoError(t, err)
		return entry
	}
	first, second := e.write("decoy-creds/bait"), e.write("decoy-creds/bait")
	require.NotNil(t, pointer(first))
	e.c1.AddFault(c1test.Fault{Op: "rotateDecoy", DropBefore: true, Times: 1})
	e.refused(logical.UpdateOperation, "decoy-creds/bait", nil)
	e.after(5 * time.Minute)
	e.b.work.Wait()
	require.Equal(t, target.OutcomeFailed, e.history("decoys/bait")[0]["outcome"])
	require.NotNil(t, pointer(first))
	require.NotNil(t, pointer(second))

	e.write("decoy-creds/bait")
	e.b.work.Wait()
	require.Nil(t, pointer(first), "what was issued later pushes it out, with its entry of the index")
	require.NotNil(t, pointer(second))
}

// After a downtime an attempt and the check of the credential before it fall due
// together. What the attempt's settling plans must not be swallowed by the check.
func TestTheSecondLookSurvivesADowntime(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.scheduledDecoy("bait", c1test.KindAccessToken, "rotation_period", "9000h", "check_period", "10m")
	late := make(chan struct{})
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, CommitLate: late, Times: 1})
	require.Equal(t, http.StatusConflict, e.refused(logical.UpdateOperation, "decoys/bait/rotate", nil).status)
	require.False(t, recheckAt(e.state(decoyTarget(id))).IsZero(), "the check is planned still")
	held := e.c1.DecoyFingerprint(id)
	e.after(2 * time.Hour)
	require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"], "C1 has not rotated, as far as it shows")

	close(late)
	require.Eventually(t, func() bool { return e.c1.DecoyFingerprint(id) != held }, 10*time.Second, time.Millisecond)
	e.after(2 * time.Minute)
	e.after(2 * time.Minute)
	require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
	require.Equal(t, e.c1.DecoyFingerprint(id), e.stored("decoy-creds/bait").Data["fingerprint_sha256"], "what readers hold is good")
}
