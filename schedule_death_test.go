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

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// dieAfter lets n more changes of storage through; then the process is dead.
func (e *engine) dieAfter(n int) {
	e.storage.failWhen(func(op, _ string) bool {
		if op == "put" || op == "delete" {
			n--
		}
		return n < 0
	})
}

// Whatever a write or delete of a binding dies between, the state heals to what
// the binding says, and writing it again works.
func TestWritingABindingMayDieAnywhere(t *testing.T) {
	t.Parallel()
	scheduled := fields("rotate_on", "schedule", "rotation_period", "1h")
	leased := fields("rotate_on", "read")
	for name, tc := range map[string]struct {
		before map[string]any
		op     logical.Operation
		write  map[string]any
	}{
		"create scheduled":      {nil, logical.UpdateOperation, scheduled},
		"switch to schedule":    {leased, logical.UpdateOperation, scheduled},
		"switch from schedule":  {scheduled, logical.UpdateOperation, leased},
		"change the period":     {scheduled, logical.UpdateOperation, fields("rotate_on", "schedule", "rotation_period", "2h")},
		"delete scheduled":      {scheduled, logical.DeleteOperation, nil},
		"delete and end at C1":  {scheduled, logical.DeleteOperation, fields("revoke", true)},
		"delete leased":         {leased, logical.DeleteOperation, nil},
		"create leased, ticked": {nil, logical.UpdateOperation, leased},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for changes := range 14 {
				e := configured(t)
				ref := e.c1.Connector()
				data := func(m map[string]any) map[string]any {
					return merge(fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "verify", false), flat(m)...)
				}
				if tc.before != nil {
					e.must(logical.CreateOperation, "connectors/hr", data(tc.before))
					if tc.before["rotate_on"] == "read" {
						e.vend("connector-creds/hr")
					}
				}
				e.dieAfter(changes)
				body := tc.write
				if tc.op != logical.DeleteOperation {
					body = data(tc.write)
				}
				_, _ = e.do(context.Background(), newRequest(tc.op, "connectors/hr", body))
				e.storage.failWhen(nil)
				e.restart()
				e.after(3 * time.Hour)
				e.after(3 * time.Hour)

				rotated := e.c1.Requests("rotateConnector")
				bind, err := readBinding(context.Background(), e.disk(), target.Connector, "hr")
				require.NoError(t, err)
				state, err := readState(context.Background(), e.disk(), connectorTarget(ref))
				require.NoError(t, err)
				if state != nil {
					require.Equal(t, bind != nil && bind.scheduled(), state.Scheduled, "after %d changes", changes)
				}
				if bind != nil && bind.scheduled() {
					require.True(t, e.alive(e.stored("connector-creds/hr")), "after %d changes", changes)
				} else {
					if state != nil && state.Current != nil {
						require.Nil(t, state.Current.Material, "after %d changes a secret stays behind", changes)
					}
					e.after(3 * time.Hour)
					require.Equal(t, rotated, e.c1.Requests("rotateConnector"), "after %d changes the clock rotates what is not scheduled", changes)
				}
				e.must(logical.UpdateOperation, "connectors/hr", data(scheduled))
				require.True(t, e.alive(e.stored("connector-creds/hr")))
			}
		})
	}
}

func flat(m map[string]any) []any {
	var pairs []any
	for k, v := range m {
		pairs = append(pairs, k, v)
	}
	return pairs
}

// Vault sends a request again when a plugin died. If the rotation is stored, its
// material is the answer; nothing rotates twice.
func TestResentRotationIsAnsweredWithWhatItStored(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	req := newRequest(logical.UpdateOperation, "connector-creds/hr", nil)
	first, err := e.do(context.Background(), req)
	require.NoError(t, err)
	e.restart()
	again, err := e.do(context.Background(), req)
	require.NoError(t, err)
	require.Equal(t, first.Data["client_secret"], again.Data["client_secret"])
	require.Equal(t, 2, e.c1.Requests("rotateConnector"))

	e.write("connectors/hr/rotate")
	f := e.refusedRequest(context.Background(), req)
	require.Equal(t, statusOutcomeUnknown, f.status, "what it stored has been replaced since")
	require.Equal(t, 3, e.c1.Requests("rotateConnector"))
}

func TestCallerWhoHangsUpLeavesScheduledMaterialStored(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
	ctx, hangUp := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := e.do(ctx, newRequest(logical.UpdateOperation, "connector-creds/hr", nil))
		done <- err
	}()
	<-hold.Arrived()
	hangUp()
	require.ErrorIs(t, <-done, context.Canceled)
	hold.Release()
	require.True(t, e.b.work.Drain(10*time.Second))
	resp := e.stored("connector-creds/hr")
	require.Equal(t, 2, resp.Data["version"])
	require.True(t, e.alive(resp))
	require.Equal(t, target.OutcomeStored, e.history("connectors/hr")[0]["outcome"])
}

