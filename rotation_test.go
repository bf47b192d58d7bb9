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
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// What C1 answers, and what the engine makes of it: the status, whether the
// outcome is known, and whether C1 acted.
func TestAnswersOfC1BecomeTheErrorTable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  c1test.Fault
		status int
		state  string
	}{
		"400":               {c1test.Fault{Status: 400}, 400, target.Ready},
		"404":               {c1test.Fault{Status: 404}, 400, target.Ready},
		"409":               {c1test.Fault{Status: 409}, 400, target.Ready},
		"401":               {c1test.Fault{Status: 401}, 502, target.Ready},
		"403":               {c1test.Fault{Status: 403}, 502, target.Ready},
		"429":               {c1test.Fault{Status: 429, RetryAfter: "3600"}, 429, target.Ready},
		"503 with a time":   {c1test.Fault{Status: 503, RetryAfter: "3600"}, 502, target.Ready},
		"503":               {c1test.Fault{Status: 503}, 409, target.AttentionAmbiguous},
		"500":               {c1test.Fault{Status: 500}, 409, target.AttentionAmbiguous},
		"502 after acting":  {c1test.Fault{StatusAfter: 502}, 409, target.AttentionAmbiguous},
		"reset":             {c1test.Fault{DropBefore: true}, 409, target.AttentionAmbiguous},
		"answer lost":       {c1test.Fault{DropAfter: true}, 409, target.AttentionAmbiguous},
		"answer cut":        {c1test.Fault{Truncate: true}, 409, target.AttentionAmbiguous},
		"garbage":           {c1test.Fault{Garbage: true}, 409, target.AttentionAmbiguous},
		"endless":           {c1test.Fault{Endless: true}, 409, target.AttentionAmbiguous},
		"empty":             {c1test.Fault{EmptyAnswer: true}, 409, target.AttentionAmbiguous},
		"without material":  {c1test.Fault{OmitMaterial: true}, 409, target.AttentionAmbiguous},
		"without secret":    {c1test.Fault{OmitSecret: true}, 409, target.AttentionAmbiguous},
		"redirect":          {c1test.Fault{Redirect: "https://evil.example/"}, 409, target.AttentionAmbiguous},
		"slower than limit": {c1test.Fault{Delay: 3 * time.Second}, 409, target.AttentionAmbiguous},
	} {
		for _, path := range []string{"connectors/x", "decoys/x"} {
			t.Run(name+" "+path, func(t *testing.T) {
				t.Parallel()
				e := configured(t)
				creds := "connector-creds/x"
				if path == "decoys/x" {
					creds = "decoy-creds/x"
					e.bindDecoy("x", c1test.KindAccessToken, "rotate_on", "read")
				} else {
					e.bindConnector("x")
				}
				e.write("config", "max_retries", 0)
				if tc.fault.Delay > 0 {
					e.write("config", "request_timeout", 1, "verify_connection", false)
				}
				for _, op := range []string{"rotateConnector", "rotateDecoy"} {
					fault := tc.fault
					fault.Op, fault.Times = op, 2 // a 401 is tried once more
					e.c1.AddFault(fault)
				}
				f := e.refused(logical.ReadOperation, creds, nil)
				require.Equal(t, tc.status, f.status, f.message)
				e.noSecretsIn("the error", f.message)
				require.Equal(t, tc.state, e.read(path).Data["state"])
				status := e.read("status").Data
				if tc.state == target.Ready {
					require.Equal(t, target.OutcomeFailed, e.history(path)[0]["outcome"])
					require.Equal(t, true, status["healthy"])
					return
				}
				require.Contains(t, f.message, "outcome unknown")
				require.Equal(t, 1, status["ambiguous"])
				require.Len(t, status["attention"], 1)
				require.Contains(t, e.read(path).Data["problems"].([]string)[0], "ambiguous")

				e.c1.ClearFaults()
				resp := e.vend(creds)
				require.Equal(t, 1, resp.Data["version"])
				require.Equal(t, target.Ready, e.read(path).Data["state"], "the next rotation settles it")
				require.Equal(t, true, e.read("status").Data["healthy"])
				require.Equal(t, target.OutcomeSuperseded, e.history(path)[1]["outcome"])
			})
		}
	}
}

func TestNothingSentWhenC1IsDown(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	e.bindConnector("hr")
	e.c1.SetDown(true)
	e.restart() // a connection that C1 closed under a rotate has no known outcome
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "nothing was sent")
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
	e.c1.SetDown(false)
	require.True(t, e.alive(e.vend("connector-creds/hr")))
}

// A definite failure after an unknown outcome says nothing about the unknown
// one: it must stay visible.
func TestDefiniteFailureDoesNotHideAnOlderUnknownOutcome(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: 409, Times: 1})
	require.Equal(t, http.StatusBadRequest, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
	require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"])
	require.Equal(t, 1, e.read("status").Data["ambiguous"])
}

