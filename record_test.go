// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// hangUp reads a path and gives up once C1 has the request.
func (e *engine) hangUp(path string) {
	e.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	held := e.c1.HoldNext(c1test.OpRotateConnector, "", c1test.BeforeCommit, 1)
	done := make(chan error, 1)
	go func() {
		_, err := e.do(ctx, newRequest(logical.ReadOperation, path, nil))
		done <- err
	}()
	<-held.Arrived()
	cancel()
	held.Release()
	require.ErrorIs(e, <-done, context.Canceled)
}

func TestCallersWhoHangUpPushOutNothingThatWasIssued(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	issued := e.vend("connector-creds/hr").Data
	for range defaultHistoryLimit + 1 {
		e.hangUp("connector-creds/hr")
	}
	e.b.work.Wait()
	require.Equal(t, 1, e.lookUp("fingerprint_sha256", issued["fingerprint_sha256"])["version"])
	require.Equal(t, 1, e.lookUp("client_id", issued["client_id"])["version"])
	records := e.history("connectors/hr")
	require.Len(t, records, 2, "the same again is counted")
	require.Equal(t, target.OutcomeUndelivered, records[0]["outcome"])
	require.Equal(t, defaultHistoryLimit, records[0]["repeats"])
	require.Len(t, e.c1.AliveCredentials(e.c1.Connector()), 1, "each of them was ended")
}

func TestACallerWhoHangsUpIsHeldToCooldownWhileSomebodyHoldsALiveCredential(t *testing.T) {
	t.Parallel()
	for semantics, status := range map[c1test.Semantics]int{c1test.Overlapping: http.StatusTooManyRequests, c1test.Exclusive: 0} {
		e := configured(t)
		e.c1.SetSemantics(semantics)
		e.bindConnector("hr", "cooldown", "1h")
		held := e.vend("connector-creds/hr")
		e.clock.advance(2 * time.Hour)
		e.hangUp("connector-creds/hr")
		if status == 0 {
			require.False(t, e.alive(held))
			require.True(t, e.alive(e.vend("connector-creds/hr")), "nobody holds anything, so nobody waits")
			continue
		}
		require.True(t, e.alive(held))
		require.Equal(t, status, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
		require.True(t, e.alive(held))
	}
}

func TestAHistoryShowsItsOwnBindingsRecords(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("first", "on_lease_end", leaseEndKeep)
	theirs := e.vend("connector-creds/first").Data
	e.must(logical.DeleteOperation, "connectors/first", nil)
	e.bindConnector("second")
	require.Empty(t, e.history("connectors/second"))
	shown := e.read("connectors/second").Data
	require.Empty(t, shown["credential_id"])
	require.Empty(t, shown["fingerprint_sha256"])
	require.Empty(t, shown["last_rotation"])
	require.Equal(t, 0, shown["live_leases"])
	e.vend("connector-creds/second")
	records := e.history("connectors/second")
	require.Len(t, records, 1)
	require.Equal(t, "second", records[0]["binding"])
	require.Equal(t, "first", e.lookUp("fingerprint_sha256", theirs["fingerprint_sha256"])["binding"], "lookup finds it all the same")
	require.NotContains(t, fmt.Sprint(records), theirs["credential_id"])
}

func TestLeaseTimesComeFromTheEnginesClock(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "ttl", "10m", "max_ttl", "1h")
	e.clock.advance(5 * time.Hour)
	lease := e.vend("connector-creds/hr").Secret
	ends := instant(t, lease.InternalData["expires_at"])
	require.WithinDuration(t, e.clock.now().Add(10*time.Minute), ends, time.Minute)
	require.WithinDuration(t, e.clock.now().Add(time.Hour+retireSlack), e.state(connectorTarget(ref)).Retire[0].At, time.Minute)
}