func TestRotationUnderWayIsToldToReaders(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	hold := e.c1.Hold("rotateConnector", c1test.AfterCommit)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = e.do(context.Background(), newRequest(logical.UpdateOperation, "connectors/hr/rotate", nil))
	}()
	<-hold.Arrived()
	resp := e.stored("connector-creds/hr")
	require.Contains(t, resp.Warnings[0], "a rotation is under way")
	require.LessOrEqual(t, resp.Data["ttl"], int64(30))
	require.Equal(t, 1, resp.Data["version"])
	require.Equal(t, target.Rotating, e.read("connectors/hr").Data["state"])
	hold.Release()
	<-done
}

func TestStrayMarkForAttentionIsDropped(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := connectorTarget(e.scheduled("hr"))
	key := attentionPrefix + target.AttentionFailing + "/" + e.nameOf(ref)
	require.NoError(t, e.storage.Put(context.Background(), &logical.StorageEntry{Key: key}))
	status := e.read("status").Data
	require.Equal(t, 0, status["failing"])
	require.Equal(t, true, status["healthy"])
	entry, err := e.storage.Get(context.Background(), key)
	require.NoError(t, err)
	require.Nil(t, entry)
}

func TestDisabledMountNamesWhatScheduledReadersStillHold(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr", "grace_period", "1h")
	e.write("connectors/hr/rotate")
	id := e.state(connectorTarget(ref)).Current.CredentialID
	e.system.taint()
	e.b.Cleanup(context.Background())
	require.Len(t, e.c1.AliveCredentials(ref), 1, "the previous one is ended")
	var line string
	for l := range strings.Lines(e.logs.String()) {
		if strings.Contains(l, "stays alive at C1") {
			line = l
		}
	}
	require.Contains(t, line, id)
}

func TestTooManyCredentialsInTheirGraceAreRefusedBeforeC1IsAsked(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "rotate_on", "schedule", "grace_period", "720h")
	state := e.state(connectorTarget(ref))
	for len(state.Retire) < target.MaxPendingRetirements {
		state.Retire = append(state.Retire, target.Retirement{Version: -len(state.Retire), At: e.clock.now().Add(time.Hour)})
	}
	require.NoError(t, writeState(context.Background(), e.b.store, state))
	requests := e.c1.Requests("rotateConnector")
	f := e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
	require.Equal(t, http.StatusTooManyRequests, f.status)
	require.Contains(t, f.message, "shorten grace_period")
	e.write("connectors/hr", "rotation_period", 86400*40)
	require.Equal(t, requests, e.c1.Requests("rotateConnector"))
}

func TestMissingPointerIsPutBack(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	fingerprint := e.vend("connector-creds/hr").Data["fingerprint_sha256"].(string)
	require.NoError(t, e.b.store.Remove(context.Background(), fingerprintKey(fingerprint)))
	require.Equal(t, http.StatusNotFound, e.refused(logical.UpdateOperation, "lookup", fields("fingerprint_sha256", fingerprint)).status)
	e.after(2 * time.Minute)
	require.Equal(t, "hr", e.write("lookup", "fingerprint_sha256", fingerprint).Data["binding"])
}

func TestInitialRotationIsCaughtUpSoonAfterADeath(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.c1.Connector()
	e.dieAfter(3) // when to look, the state, the binding
	_, err := e.do(context.Background(), newRequest(logical.CreateOperation, "connectors/hr",
		fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "schedule", "rotation_period", "720h")))
	require.Error(t, err)
	e.storage.failWhen(nil)
	e.restart()
	require.Equal(t, target.Pending, e.read("connectors/hr").Data["state"])
	e.after(2*defaultRequestTimeout + time.Second)
	require.True(t, e.alive(e.stored("connector-creds/hr")))
}

func TestAClockThatWasAheadForAMomentStopsNoSchedule(t *testing.T) {
	t.Parallel()
	for name, sched := range map[string][]any{
		"a period":    {"rotation_period", "1h"},
		"a cron line": {"rotation_period", 0, "rotation_schedule", "0 * * * *"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			ref := e.scheduled("hr", sched...)
			e.clock.advance(365 * 24 * time.Hour)
			e.write("connectors/hr/rotate") // plans from a time that is not
			e.clock.advance(-365 * 24 * time.Hour)
			require.Greater(t, time.Until(e.state(connectorTarget(ref)).NextRotation), 300*24*time.Hour)
			for range 3 {
				require.LessOrEqual(t, e.stored("connector-creds/hr").Data["ttl"], int64(3600), "readers come back within a period")
				e.after(time.Hour)
			}
			require.GreaterOrEqual(t, e.c1.Changes(c1test.OpRotateConnector), 4)
			require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
			require.LessOrEqual(t, e.state(connectorTarget(ref)).NextRotation.Sub(e.clock.now()), time.Hour)
		})
	}
}
