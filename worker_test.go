// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// inBubble runs a test in fake time, on an engine whose own worker runs.
func inBubble(t *testing.T, do func(e *engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		emu, err := c1test.Start(c1test.Options{Offline: true})
		require.NoError(t, err)
		e := &engine{
			T: t, clock: &clock{}, emu: emu, c1: emu.Default(),
			storage: &faultyStorage{Storage: &logical.InmemStorage{}},
			system:  newSystem(),
			logs:    &lockedBuffer{},
		}
		e.run()
		defer func() {
			e.b.Cleanup(context.Background())
			require.NoError(t, emu.Close())
			synctest.Wait()
		}()
		e.configure(e.c1, "max_retries", 0)
		do(e)
	})
}

// run starts a process in a bubble, in place of the one before.
func (e *engine) run() {
	e.Helper()
	if e.b != nil {
		e.b.Cleanup(context.Background())
	}
	e.b = newBackend(testVersion, seams{transport: e.c1})
	require.NoError(e, e.b.Setup(context.Background(), &logical.BackendConfig{
		StorageView: e.storage, System: e.system,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: e.logs}),
	}))
	require.NoError(e, e.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: e.storage}))
}

// pass lets time go by, and returns when everything has come to rest.
func pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// bindMany binds names to connectors of their own, and returns them by ID.
func (e *engine) bindMany(n int, extra ...any) map[string]string {
	e.Helper()
	names := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("many-%05d", i)
		ref := e.c1.NewConnector(name)
		names[ref.ConnectorID] = name
		e.must(logical.CreateOperation, "connectors/"+name, merge(fields("app_id", ref.AppID, "connector_id", ref.ConnectorID,
			"rotate_on", "schedule", "rotation_period", "1h", "skip_initial_rotation", true, "verify", false), extra...))
	}
	return names
}

func (e *engine) rotations() []c1test.Entry {
	var entries []c1test.Entry
	for _, entry := range e.c1.Journal() {
		if entry.Op == c1test.OpRotateConnector {
			entries = append(entries, entry)
		}
	}
	return entries
}

func TestRotationBeginsWithinASecondOfItsTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		names := e.bindMany(20, "rotation_period", "10m")
		due := map[string]time.Time{}
		for id, name := range names {
			due[id] = instant(t, e.read("connectors/" + name).Data["next_rotation"])
		}
		pass(10 * time.Minute)
		rotated := e.rotations()
		require.Len(t, rotated, 20)
		for _, entry := range rotated {
			require.Less(t, entry.Time.Sub(due[entry.Object]).Abs(), time.Second, "its time was %s", due[entry.Object])
		}
	})
}

func TestRotationsAreAsManyAtOnceAsTheConfigSays(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.write("config", "rotation_workers", 3)
		e.bindMany(12, "rotation_schedule", "0 * * * *", "rotation_period", 0)
		hold := e.c1.HoldNext(c1test.OpRotateConnector, "", c1test.BeforeCommit, 12)
		pass(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)) + time.Second)
		require.Equal(t, 3, hold.Held())
		e.write("config", "rotation_workers", 5)
		pass(time.Second)
		require.Equal(t, 5, hold.Held(), "at once")
		hold.Release()
		pass(time.Minute)
		require.Len(t, e.rotations(), 12)
	})
}

