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
	// retried is how long the first new try to end a credential may take: a
	// minute and a quarter, the rest of a minute, and a margin.
	retried = 75*time.Second + time.Minute + 15*time.Second

	// longOutage is over after the first new try has failed, and retriedAgain is
	// how long the second may take from then on.
	longOutage   = retried
	retriedAgain = 150*time.Second + time.Minute + 15*time.Second
)

// down takes C1 away in one of several ways and returns how to bring it back.
type down struct {
	name string
	take func(*site) (bringBack func())
}

var (
	portClosed = down{"port closed", func(s *site) func() {
		s.c1.SetDown(true)
		return func() { s.c1.SetDown(false) }
	}}
	answers500 = down{"answers 500", func(s *site) func() {
		return s.c1.AddFault(c1test.Fault{Status: 500}).Clear
	}}
	answersPage = down{"a proxy's 404", func(s *site) func() {
		return s.c1.AddFault(c1test.Fault{Status: 404, Body: "<html>no such site</html>"}).Clear
	}}
	answersNothing = down{"answers nothing", func(s *site) func() {
		return s.c1.AddFault(c1test.Fault{Delay: 3 * requestTimeout, DropBefore: true}).Clear
	}}
)

type outage struct {
	subject
	down
	byExpiry bool // the lease runs out, instead of being revoked
}

// TestRecoveryRevokeWhileC1IsDownIsCaughtUp: the lease ends, the credential
// follows when C1 is back, and nobody has to do anything.
func TestRecoveryRevokeWhileC1IsDownIsCaughtUp(t *testing.T) {
	t.Parallel()
	const byExpiry = true
	surviveOutage(t, []outage{
		{exclusiveConnector, portClosed, !byExpiry},
		{overlappingConnector, portClosed, !byExpiry},
		{overlappingConnector, portClosed, byExpiry},
		{overlappingConnector, answers500, !byExpiry},
		{overlappingConnector, answersPage, !byExpiry},
		{overlappingConnector, answersNothing, !byExpiry},
		{decoyWithFingerprint, portClosed, !byExpiry},
		{decoyWithFingerprint, answers500, byExpiry},
	}, 0, retried)
}

// TestRecoveryC1DownForLongerThanVaultKeepsTrying: Vault tries six times over 5
// to 15 minutes, and then calls the lease irrevocable. Here its first try is its
// last, so C1 may be away for as long as it likes; the engine's own tries have
// failed by the time C1 is back.
func TestRecoveryC1DownForLongerThanVaultKeepsTrying(t *testing.T) {
	t.Parallel()
	const byExpiry = true
	surviveOutage(t, []outage{
		{exclusiveConnector, portClosed, byExpiry},
		{overlappingConnector, portClosed, byExpiry},
		{overlappingConnector, portClosed, !byExpiry},
		{decoyWithFingerprint, portClosed, byExpiry},
	}, longOutage, retriedAgain)
}

func surviveOutage(t *testing.T, cases []outage, length, healing time.Duration) {
	server := startServer(t, vaulttest.Options{})
	var subjects []subject
	for _, c := range cases {
		subjects = append(subjects, c.subject)
	}
	sites := newSites(t, server, subjects)
	vends := make([]vended, len(sites))
	bringBack := make([]func(), len(sites))
	for i, s := range sites {
		c := cases[i]
		t.Run(c.name()+", C1 goes away", func(t *testing.T) {
			s.bind(c.fields())
			vends[i] = s.mustVend(t)
			bringBack[i] = c.take(s)
			if !c.byExpiry {
				require.NoError(t, server.Root.Sys().Revoke(vends[i].LeaseID), "Vault would try again, and give the lease up in the end")
			}
			vaulttest.Eventually(t, 30*time.Second, func() error {
				if leases := s.leases(t); len(leases) != 0 {
					return fmt.Errorf("the lease has not ended")
				}
				return nil
			})
			require.True(t, s.alive(vends[i]), "C1 was down")
			h := s.mustHealth(t)
			require.False(t, h.Healthy)
			require.Equal(t, 1, h.Retiring)
			require.Len(t, h.Attention, 1)
			require.Equal(t, "retiring", h.Attention[0].Reason)
			require.Contains(t, h.Attention[0].Detail, "1 credential(s) could not be ended yet")
			require.Equal(t, 1, h.LiveLeases)
		})
	}
	if t.Failed() {
		return
	}
	back := time.Now().Add(length)
	eventuallyWithin(t, length+time.Minute, func() error {
		if wait := time.Until(back); wait > 0 {
			return fmt.Errorf("%s left", wait)
		}
		return nil
	})
	for i, s := range sites {
		require.True(t, s.alive(vends[i]))
		require.Equal(t, 1, s.mustHealth(t).Retiring)
		bringBack[i]()
	}
	for i, s := range sites {
		t.Run(cases[i].name()+", C1 is back", func(t *testing.T) {
			eventuallyWithin(t, healing, func() error {
				if s.alive(vends[i]) {
					return fmt.Errorf("what the lease stood for is alive at C1")
				}
				if h := s.mustHealth(t); !h.Healthy || h.Retiring != 0 || h.State != "ready" {
					return fmt.Errorf("healthy %t, retiring %d, state %s", h.Healthy, h.Retiring, h.State)
				}
				return nil
			})
			records := s.history(t)
			ended := records[len(records)-1]
			require.Equal(t, vends[i].Version, ended.Version)
			require.NotEmpty(t, ended.EndedAt)
			require.Zero(t, s.mustHealth(t).LiveLeases)
			if s.isDecoy() {
				require.Equal(t, []string{"discarded", "issued"}, s.outcomes(t), "the copy goes dead by one rotation")
				require.Equal(t, 2, s.committed())
			} else {
				require.NoError(t, s.nothingAlive(t))
				require.Equal(t, 1, s.committed())
			}
		})
	}
	t.Run("nothing is irrevocable", func(t *testing.T) {
		secret, err := server.Root.Logical().ReadWithDataWithContext(t.Context(), "sys/leases/count", map[string][]string{"type": {"irrevocable"}})
		require.NoError(t, err)
		require.Equal(t, 0, number(secret.Data["lease_count"]), "%v", secret.Data)
		require.NotContains(t, server.ServerLog(), "failed to revoke lease", "Vault had to try again")
	})
}

func (c outage) name() string {
	how := "revoked"
	if c.byExpiry {
		how = "run out"
	}
	return c.subject.name + ", lease " + how + ", " + c.down.name
}

// fields shape the binding: decoys keep their copies alive unless told.
func (c outage) fields() map[string]any {
	fields := map[string]any{}
	if c.decoy != "" {
		fields["on_lease_end"] = "rotate"
	}
	if c.byExpiry {
		fields["ttl"], fields["max_ttl"] = "3s", "3s"
	}
	return fields
}

// nothingAlive reports a connector's credentials that are good at C1.
func (s *site) nothingAlive(t testing.TB) error {
	t.Helper()
	if n := len(s.c1.AliveCredentials(s.connector)); n > 0 {
		return fmt.Errorf("%d credentials are alive", n)
	}
	return nil
}
