// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// TestRecoveryCallerThatHangsUpLeavesNothingAlive: the rotation goes on without
// its caller, who then holds neither a credential nor a lease.
func TestRecoveryCallerThatHangsUpLeavesNothingAlive(t *testing.T) {
	t.Parallel()
	keep := map[string]any{"on_lease_end": "keep"}
	cases := []struct {
		name    string
		subject subject
		held    c1test.When
		extra   map[string]any
	}{
		{"before C1 acted", exclusiveConnector, c1test.BeforeCommit, nil},
		{"before C1 acted", overlappingConnector, c1test.BeforeCommit, nil},
		{"after C1 acted", exclusiveConnector, c1test.AfterCommit, nil},
		{"after C1 acted", overlappingConnector, c1test.AfterCommit, nil},
		{"although leases end with keep", overlappingConnector, c1test.AfterCommit, keep},
		{"before C1 acted", decoyWithFingerprint, c1test.BeforeCommit, nil},
		{"after C1 acted", decoyWithFingerprint, c1test.AfterCommit, nil},
	}
	server := startServer(t, vaulttest.Options{})
	var subjects []subject
	for _, c := range cases {
		subjects = append(subjects, c.subject)
	}
	sites := newSites(t, server, subjects)
	for i, s := range sites {
		c := cases[i]
		t.Run(c.name+"/"+s.name, func(t *testing.T) {
			if c.extra != nil {
				s.bind(c.extra)
			}
			ctx, hangUp := context.WithCancel(t.Context())
			u := s.vendAndHold(ctx, t, c.held, server.Root)
			hangUp()
			require.ErrorIs(t, u.wait(t), context.Canceled)
			s.untilVaultNoticed(t, 1)
			u.barrier.Release()

			var undelivered record
			vaulttest.Eventually(t, 10*time.Second, func() error {
				records := s.history(t)
				if len(records) != 1 || records[0].Outcome != "undelivered" {
					return fmt.Errorf("records: %+v", records)
				}
				undelivered = records[0]
				return nil
			})
			require.Equal(t, 1, s.committed())
			require.Empty(t, s.leases(t), "a lease for nobody")
			if !s.isDecoy() { // bait that nobody holds harms nobody
				require.NotEmpty(t, undelivered.EndedAt)
				require.Empty(t, s.c1.AliveCredentials(s.connector), "what the caller never got is alive")
				require.Equal(t, 1, s.c1.Changes(c1test.OpRevokeConnectorCredential))
			}
			require.Zero(t, s.mustHealth(t).LiveLeases)

			next := s.mustVend(t)
			s.requireHealthy(t, next)
			require.Equal(t, []string{"issued", "undelivered"}, s.outcomes(t))
		})
	}
}

// untilVaultNoticed waits until Vault has given n requests to vend up, so that
// what C1 answers from then on comes too late.
func (s *site) untilVaultNoticed(t testing.TB, n int) {
	t.Helper()
	untilAudited(t, s.server, n, `"type":"response"`, `"path":"`+s.credsPath()+`"`, `"error":"`)
}

// TestRecoveryCallerThatHangsUpBeforeItsTurnRotatesNothing: it waited for
// another caller's rotation of the same target.
func TestRecoveryCallerThatHangsUpBeforeItsTurnRotatesNothing(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	for _, s := range newSites(t, server, []subject{exclusiveConnector, decoyWithFingerprint}) {
		t.Run(s.name, func(t *testing.T) {
			holder := s.vendAndHold(t.Context(), t, c1test.BeforeCommit, server.Root)
			ctx, hangUp := context.WithCancel(t.Context())
			waiter := make(chan error, 1)
			go func() {
				_, err := s.vend(ctx)
				waiter <- err
			}()
			// Vault has passed the second request on once it is in the audit log.
			untilAudited(t, server, 2, `"type":"request"`, `"path":"`+s.credsPath()+`"`)
			hangUp()
			require.ErrorIs(t, <-waiter, context.Canceled)
			s.untilVaultNoticed(t, 1)
			holder.barrier.Release()
			require.NoError(t, holder.wait(t))

			s.requireHealthy(t, holder.got)
			require.Equal(t, []string{"issued"}, s.outcomes(t))
			require.Equal(t, 1, s.asked())
			require.Len(t, s.leases(t), 1)
		})
	}
}

// TestRecoveryCallerThatHangsUpWhileC1GoesDown: the credential that nobody got
// cannot be ended yet, and is not forgotten.
func TestRecoveryCallerThatHangsUpWhileC1GoesDown(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	for _, s := range newSites(t, server, []subject{overlappingConnector}) {
		revoking := s.c1.AddFault(c1test.Fault{Op: c1test.OpRevokeConnectorCredential, Status: 500})
		ctx, hangUp := context.WithCancel(t.Context())
		u := s.vendAndHold(ctx, t, c1test.AfterCommit, server.Root)
		hangUp()
		require.ErrorIs(t, u.wait(t), context.Canceled)
		s.untilVaultNoticed(t, 1)
		u.barrier.Release()
		vaulttest.Eventually(t, 15*time.Second, func() error {
			if h := s.mustHealth(t); h.Retiring != 1 || h.Healthy {
				return fmt.Errorf("retiring %d, healthy %t", h.Retiring, h.Healthy)
			}
			return nil
		})
		require.Len(t, s.c1.AliveCredentials(s.connector), 1)
		require.Empty(t, s.leases(t))

		revoking.Clear()
		eventuallyWithin(t, retried, func() error { return s.nothingAlive(t) })
		require.Equal(t, []string{"undelivered"}, s.outcomes(t))
	}
}