// An outage costs a handful of requests a minute, whatever is due; then the
// oldest comes first.
func TestOutageCostsAHandfulOfRequestsAndTheOldestComesFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		const bindings = 300
		names := e.bindMany(bindings)
		due := map[string]time.Time{}
		for id, name := range names {
			due[id] = instant(t, e.read("connectors/" + name).Data["next_rotation"])
		}
		e.write("config", "max_requests_per_second", 10)
		outage := e.c1.AddFault(c1test.Fault{Status: 500})
		pass(61 * time.Minute)
		before := e.c1.Requests("")
		pass(10 * time.Minute)
		cost := e.c1.Requests("") - before
		require.LessOrEqual(t, cost, 10*5, "a handful per minute")
		require.Positive(t, cost, "it looks whether C1 is back")

		status := e.read("status").Data
		unknown := status["ambiguous"].(int)
		require.LessOrEqual(t, unknown, 2*defaultRotationWorkers, "most of them were never asked for")
		require.GreaterOrEqual(t, status["overdue"], bindings-3*defaultRotationWorkers)
		require.NotEmpty(t, status["paused_until"])
		require.Contains(t, status["paused_reason"], "500")
		require.NotEmpty(t, status["oldest_overdue"])
		require.Equal(t, false, status["healthy"])

		outage.Clear()
		began := time.Now()
		pass(2 * time.Minute)
		entries := e.rotations()
		require.Len(t, entries, bindings)
		require.Equal(t, 0, e.read("status").Data["overdue"], "what was rotated does not wait any more")
		require.LessOrEqual(t, time.Since(began), 2*time.Minute)
		perSecond := map[int64]int{}
		last, late := time.Time{}, 0
		for _, entry := range entries {
			perSecond[entry.Time.Unix()]++
			minute := due[entry.Object].Truncate(time.Minute)
			if minute.Before(last) {
				late++
			}
			last = later(last, minute)
		}
		require.LessOrEqual(t, late, unknown+2*defaultRotationWorkers, "out of turn: only what was under way when the outage began")
		for second, n := range perSecond {
			require.LessOrEqual(t, n, 11, "the rate limit at %d", second)
		}
		pass(5 * time.Minute)
		require.Equal(t, true, e.read("status").Data["healthy"])
	})
}

func TestCallersAreServedBeforeABacklog(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(600, "rotation_schedule", "0 * * * *", "rotation_period", 0)
		e.bindConnector("mine")
		e.write("config", "max_requests_per_second", 2)
		pass(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)) + 10*time.Second)
		for range 20 {
			began := time.Now()
			e.vend("connector-creds/mine")
			require.LessOrEqual(t, time.Since(began), time.Second, "it waits for no more than the turn before its own")
			pass(3 * time.Second)
		}
		require.Less(t, len(e.rotations()), 300, "there was a backlog all the time")
		require.Equal(t, true, e.read("status").Data["overdue"].(int) > 100)
	})
}

func TestOpenedGateByACallerEndsTheWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(5)
		e.bindConnector("mine")
		e.c1.SetDown(true)
		pass(70 * time.Minute)
		require.Empty(t, e.rotations())
		e.c1.SetDown(false)
		pass(16 * time.Second) // the client's own breaker has its pause
		if len(e.rotations()) == 0 {
			e.vend("connector-creds/mine")
			pass(time.Second)
		}
		require.GreaterOrEqual(t, len(e.rotations()), 5)
	})
}

func TestWhatWillNotHealIsTriedSlowlyAndToldWithItsReason(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		ref := e.scheduled("hr")
		fault := e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Status: 403})
		pass(24 * time.Hour)
		asked := e.c1.Requests(c1test.OpRotateConnector)
		require.Greater(t, asked, 10)
		require.Less(t, asked, 40, "about once an hour")
		got := e.read("connectors/hr").Data
		require.Equal(t, target.AttentionFailing, got["state"])
		require.Contains(t, got["problems"].([]string)[0], "403")
		status := e.read("status").Data
		require.Equal(t, 1, status["failing"])
		require.Contains(t, status["attention"].([]any)[0].(map[string]any)["detail"], "next try at")
		resp := e.stored("connector-creds/hr")
		require.Contains(t, resp.Warnings[0], "failing")
		require.Len(t, e.history("connectors/hr"), 2, "one failure that repeats is one record")

		fault.Clear()
		e.write("connectors/hr", "metadata", map[string]any{"a": "b"})
		pass(time.Second)
		require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"], "a rewritten binding is tried at once")

		fault = e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Status: 404})
		pass(2 * time.Hour)
		require.Equal(t, target.AttentionFailing, e.read("connectors/hr").Data["state"])
		fault.Clear()
		e.write("config", "max_retries", 0)
		pass(time.Second)
		require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"], "and after a rewritten config")
		require.Nil(t, e.state(connectorTarget(ref)).Failing)
	})
}

func TestDeniedIdentityHoldsEverythingBackAndIsTold(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(50)
		identity := e.c1.PlainIdentity()
		e.write("config", "client_id", identity.ClientID, "client_secret", "wrong-"+identity.ClientSecret, "verify_connection", false)
		requests := e.c1.Requests("")
		pass(2 * time.Hour)
		require.Less(t, e.c1.Requests("")-requests, 2*60*5)
		status := e.read("status").Data
		require.Contains(t, status["paused_reason"], "refused")
		require.Equal(t, 51, status["overdue"], "and the look at the mount's own credential")
		e.write("config", "client_id", identity.ClientID, "client_secret", identity.ClientSecret)
		pass(time.Second)
		require.Len(t, e.rotations(), 50, "at once")
	})
}