// crash returns a mount that died while C1 was being asked: the attempt is
// stored, its outcome is not.
func crash(t *testing.T, path string, when c1test.When) (*engine, *logical.Request) {
	t.Helper()
	e := configured(t)
	e.write("config", "request_timeout", 2)
	op, creds := "rotateConnector", "connector-creds/x"
	if path == "decoys/x" {
		op, creds = "rotateDecoy", "decoy-creds/x"
		e.bindDecoy("x", c1test.KindAccessToken, "rotate_on", "read")
	} else {
		e.bindConnector("x")
	}
	// The attempt and its due entry are the last that the process writes.
	puts := 0
	e.storage.failWhen(func(op, _ string) bool {
		if op == "put" {
			puts++
		}
		return puts > 2
	})
	e.c1.AddFault(c1test.Fault{Op: op, DropBefore: when == c1test.BeforeCommit, DropAfter: when == c1test.AfterCommit, Times: 1})
	req := newRequest(logical.ReadOperation, creds, nil)
	require.Equal(t, statusOutcomeUnknown, e.refusedRequest(context.Background(), req).status)
	e.storage.failWhen(nil)
	e.restart()
	return e, req
}

func TestCrashWhileC1IsAskedIsVisibleAndHealedByTheNextRead(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"connectors/x", "decoys/x"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			e, req := crash(t, path, c1test.AfterCommit)
			require.Equal(t, target.Rotating, e.read(path).Data["state"])
			require.Equal(t, 1, e.read("status").Data["rotating"])

			rotations := e.c1.Requests("rotateConnector") + e.c1.Requests("rotateDecoy")
			f := e.refusedRequest(context.Background(), req)
			require.Equal(t, statusOutcomeUnknown, f.status, "Vault's re-sent request does not rotate again")
			require.Equal(t, rotations, e.c1.Requests("rotateConnector")+e.c1.Requests("rotateDecoy"))

			ref := connectorTarget(e.c1.Connector())
			if path == "decoys/x" {
				ref = decoyTarget(e.c1.Decoy(c1test.KindAccessToken))
			}
			require.NoError(t, e.b.settle(context.Background(), e.nameOf(ref), &settled{}))
			require.Equal(t, target.Rotating, e.read(path).Data["state"], "C1 may still commit it")

			e.clock.advance(2 * time.Minute)
			for range 2 { // before and after it was settled
				require.Equal(t, target.AttentionAmbiguous, e.read(path).Data["state"])
				require.Equal(t, 1, e.read("status").Data["ambiguous"])
				require.NoError(t, e.b.tick(context.Background()))
			}
			require.Equal(t, rotations, e.c1.Requests("rotateConnector")+e.c1.Requests("rotateDecoy"), "settling rotates nothing")

			creds := strings.Replace(strings.TrimSuffix(path, "/x"), "s", "-creds", 1) + "/x"
			e.vend(creds)
			require.Equal(t, target.Ready, e.read(path).Data["state"])
			require.Equal(t, true, e.read("status").Data["healthy"])
		})
	}
}

func TestSameRequestAfterItsOutcomeWasStoredDoesNotRotateAgain(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	req := newRequest(logical.ReadOperation, "connector-creds/hr", nil)
	resp, err := e.do(context.Background(), req)
	require.NoError(t, err)
	f := e.refusedRequest(context.Background(), req)
	require.Equal(t, statusOutcomeUnknown, f.status)
	require.Equal(t, 1, e.c1.Requests("rotateConnector"))
	require.False(t, e.alive(resp), "nobody got it, so it was ended")
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.Equal(t, target.OutcomeUndelivered, e.history("connectors/hr")[0]["outcome"])
}

// Vault re-sends a request that another one has superseded in the meantime.
func TestSameRequestAfterItWasSupersededDoesNotRotateAgain(t *testing.T) {
	t.Parallel()
	e, req := crash(t, "connectors/x", c1test.AfterCommit)
	e.vend("connector-creds/x")
	rotations := e.c1.Requests("rotateConnector")
	for range 2 {
		require.Equal(t, statusOutcomeUnknown, e.refusedRequest(context.Background(), req).status)
	}
	require.Equal(t, rotations, e.c1.Requests("rotateConnector"))
}

func TestSameRequestAfterADefiniteFailureMayRotate(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: 409, Times: 1})
	req := newRequest(logical.ReadOperation, "connector-creds/hr", nil)
	e.refusedRequest(context.Background(), req)
	resp, err := e.do(context.Background(), req)
	require.NoError(t, err)
	require.True(t, e.alive(resp))
}

func TestCallerWhoHangsUpLeavesNothingAlive(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ leaseEnd string }{{leaseEndRevoke}, {leaseEndKeep}} {
		t.Run(tc.leaseEnd, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			ref := e.bindConnector("hr", "on_lease_end", tc.leaseEnd)
			hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
			ctx, hangUp := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				_, err := e.do(ctx, newRequest(logical.ReadOperation, "connector-creds/hr", nil))
				done <- err
			}()
			<-hold.Arrived()
			hangUp()
			hold.Release()
			require.ErrorIs(t, <-done, context.Canceled)
			require.Equal(t, 1, e.c1.Changes("rotateConnector"), "hanging up does not stop the rotation")
			record := e.history("connectors/hr")[0]
			require.Equal(t, target.OutcomeUndelivered, record["outcome"])
			require.NotEmpty(t, record["ended_at"])
			require.Empty(t, e.c1.AliveCredentials(ref))
			require.Zero(t, e.read("connectors/hr").Data["live_leases"])
		})
	}
}

