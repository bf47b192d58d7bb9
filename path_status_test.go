// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
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

func TestStatusOfAnEmptyMount(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := e.read("status").Data
	require.Equal(t, false, s["configured"])
	require.Equal(t, false, s["healthy"])
	require.Equal(t, testVersion, s["version"])
}

func TestStatusShowsTheConnection(t *testing.T) {
	t.Parallel()
	e := configured(t)
	require.Equal(t, "closed", e.read("status").Data["breaker"], "the write of the config has asked C1")
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	require.Equal(t, 1, e.c1.Requests(c1test.OpToken), "the token with which the config was verified is used")
	e.restart()
	require.Empty(t, e.read("status").Data["breaker"], "C1 was not called by this process yet")
	e.vend("connector-creds/hr")
	s := e.read("status").Data
	require.Equal(t, true, s["healthy"])
	require.Equal(t, "closed", s["breaker"])
	require.Equal(t, e.c1.URL(), s["tenant"])
	require.NotEmpty(t, s["last_success"])
	require.NotEmpty(t, s["token_expires_at"])
	require.EqualValues(t, 1, s["token_mints"])
	require.NotEmpty(t, s["watermark"])
}

func TestStatusListsABoundedNumberOfTargets(t *testing.T) {
	t.Parallel()
	e := configured(t)
	for i := range maxListed + 3 {
		tgt := &target.State{Ref: decoyTarget(fmt.Sprintf("d%03d", i)), Binding: "b", Attempt: &target.Attempt{Phase: target.Lost, Why: "lost"}}
		require.NoError(t, writeState(context.Background(), e.b.store, tgt))
	}
	s := e.read("status").Data
	require.Equal(t, maxListed+3, s["ambiguous"])
	require.Len(t, s["attention"], maxListed)
	require.NotEmpty(t, s["note"])
}

func TestStatusAndReadsFailWithTheirStorage(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	for _, path := range []string{"status", "connectors/hr", "connectors/hr/history", "config"} {
		e.restart() // or the answers are remembered
		e.storage.failWhen(func(op, _ string) bool { return op == "get" })
		require.Equal(t, 500, e.refused(logical.ReadOperation, path, nil).status, path)
		e.storage.failWhen(func(op, _ string) bool { return op == "list" })
		if path == "status" {
			require.Equal(t, 500, e.refused(logical.ReadOperation, path, nil).status, path)
		}
		e.storage.failWhen(nil)
		require.NotNil(t, e.read(path))
	}
}

func TestHelpIsThereForEveryPath(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, path := range []string{
		"", "config", "connectors/", "connectors/x", "connectors/x/history", "connector-creds/x",
		"decoys/", "decoys/x", "decoys/x/history", "decoy-creds/x", "lookup", "status", "metrics",
	} {
		resp, err := e.do(context.Background(), newRequest(logical.HelpOperation, path, nil))
		require.NoError(t, err, path)
		require.NotEmpty(t, resp.Data["help"], path)
	}
}

// The worker settles an attempt while status is being read: it is counted once
// all the same.
func TestStatusCountsAnAttemptThatIsSettledMeanwhile(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "connectors/x", c1test.AfterCommit)
	ref := connectorTarget(e.c1.Connector())
	e.clock.advance(2 * time.Minute)
	settled, name, disk := e.state(ref), e.keyOf(stateKey(ref)), e.disk()
	settled.Attempt = &target.Attempt{Phase: target.Lost, Why: "lost", CommitBy: settled.Attempt.CommitBy}
	e.storage.failWhen(func(op, key string) bool {
		if op == "list" && key == attentionPrefix+target.AttentionAmbiguous+"/" {
			// The state is stored, and its mark for attention is about to be.
			require.NoError(t, storedState.Write(context.Background(), disk, stateKey(ref), settled))
			e.b.InvalidateKey(context.Background(), name)
		}
		return false
	})
	for range 2 {
		status := e.read("status").Data
		require.Equal(t, 1, status["ambiguous"])
		require.Equal(t, 0, status["rotating"])
		require.Equal(t, false, status["healthy"])
		require.Len(t, status["attention"], 1)
	}
}