func TestDriftIsNoticedAndNeverRotatedAway(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		ref := e.scheduled("hr", "rotation_period", "2400h")
		id := e.scheduledDecoy("bait", c1test.KindAccessToken, "rotation_period", "2400h")
		pass(25 * time.Hour)
		require.Equal(t, true, e.read("status").Data["healthy"])
		require.Equal(t, 1, e.c1.Requests(c1test.OpGetConnectorCredential), "once a day")
		e.c1.RevokeCredential(e.state(connectorTarget(ref)).Current.CredentialID)
		e.c1.RotateDecoy(id)
		pass(25 * time.Hour)
		for _, path := range []string{"connectors/hr", "decoys/bait"} {
			require.Equal(t, target.AttentionDrifted, e.read(path).Data["state"])
			require.Contains(t, e.stored(strings.Replace(path, "s/", "-creds/", 1)).Warnings[0], "somebody else rotated it")
		}
		require.Equal(t, 2, e.read("status").Data["drifted"])
		pass(72 * time.Hour)
		require.Equal(t, 1, e.c1.Requests(c1test.OpRotateConnector), "two owners would fight for ever")
		require.Equal(t, 1, e.c1.Requests(c1test.OpRotateDecoy))
		e.write("connectors/hr/rotate")
		e.write("decoys/bait/rotate")
		require.Equal(t, true, e.read("status").Data["healthy"])

		e.write("config", "drift_check_period", 0)
		e.write("connectors/hr/rotate")
		looks := e.c1.Requests(c1test.OpGetConnectorCredential)
		pass(96 * time.Hour)
		require.Equal(t, looks, e.c1.Requests(c1test.OpGetConnectorCredential))
	})
}

// Vault comes back from an older snapshot: what it holds is dead by now.
func TestRestoredSnapshotIsNoticed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.c1.SetSemantics(c1test.Exclusive)
		e.scheduled("hr", "rotation_period", "480h")
		snapshot := &logical.InmemStorage{}
		keys, err := logical.CollectKeys(context.Background(), e.storage.Storage)
		require.NoError(t, err)
		for _, key := range keys {
			entry, err := e.storage.Storage.Get(context.Background(), key)
			require.NoError(t, err)
			require.NoError(t, snapshot.Put(context.Background(), entry))
		}
		pass(time.Hour)
		e.write("connectors/hr/rotate")
		pass(72 * time.Hour)
		e.storage.swap(snapshot)
		e.run()
		pass(time.Minute)
		require.Equal(t, target.AttentionDrifted, e.read("connectors/hr").Data["state"])
		require.Equal(t, 2, e.c1.Requests(c1test.OpRotateConnector))
	})
}

func TestUnknownOutcomeIsRotatedAgainAndLookedAtOnceMore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.c1.SetSemantics(c1test.Exclusive)
		ref := e.scheduled("hr")
		e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
		f := e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
		require.Equal(t, statusOutcomeUnknown, f.status)
		require.Contains(t, f.message, "the engine rotates it again at ")
		resp := e.stored("connector-creds/hr")
		require.False(t, e.alive(resp), "the old one is dead")
		require.Contains(t, resp.Warnings[0], "ambiguous", "and the reader is told")
		require.LessOrEqual(t, resp.Data["ttl"], int64(30))

		pass(2*defaultRequestTimeout - 2*time.Second)
		require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"], "C1 may still commit it")
		pass(5 * time.Second)
		require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
		require.True(t, e.alive(e.stored("connector-creds/hr")))
		require.True(t, followsUnknown(e.state(connectorTarget(ref))))
		looks := e.c1.Requests(c1test.OpGetConnectorCredential)
		pass(3 * time.Minute)
		require.Equal(t, looks+1, e.c1.Requests(c1test.OpGetConnectorCredential))
		require.False(t, followsUnknown(e.state(connectorTarget(ref))))
	})
}