func TestUndeliveredCredentialIsEndedLaterWhenC1DoesNotAnswer(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	ref := e.bindConnector("hr")
	hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
	revoke := e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 500})
	ctx, hangUp := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.do(ctx, newRequest(logical.ReadOperation, "connector-creds/hr", nil))
	}()
	<-hold.Arrived()
	hangUp()
	hold.Release()
	<-done
	require.Len(t, e.c1.AliveCredentials(ref), 1)
	require.Equal(t, 1, e.read("status").Data["retiring"])
	revoke.Clear()
	e.after(3 * time.Minute)
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestUndeliveredDecoyNeedsNoEnd(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
	hold := e.c1.Hold("rotateDecoy", c1test.AfterCommit)
	ctx, hangUp := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.do(ctx, newRequest(logical.UpdateOperation, "decoy-creds/bait", nil))
	}()
	<-hold.Arrived()
	hangUp()
	hold.Release()
	<-done
	require.Equal(t, target.OutcomeUndelivered, e.history("decoys/bait")[0]["outcome"])
	require.Zero(t, e.read("decoys/bait").Data["live_leases"])
	require.Equal(t, 1, e.c1.Changes("rotateDecoy"))
}

func TestCallerWhoIsGoneBeforeItsTurnRotatesNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	held, err := e.b.takeTurn(context.Background(), connectorTarget(ref))
	require.NoError(t, err)
	ctx, hangUp := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := e.do(ctx, newRequest(logical.ReadOperation, "connector-creds/hr", nil))
		done <- err
	}()
	hangUp()
	require.ErrorIs(t, <-done, context.Canceled)
	held.release()
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

func TestNoTurnInTimeIsAskedToComeBack(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	e.b.lockWait = time.Millisecond
	held, err := e.b.takeTurn(context.Background(), connectorTarget(ref))
	require.NoError(t, err)
	defer held.release()
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusTooManyRequests, f.status)
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

// Storage fails at each write of a rotation in turn, once or for good.
func TestFailingStorageNeverLosesARotation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prefix   string
		skip     int // writes of that prefix to let through
		fails    int // how many then fail; -1 is all
		status   int // 0: the vend succeeds
		rotated  bool
		wantSeen string // state afterwards
	}{
		"due entry":                     {agenda.Prefix, 0, -1, 500, false, target.Ready},
		"attempt":                       {targetPrefix, 0, -1, 500, false, target.Ready},
		"attempt once":                  {targetPrefix, 0, 1, 500, false, target.Ready},
		"outcome once":                  {targetPrefix, 1, 1, 0, true, target.Ready},
		"outcome for good":              {targetPrefix, 1, -1, 409, true, target.Rotating},
		"fingerprint once":              {fingerprintPrefix, 0, 1, 0, true, target.Ready},
		"fingerprint for good":          {fingerprintPrefix, 0, -1, 409, true, target.Ready},
		"everything after the attempt":  {"", 2, -1, 409, true, target.Rotating},
		"everything but for one second": {"", 2, 2, 0, true, target.Ready},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			ref := e.bindConnector("hr")
			seen, failed := 0, 0
			e.storage.failWhen(func(op, key string) bool {
				if op != "put" || !strings.HasPrefix(key, tc.prefix) {
					return false
				}
				if seen++; seen <= tc.skip || (tc.fails >= 0 && failed >= tc.fails) {
					return false
				}
				failed++
				return true
			})
			resp, err := e.do(context.Background(), newRequest(logical.ReadOperation, "connector-creds/hr", nil))
			e.storage.failWhen(nil)
			require.Equal(t, tc.rotated, e.c1.Changes("rotateConnector") == 1)
			require.Equal(t, tc.wantSeen, e.read("connectors/hr").Data["state"])
			if tc.status == 0 {
				require.NoError(t, err)
				require.True(t, e.alive(resp))
				return
			}
			require.Error(t, err)
			require.Empty(t, e.c1.AliveCredentials(ref), "what could not be stored was ended")
			if tc.rotated && tc.wantSeen == target.Rotating {
				e.after(3 * time.Minute)
				require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"])
			}
			require.True(t, e.alive(e.vend("connector-creds/hr")), "the next read heals it")
			require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
		})
	}
}

func TestStoppingPluginRefusesNewRotations(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.b.Cleanup(context.Background())
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "stopping")
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

func TestStoppingPluginWaitsForARotationUnderWay(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
	vended := make(chan *logical.Response, 1)
	go func() { vended <- e.read("connector-creds/hr") }()
	<-hold.Arrived()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.b.Cleanup(context.Background())
	}()
	select {
	case <-stopped:
		t.Fatal("stopped while a rotation was under way")
	default:
	}
	hold.Release()
	require.True(t, e.alive(<-vended))
	<-stopped
}
