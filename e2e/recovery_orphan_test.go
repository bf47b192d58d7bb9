// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	orphanTTL = 20 * time.Second
	// orphaned is how long an orphan may live: its lease's maximum, the minute
	// that an ordinary lease is given to be revoked, the rest of a minute, and
	// a margin.
	orphaned = orphanTTL + 2*time.Minute + 15*time.Second
)

// TestRecoveryVaultKilledBetweenAnswerAndLease: the engine has answered, and
// Vault dies before it has stored the lease. The exact moment cannot be hit, so
// the lease is taken out of Vault's storage just before the death.
func TestRecoveryVaultKilledBetweenAnswerAndLease(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{Storage: vaulttest.Raft})
	allowRawStorage(t, server)
	cases := []struct {
		subject subject
		atEnd   string
	}{
		{exclusiveConnector, "revoke"},
		{overlappingConnector, "revoke"},
		{overlappingConnector, "keep"},
		{decoyWithFingerprint, "rotate"},
		{decoyWithFingerprint, "keep"},
	}
	var subjects []subject
	for _, c := range cases {
		subjects = append(subjects, c.subject)
	}
	sites := newSites(t, server, subjects)
	vends := make([]vended, len(sites))
	for i, s := range sites {
		s.bind(map[string]any{"ttl": orphanTTL.String(), "max_ttl": orphanTTL.String(), "on_lease_end": cases[i].atEnd})
	}
	for i, s := range sites {
		vends[i] = s.mustVend(t)
		_, err := server.Root.Logical().DeleteWithContext(t.Context(), "sys/raw/sys/expire/id/"+vends[i].LeaseID)
		require.NoError(t, err)
	}
	server.Kill()
	server.Restart()
	for i, s := range sites {
		require.Empty(t, s.leases(t), "the lease was to be lost")
		records := s.history(t)
		require.Len(t, records, 1)
		require.Equal(t, "issued", records[0].Outcome)
		require.Equal(t, cases[i].atEnd == "keep", records[0].EndsAt == "", "planned end: %q", records[0].EndsAt)
		s.requireHealthy(t, vends[i])
	}
	for i, s := range sites {
		if cases[i].atEnd == "keep" {
			continue // looked at when the others have ended
		}
		t.Run(s.name+", "+cases[i].atEnd, func(t *testing.T) {
			eventuallyWithin(t, orphaned, func() error {
				if s.alive(vends[i]) {
					return fmt.Errorf("the orphan is alive")
				}
				if h := s.mustHealth(t); !h.Healthy || h.LiveLeases != 0 {
					return fmt.Errorf("healthy %t, live leases %d", h.Healthy, h.LiveLeases)
				}
				return nil
			})
			records := s.history(t)
			issued := records[len(records)-1]
			require.Equal(t, "issued", issued.Outcome)
			require.NotEmpty(t, issued.EndedAt)
			require.LessOrEqual(t, issued.EndsAt, issued.EndedAt, "it was ended before its lease could have ended")
		})
	}
	for i, s := range sites {
		if cases[i].atEnd == "keep" {
			t.Run(s.name+", keep", func(t *testing.T) { s.requireHealthy(t, vends[i]) })
		}
	}
}

// allowRawStorage restarts the server with the endpoint that reads and writes
// its storage.
func allowRawStorage(t *testing.T, server *vaulttest.Server) {
	t.Helper()
	server.Stop()
	server.AppendConfig("raw_storage_endpoint = true")
	server.Restart()
}

// TestRecoveryVaultKilledWhileAnswersAreUnderWay: many rotations are
// between C1 and their callers when Vault dies, each at some other point.
func TestRecoveryVaultKilledWhileAnswersAreUnderWay(t *testing.T) {
	t.Parallel()
	const (
		perRound = 16
		mount    = "c1"
	)
	server := startServer(t, vaulttest.Options{Storage: vaulttest.Raft})
	c1 := server.Emulator(c1test.Options{}).Default() // overlapping: nothing dies by itself
	server.Mount(mount)
	server.Configure(mount, c1, nil)

	type flight struct {
		*site
		answered bool
	}
	var flights []*flight
	// Where these moments fall depends on the machine; what must hold does not.
	for round, moment := range []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
		var held []*flight
		barrier := c1.HoldNext(c1test.OpRotateConnector, "", c1test.AfterCommit, perRound)
		answers := make(chan *flight, perRound)
		for i := range perRound {
			f := &flight{site: &site{
				subject: overlappingConnector, server: server, c1: c1, mount: mount, connector: c1.NewConnector("one of many"),
				binding: fmt.Sprintf("app-%d-%d", round, i),
			}}
			f.bind(map[string]any{"ttl": orphanTTL.String(), "max_ttl": orphanTTL.String()})
			held = append(held, f)
			go func() {
				_, err := f.vend(t.Context())
				f.answered = err == nil
				answers <- f
			}()
		}
		select {
		case <-barrier.Arrived():
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d of %d rotations reached C1", barrier.Held(), perRound)
		}
		barrier.Release()
		<-time.After(moment)
		server.Kill()
		for range perRound {
			<-answers
		}
		server.Restart()
		flights = append(flights, held...)

		var leases []string
		for _, f := range held {
			leases = append(leases, f.leases(t)...)
			if f.answered {
				require.NotEmpty(t, f.leases(t), "%s was answered without a lease", f.binding)
			}
		}
		t.Logf("killed after %s: %d leases of %d rotations", moment, len(leases), perRound)
	}

	var lost []*flight
	issued := map[*flight]vended{}
	for _, f := range flights {
		records := f.history(t)
		if len(records) == 0 { // the outcome was not stored
			require.NotEqual(t, "ready", f.mustHealth(t).State, "%s looks healthy and has lost a credential", f.binding)
			lost = append(lost, f)
			continue
		}
		require.Equal(t, "issued", records[0].Outcome)
		require.NotEmpty(t, records[0].EndsAt)
		issued[f] = vended{CredentialID: records[0].CredentialID}
	}
	t.Logf("%d were issued, %d are open", len(issued), len(lost))

	eventuallyWithin(t, orphaned, func() error {
		for f, v := range issued {
			if f.alive(v) {
				return fmt.Errorf("%s: what was issued is alive after its lease", f.binding)
			}
		}
		return nil
	})
	for _, f := range lost {
		untilSettled(t, func() error { return settledAs(f.mustHealth(t), "ambiguous") })
	}
	require.Equal(t, len(flights), c1.Changes(c1test.OpRotateConnector), "something rotated because a process started")
}