// What C1 commits after a caller took the place of an unknown attempt kills the
// newer credential. The second look finds it, and this mount's own late request
// is no other owner.
func TestLateCommitIsHealedByTheSecondLook(t *testing.T) {
	t.Parallel()
	for rotations := 1; rotations <= 3; rotations++ { // each of them may be hit
		inBubble(t, func(e *engine) {
			e.c1.SetSemantics(c1test.Exclusive)
			e.scheduled("hr")
			gate := make(chan struct{})
			e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, CommitLate: gate, Times: 1})
			e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
			for range rotations {
				e.write("connectors/hr/rotate")
			}
			close(gate)
			pass(time.Second)
			require.False(t, e.alive(e.stored("connector-creds/hr")))
			pass(3 * time.Minute)
			require.True(t, e.alive(e.stored("connector-creds/hr")))
			require.Equal(t, target.ReasonRecovery, e.history("connectors/hr")[0]["reason"])
			require.Equal(t, true, e.read("status").Data["healthy"])
		})
	}
}

func TestDecoyWhoseFingerprintIsUnchangedIsNotRotatedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		id := e.scheduledDecoy("bait", c1test.KindAccessToken, "rotation_period", "48h")
		e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, DropBefore: true, Times: 1})
		e.refused(logical.UpdateOperation, "decoys/bait/rotate", nil)
		pass(2 * time.Minute)
		require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
		require.Equal(t, 1, e.c1.Changes(c1test.OpRotateDecoy))

		e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, DropAfter: true, Times: 1})
		e.refused(logical.UpdateOperation, "decoys/bait/rotate", nil)
		pass(2 * time.Minute)
		require.Equal(t, 3, e.c1.Changes(c1test.OpRotateDecoy), "its material was lost")
		require.Equal(t, e.c1.DecoyFingerprint(id), e.stored("decoy-creds/bait").Data["fingerprint_sha256"])
	})
}

// C1 is later than the settle time, so that the fingerprint said too early that
// it had not rotated.
func TestCommitAfterTheSettleTimeIsHealedByTheSecondLook(t *testing.T) {
	t.Parallel()
	for name, overdue := range map[string]bool{"kept until its turn": false, "rotated again at once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(e *engine) {
				id := e.scheduledDecoy("bait", c1test.KindAccessToken, "rotation_period", "48h")
				failed, gate := 0, make(chan struct{})
				fault := e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, CommitLate: gate, Times: 1})
				if overdue {
					failed = 1 // the record before the newest
					for fault.Hits() == 0 {
						pass(10 * time.Second)
					}
				} else {
					e.refused(logical.UpdateOperation, "decoys/bait/rotate", nil)
				}
				pass(2*defaultRequestTimeout + time.Second)
				require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
				require.Equal(t, target.OutcomeFailed, e.history("decoys/bait")[failed]["outcome"])
				close(gate)
				pass(time.Second)
				require.NotEqual(t, e.c1.DecoyFingerprint(id), e.stored("decoy-creds/bait").Data["fingerprint_sha256"])
				pass(2*defaultRequestTimeout + 10*time.Second)
				require.Equal(t, e.c1.DecoyFingerprint(id), e.stored("decoy-creds/bait").Data["fingerprint_sha256"])
				require.Equal(t, target.ReasonRecovery, e.history("decoys/bait")[0]["reason"])
				require.Equal(t, true, e.read("status").Data["healthy"])
			})
		})
	}
}

// Storage refuses the outcome: the material exists nowhere else, so it is held
// and stored later, and nothing is revoked.
func TestMaterialThatStorageRefusesIsHeldUntilItIsStored(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.c1.SetSemantics(c1test.Exclusive)
		ref := e.scheduled("hr")
		commits := e.c1.Changes(c1test.OpRotateConnector)
		e.storage.failWhen(func(op, _ string) bool {
			return op == "put" && e.c1.Changes(c1test.OpRotateConnector) > commits
		})
		f := e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
		require.Equal(t, statusOutcomeUnknown, f.status)
		require.Contains(t, f.message, "the engine holds it in memory")
		pass(20 * time.Second)
		require.NotEqual(t, target.Ready, e.read("connectors/hr").Data["state"])
		e.storage.failWhen(nil)
		pass(time.Minute)
		require.True(t, e.alive(e.stored("connector-creds/hr")))
		require.Equal(t, 2, e.stored("connector-creds/hr").Data["version"])
		require.Len(t, e.c1.AliveCredentials(ref), 1)
		require.Zero(t, e.c1.Requests(c1test.OpRevokeConnectorCredential))
		require.Equal(t, 2, e.c1.Changes(c1test.OpRotateConnector), "held, not rotated again")
		e.noSecretsIn("the log", e.logs.String())
	})
}