// Whoever settles an attempt stores the mark before the state: status that is read in
// between tells what the state says already.
func TestStatusTellsOfAnAttemptWhoseMarkIsAheadOfItsState(t *testing.T) {
	t.Parallel()
	e, _ := crash(t, "connectors/x", c1test.AfterCommit)
	ref := connectorTarget(e.c1.Connector())
	e.clock.advance(2 * time.Minute)
	name, err := nameOf(t.Context(), e.b.store, ref)
	require.NoError(t, err)
	turn, err := e.b.tryTurn(t.Context(), name)
	require.NoError(t, err)
	defer turn.release()
	require.NoError(t, e.b.store.Mark(t.Context(), markKey(target.AttentionAmbiguous, name)))
	require.Equal(t, target.Asking, e.state(ref).Attempt.Phase)
	for range 2 {
		status := e.read("status").Data
		require.Equal(t, 1, status["ambiguous"])
		require.Equal(t, false, status["healthy"])
		require.Len(t, status["attention"], 1)
	}
}

// Storage refuses a mark for attention, or the process dies there, and nothing
// else goes wrong: status never says that all is well.
func TestStatusIsNeverHealthyOverWhatCouldNotBeMarked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rotateOn, reason string
		fault            c1test.Fault
		dies             bool // with the first mark
	}{
		"ambiguous, leased":              {rotateOnRead, target.AttentionAmbiguous, c1test.Fault{DropAfter: true, Times: 1}, false},
		"ambiguous, leased, it dies":     {rotateOnRead, target.AttentionAmbiguous, c1test.Fault{DropAfter: true, Times: 1}, true},
		"failing, scheduled":             {rotateOnSchedule, target.AttentionFailing, c1test.Fault{Status: http.StatusNotFound}, false},
		"failing, scheduled, it dies":    {rotateOnSchedule, target.AttentionFailing, c1test.Fault{Status: http.StatusNotFound}, true},
		"failing, scheduled, unreadable": {rotateOnSchedule, target.AttentionFailing, c1test.Fault{Truncate: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			ref := e.c1.Connector()
			data := fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", tc.rotateOn)
			if tc.rotateOn == rotateOnSchedule {
				merge(data, "rotation_period", "1h")
			}
			e.must(logical.CreateOperation, "connectors/hr", data)
			tc.fault.Op = c1test.OpRotateConnector
			e.c1.AddFault(tc.fault)
			dead := false
			e.storage.failWhen(func(op, key string) bool {
				mark := op == "put" && strings.HasPrefix(key, attentionPrefix)
				dead = dead || mark && tc.dies
				return mark || dead
			})
			if tc.rotateOn == rotateOnRead {
				e.refused(logical.ReadOperation, "connector-creds/hr", nil)
			} else {
				e.clock.advance(time.Hour)
				_ = e.b.tick(t.Context())
			}
			e.storage.failWhen(nil)
			if tc.dies {
				e.restart()
			}
			told := false
			for range 6 {
				e.after(10 * time.Minute)
				status := e.read("status").Data
				require.Equal(t, false, status["healthy"], "%v", status)
				told = told || status[tc.reason] == 1
			}
			require.True(t, told)
			e.c1.ClearFaults()
			e.write("connector-creds/hr")
			require.Equal(t, true, e.read("status").Data["healthy"])
		})
	}
}

func TestStatusTellsOfAnAttemptWhoseSuccessorWasTakenBack(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.EqualValues(t, 1, e.read("status").Data[target.AttentionAmbiguous])
	// Half of the next attempt's round is stored: its state, and not what wakes us.
	e.storage.failWhen(func(op, key string) bool { return op == "put" && strings.HasPrefix(key, agenda.Prefix) })
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	e.storage.failWhen(nil)
	e.after(10 * time.Minute) // when the due entry of the older one is used up
	status := e.read("status").Data
	require.Equal(t, false, status["healthy"], "%v", status)
	require.EqualValues(t, 1, status[target.AttentionAmbiguous])
}

func TestReadyCountsBindingsThatAreThere(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("gone")
	lease := e.vend("connector-creds/gone").Secret
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRevokeConnectorCredential, Status: http.StatusForbidden})
	_, err := e.revoke(lease)
	require.NoError(t, err)
	require.Equal(t, 0, e.read("status").Data["ready"])
	e.must(logical.DeleteOperation, "connectors/gone", nil)
	e.bindDecoy("good", c1test.KindAccessToken)
	status := e.read("status").Data
	require.Equal(t, 1, status["retiring"], "it is told for as long as it lasts")
	require.Equal(t, 1, status["bindings"])
	require.Equal(t, 1, status["ready"], "the binding that is there is ready")
}

func TestOverdueCountsWhatWaits(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.configureStatic()
	e.bindMany(2)
	e.clock.advance(2 * time.Hour)
	for left := 1; left >= 0; left-- {
		due, _, err := e.b.agenda.Take(t.Context())
		require.NoError(t, err)
		require.Equal(t, left, e.read("status").Data["overdue"], "one less: it is being worked on")
		defer e.b.agenda.Settle(t.Context(), due)
	}
}
