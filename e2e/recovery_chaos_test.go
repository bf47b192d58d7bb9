// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// TestRecoveryManyPluginDeathsUnderLoad: whatever a reader was given, C1 did and
// the engine stored must agree when the plugin died thirty times meanwhile.
func TestRecoveryManyPluginDeathsUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		deaths  = 30
		readers = 4
	)
	server := startServer(t, vaulttest.Options{})
	sites := newSites(t, server, []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint, exclusiveConnector})
	asked := func() (n int) {
		for _, s := range sites {
			n += s.asked()
		}
		return n
	}

	load, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		given = map[*site][]vended{}
	)
	for _, s := range sites {
		group.Go(func() { slowly(load, s) })
	}
	for reader := range readers {
		client := ordinaryClient(t, server)
		group.Go(func() {
			for i := reader; load.Err() == nil; i++ {
				s := sites[i%len(sites)]
				v, err := s.vendWith(t.Context(), client)
				if err == nil {
					mu.Lock()
					given[s] = append(given[s], v)
					mu.Unlock()
				}
			}
		})
	}
	for range deaths {
		// At any point of any rotation, but not before some have been through.
		next := asked() + 1 + rand.IntN(8)
		for deadline := time.Now().Add(time.Minute); asked() < next; {
			require.True(t, time.Now().Before(deadline), "C1 is asked no more")
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		if len(server.PluginPIDs()) > 0 {
			server.KillPlugin(t)
		}
	}
	stop()
	group.Wait()
	for _, s := range sites {
		s.c1.ClearFaults()
	}

	for i, s := range sites {
		t.Run(fmt.Sprintf("%s %d", s.name, i), func(t *testing.T) {
			// A request that was overtaken shows when it is looked for once more.
			eventuallyWithin(t, settled+15*time.Second, func() error {
				h := s.mustHealth(t)
				if h.Rotating > 0 {
					return fmt.Errorf("state %s", h.State)
				}
				return s.tellsTheTruth(t, h)
			})
			t.Logf("%d given, %d rotations, %v", len(given[s]), s.committed(), count(s.outcomes(t)))
			require.NotEmpty(t, given[s], "nobody was given anything: there was no load")
			s.agreesWithJournal(t, given[s])

			last := s.mustVend(t)
			given[s] = append(given[s], last)
			s.requireHealthy(t, last)
			s.agreesWithJournal(t, given[s])

			require.NoError(t, server.Root.Sys().RevokePrefix(s.credsPath()))
			if !s.isDecoy() {
				for _, v := range given[s] {
					require.False(t, s.alive(v), "version %d outlived its lease", v.Version)
				}
			}
			s.agreesWithJournal(t, nil)
		})
	}
}

// slowly makes C1 answer rotations late, later and at once, until the context
// ends, so that one request may overtake another.
func slowly(ctx context.Context, s *site) {
	for ctx.Err() == nil {
		delay := time.Duration(max(0, rand.IntN(300)-100)) * time.Millisecond
		h := s.c1.AddFault(c1test.Fault{Op: s.rotateOp(), Delay: delay})
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		h.Clear()
	}
}

func count(outcomes []string) map[string]int {
	counts := map[string]int{}
	for _, o := range outcomes {
		counts[o]++
	}
	return counts
}

// tellsTheTruth reports a binding that looks healthy and holds a dead
// credential, or one whose trouble status does not show.
func (s *site) tellsTheTruth(t testing.TB, h health) error {
	t.Helper()
	if h.State != "ready" {
		if h.Healthy {
			return fmt.Errorf("the binding is %s, and status is healthy", h.State)
		}
		return nil
	}
	current := slices.IndexFunc(s.history(t), func(r record) bool { return r.Version == h.Version })
	if current < 0 {
		return fmt.Errorf("there is no record of version %d", h.Version)
	}
	r := s.history(t)[current]
	if r.Outcome == "issued" && r.EndedAt == "" && !s.alive(vended{CredentialID: r.CredentialID, Fingerprint: r.Fingerprint}) {
		return fmt.Errorf("the binding looks healthy, and version %d is dead at C1", h.Version)
	}
	return nil
}

// agreesWithJournal says that every rotation which C1 carried out is on record,
// or one of those whose outcome is said to be unknown, and that whatever was
// given to a reader is on record as that.
func (s *site) agreesWithJournal(t testing.TB, given []vended) {
	t.Helper()
	records := s.history(t)
	byFingerprint := map[string]record{}
	unknown := 0
	if state := s.mustHealth(t).State; state == "rotating" || state == "ambiguous" {
		unknown++ // the open attempt's
	}
	for _, r := range records {
		switch r.Outcome {
		case "issued", "undelivered", "discarded":
			require.NotEmpty(t, r.Fingerprint)
			require.NotContains(t, byFingerprint, r.Fingerprint)
			byFingerprint[r.Fingerprint] = r
		case "superseded":
			unknown++
		}
	}
	noRequestRotatedTwice(t, s)

	lost := 0
	for _, entry := range s.c1.Journal() {
		if entry.Op != s.rotateOp() || entry.Object != s.connector.ConnectorID && entry.Object != s.decoyID {
			continue
		}
		if _, onRecord := byFingerprint[entry.Fingerprint]; !onRecord {
			lost++
		}
	}
	require.LessOrEqual(t, lost, unknown, "C1 rotated more often than is on record or said to be unknown")

	for _, c := range s.c1.AliveCredentials(s.connector) {
		if r, onRecord := byFingerprint[c.Fingerprint]; onRecord {
			require.Equal(t, "issued", r.Outcome, "version %d is alive", r.Version)
			require.Empty(t, r.EndedAt, "version %d is alive", r.Version)
			require.NotEmpty(t, r.EndsAt, "nobody will ever end version %d", r.Version)
		}
	}
	for _, v := range given {
		r, onRecord := byFingerprint[v.Fingerprint]
		require.True(t, onRecord, "version %d was given to a reader and is not on record", v.Version)
		require.Equal(t, "issued", r.Outcome, "version %d was given to a reader", v.Version)
		require.Equal(t, v.Version, r.Version)
	}
}