// The process stops before storage takes what it holds: rotate again.
func TestHeldMaterialThatDiesWithTheProcessIsRotatedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.c1.SetSemantics(c1test.Exclusive)
		e.scheduled("hr")
		commits := e.c1.Changes(c1test.OpRotateConnector)
		e.storage.failWhen(func(op, _ string) bool {
			return op == "put" && e.c1.Changes(c1test.OpRotateConnector) > commits
		})
		e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
		e.run()
		e.storage.failWhen(nil)
		require.NotEqual(t, target.Ready, e.read("connectors/hr").Data["state"])
		pass(3 * time.Minute)
		require.True(t, e.alive(e.stored("connector-creds/hr")))
		require.Equal(t, 3, e.c1.Changes(c1test.OpRotateConnector))
		require.Equal(t, true, e.read("status").Data["healthy"])
	})
}

func TestWorkerSurvivesStorageThatFailsForAWhile(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(10)
		e.storage.failWhen(func(string, string) bool { return true })
		pass(2 * time.Hour)
		require.Empty(t, e.rotations())
		e.storage.failWhen(nil)
		pass(3 * time.Minute)
		require.Len(t, e.rotations(), 10)
		require.Equal(t, true, e.read("status").Data["healthy"])
	})
}

func TestScheduledRotationOnAMountThatIsBeingDisabledIsLeftAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.scheduled("hr")
		e.system.taint()
		pass(2 * time.Hour)
		require.Len(t, e.rotations(), 1)
	})
}

func TestStandbyRotatesNothingUntilItIsActive(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.scheduled("hr")
		e.onStandby()
		pass(3 * time.Hour)
		require.Len(t, e.rotations(), 1)
		e.system.become(0)
		require.NoError(t, e.b.periodic(context.Background(), nil))
		pass(time.Minute)
		require.Len(t, e.rotations(), 2)
	})
}

// Somebody has the target's turn for longer than a minute: the look waits for
// him and is not lost when the minute ends.
func TestLookWaitsForABusyTargetAcrossMinutes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		ref := e.bindConnector("hr", "rotate_on", "schedule", "rotation_schedule", "0 * * * *")
		held, err := e.b.takeTurn(context.Background(), connectorTarget(ref))
		require.NoError(t, err)
		pass(time.Until(instant(t, e.read("connectors/hr").Data["next_rotation"])) + 150*time.Second)
		require.Len(t, e.rotations(), 1)
		held.release()
		pass(2 * busyRetry)
		require.Len(t, e.rotations(), 2)
	})
}

func TestPanicOfOneTargetLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		names := e.bindMany(10)
		var mad string
		for id := range names {
			mad = id
		}
		bind, err := readBinding(context.Background(), e.disk(), target.Connector, names[mad])
		require.NoError(t, err)
		madKey := e.keyOf(stateKey(bind.Ref))
		e.storage.failWhen(func(op, key string) bool {
			if op == "put" && key == madKey {
				panic("storage gone mad")
			}
			return false
		})
		pass(time.Hour)
		require.Len(t, e.rotations(), 9)
		require.Contains(t, e.logs.String(), "storage gone mad")
		e.storage.failWhen(nil)
		pass(2 * time.Minute)
		require.Len(t, e.rotations(), 10)
		require.Equal(t, 2, e.write("connectors/" + names[mad] + "/rotate").Data["version"])
	})
}

// One target that C1 refuses for a day, whatever it is asked for, holds up nobody
// else, and is told.
func TestOneTargetsRefusalNeverPausesAnothers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]c1test.Fault{
		"rate limited for a day": {Status: 429, RetryAfter: "86400"},
		"unavailable":            {Status: 503, RetryAfter: "3600"},
		"a server error":         {Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(e *engine) {
				names := e.bindMany(20, "rotation_period", "10m")
				var bad string
				for id := range names {
					bad = id
				}
				fault.Object = bad
				fault := e.c1.AddFault(fault)
				for range 120 {
					pass(time.Minute)
					require.Empty(t, e.read("status").Data["paused_reason"])
				}
				require.GreaterOrEqual(t, len(e.rotations()), 19*12)
				require.Equal(t, false, e.read("status").Data["healthy"])
				require.NotEqual(t, target.Ready, e.read("connectors/" + names[bad]).Data["state"])
				require.NotEmpty(t, e.read("connectors/" + names[bad]).Data["problems"])
				fault.Clear()
				pass(90 * time.Minute)
				require.Equal(t, true, e.read("status").Data["healthy"])
			})
		})
	}
}

// A credential that can never be revoked is tried for ever, and costs nobody
// anything.
func TestACredentialThatCannotBeRevokedHoldsUpNobody(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(10, "rotation_period", "10m")
		ref := e.bindConnector("hr")
		lease := e.vend("connector-creds/hr").Secret
		e.c1.AddFault(c1test.Fault{Object: ref.ConnectorID, Status: 503})
		_, err := e.revoke(lease)
		require.NoError(t, err)
		for range 120 {
			pass(time.Minute)
			require.Empty(t, e.read("status").Data["paused_reason"])
		}
		require.GreaterOrEqual(t, len(e.rotations()), 10*12)
		require.Equal(t, 1, e.read("status").Data["retiring"])
	})
}

func TestALongRetryAfterToEverybodyIsObeyedForFiveMinutes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		e.bindMany(10)
		fault := e.c1.AddFault(c1test.Fault{Status: 429, RetryAfter: "86400"})
		pass(2 * time.Hour)
		require.Empty(t, e.rotations())
		require.Contains(t, e.read("status").Data["paused_reason"], "429")
		fault.Clear()
		pass(5*time.Minute + time.Second)
		require.Len(t, e.rotations(), 10)
	})
}

// One token that reads its own bindings in a loop takes all of the rate that it
// can get. What is due comes in time all the same.
func TestCallersDoNotStarveTheClock(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		names := e.bindMany(20, "rotation_period", "10m")
		e.write("config", "max_requests_per_second", 5)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for i := range 40 {
			ref := e.c1.NewConnector(fmt.Sprint("loop-", i))
			e.must(logical.CreateOperation, fmt.Sprint("connectors/loop-", i), fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "read", "verify", false))
			all.Go(func() {
				for ctx.Err() == nil {
					_, _ = e.do(ctx, newRequest(logical.ReadOperation, fmt.Sprint("connector-creds/loop-", i), nil))
				}
			})
		}
		due := map[string]time.Time{}
		for id, name := range names {
			due[id] = instant(t, e.read("connectors/" + name).Data["next_rotation"])
		}
		pass(11 * time.Minute)
		cancel()
		late, n := time.Duration(0), 0
		for _, entry := range e.rotations() {
			if at, scheduled := due[entry.Object]; scheduled {
				n++
				late = max(late, entry.Time.Sub(at))
				delete(due, entry.Object)
			}
		}
		require.Equal(t, 20, n)
		require.Less(t, late, time.Minute)
		all.Wait()
	})
}

// The machine's clock is a year ahead for a while, and comes back: nothing is
// rotated or ended by it, and status says why.
func TestAClockThatJumpsAheadRotatesAndEndsNothing(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{25 * time.Hour, year} {
		e := configured(t)
		e.bindMany(3)
		ref := e.bindConnector("hr", "ttl", "24h", "max_ttl", "24h")
		e.vend("connector-creds/hr")
		require.NoError(t, e.b.tick(context.Background()))
		asked := e.asked()
		behind := e.c1.AddFault(c1test.Fault{ClockOffset: -jump}) // C1 has the right time
		e.clock.advance(jump)
		for range 3 {
			require.NoError(t, e.b.tick(context.Background()))
		}
		require.Equal(t, asked, e.asked())
		require.Len(t, e.c1.AliveCredentials(ref), 1)
		status := e.read("status").Data
		require.Contains(t, status["paused_reason"], "ahead of C1's")
		require.Equal(t, false, status["healthy"])

		behind.Clear()
		e.clock.advance(-jump)
		e.after(time.Minute)
		require.Equal(t, asked, e.asked())
		e.after(2 * time.Hour)
		require.Len(t, e.rotations(), 4, "in time: three by the clock, and the read")
		require.Len(t, e.c1.AliveCredentials(ref), 1)
		require.Equal(t, true, e.read("status").Data["healthy"])
	}
}
