// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// crash is one rotation that C1 holds when everything above it dies.
type crash struct {
	name      string
	subject   subject
	firstEver bool        // nothing was vended before
	held      c1test.When // where C1 holds it
	commits   bool        // C1 carries it out, before or after the death
	settled   string      // the binding's state when nobody reads it
}

// crashes are the same for a plugin and for a whole server.
func crashes() []crash {
	const firstEver = true
	var all []crash
	for _, what := range []struct {
		subject
		untouched string // the state if C1 did not rotate
	}{
		{exclusiveConnector, "ambiguous"},
		{overlappingConnector, "ambiguous"},
		{decoyWithFingerprint, "ready"}, // its fingerprint tells
		{decoyWithoutSecret, "ambiguous"},
	} {
		for _, first := range []bool{!firstEver, firstEver} {
			name := what.name
			if first {
				name += ", the first time"
			}
			all = append(all,
				crash{name + "/never committed", what.subject, first, c1test.BeforeCommit, false, what.untouched},
				crash{name + "/committed after the death", what.subject, first, c1test.BeforeCommit, true, "ambiguous"},
				crash{name + "/committed before the death", what.subject, first, c1test.AfterCommit, true, "ambiguous"},
			)
		}
	}
	return all
}

// TestRecoveryPluginKilledWhileC1HoldsTheRequest: Vault re-sends some of the
// requests that a dead plugin had, under the same request ID.
func TestRecoveryPluginKilledWhileC1HoldsTheRequest(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	recoverFromDeath(t, server, func(t *testing.T, held []*underWay) {
		server.KillPlugin(t)
		resent := 0
		for _, u := range held {
			err := u.wait(t)
			require.Error(t, err, "%s: a vend whose plugin died was answered", u.mount)
			switch status := statusOf(err); status {
			case http.StatusConflict: // re-sent, and refused
				require.ErrorContains(t, err, "outcome unknown")
				resent++
			case http.StatusInternalServerError:
			default:
				t.Errorf("%s: answered %d: %v", u.mount, status, err)
			}
		}
		t.Logf("Vault sent %d of %d requests again", resent, len(held))
	})
}

// TestRecoveryVaultKilledWhileC1HoldsTheRequest: the server dies with its
// plugins, and starts on what Raft has kept.
func TestRecoveryVaultKilledWhileC1HoldsTheRequest(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{Storage: vaulttest.Raft})
	recoverFromDeath(t, server, func(t *testing.T, held []*underWay) {
		server.Kill()
		for _, u := range held {
			require.Error(t, u.wait(t), "%s: a vend was answered by a dead server", u.mount)
		}
		server.Restart()
	})
}

// recoverFromDeath holds one rotation per crash at C1, lets them all die at
// once, and says what must have become of each.
func recoverFromDeath(t *testing.T, server *vaulttest.Server, die func(*testing.T, []*underWay)) {
	cases := crashes()
	var subjects []subject
	for _, c := range cases {
		subjects = append(subjects, c.subject)
	}
	sites := newSites(t, server, subjects)
	before := make([]vended, len(sites))
	var held []*underWay
	for i, s := range sites {
		if !cases[i].firstEver {
			before[i] = s.mustVend(t)
		}
		held = append(held, s.vendAndHold(t.Context(), t, cases[i].held, server.Root))
	}
	// However slowly this goes on, the engine shall not compare fingerprints
	// before C1 has committed what it is to commit.
	var looks []*c1test.Barrier
	for _, s := range sites {
		looks = append(looks, s.c1.HoldNext(c1test.OpGetDecoy, "", c1test.BeforeCommit, 100))
	}
	die(t, held)
	untilBack(t, sites)
	for i, u := range held {
		if cases[i].commits {
			u.barrier.Release()
			vaulttest.Eventually(t, 10*time.Second, func() error {
				if n := u.committed(); n != before[i].Version+1 {
					return fmt.Errorf("%s: C1 carried out %d rotations", u.mount, n)
				}
				return nil
			})
		}
	}
	died := time.Now()
	for i, s := range sites {
		h := s.mustHealth(t)
		require.NotEqual(t, "ready", h.State, "%s: an open attempt does not show", cases[i].name)
		require.Equal(t, 1, h.Ambiguous+h.Rotating, "%s: status does not count an open attempt", cases[i].name)
		require.Equal(t, before[i].Version, h.Version)
		if cases[i].firstEver {
			require.Empty(t, s.history(t))
		}
	}
	for _, look := range looks {
		look.Release()
	}
	for i, s := range sites {
		c := cases[i]
		t.Run(c.name, func(t *testing.T) {
			asked, committed := s.asked(), s.committed()
			require.Equal(t, before[i].Version+1, asked, "something asked C1 to rotate again")
			// Twice: a look that was held may have to be repeated.
			eventuallyWithin(t, 2*settled, func() error { return settledAs(s.mustHealth(t), c.settled) })
			require.Equal(t, asked, s.asked(), "settling rotated a leased target")
			require.Equal(t, committed, s.committed())

			lost := "superseded"
			switch c.settled {
			case "ready":
				lost = "failed"
				h := s.mustHealth(t)
				require.True(t, h.Healthy, "attention: %v", h.Attention)
				require.Equal(t, lost, s.outcomes(t)[0])
				if !c.firstEver {
					require.True(t, s.alive(before[i]), "C1 did not rotate, so the copy from before is good")
				}
			default:
				s.requireAmbiguous(t)
			}

			healed := s.mustVend(t)
			require.Equal(t, before[i].Version+1, healed.Version)
			s.requireHealthy(t, healed)
			want := []string{"issued", lost}
			if !c.firstEver {
				want = append(want, "issued")
			}
			require.Equal(t, want, s.outcomes(t))
			require.Equal(t, committed+1, s.committed())
			noRequestRotatedTwice(t, s)
		})
	}
	t.Run("nothing rotates because a process started", func(t *testing.T) {
		vaulttest.Eventually(t, 3*time.Minute, func() error { // at least one whole tick since
			if wait := time.Until(died.Add(70 * time.Second)); wait > 0 {
				return fmt.Errorf("%s left", wait)
			}
			return nil
		})
		for i, s := range sites {
			require.Equal(t, before[i].Version+2, s.asked(), cases[i].name)
		}
	})
}

func settledAs(h health, state string) error {
	if h.State != state || h.Rotating != 0 {
		return fmt.Errorf("state %s (wanted %s), rotating %d, problems %q", h.State, state, h.Rotating, h.Problems)
	}
	if state == "ambiguous" && strings.Join(h.Problems, "") == "" {
		return fmt.Errorf("ambiguous without a reason")
	}
	return nil
}

// noRequestRotatedTwice says that no request of Vault's stands behind two
// rotations that C1 may have carried out.
func noRequestRotatedTwice(t testing.TB, s *site) {
	t.Helper()
	seen := map[string]string{}
	for _, r := range s.history(t) {
		if r.Outcome == "failed" || r.RequestID == "" {
			continue
		}
		require.Empty(t, seen[r.RequestID], "request %s rotated twice: %s, and then %s", r.RequestID, r.Outcome, seen[r.RequestID])
		seen[r.RequestID] = r.Outcome
	}
}

// TestRecoveryCallerThatRepeatsAfterAPluginDied: Vault's clients repeat a 500 by
// themselves, as a new request, which may rotate again and heals the binding.
func TestRecoveryCallerThatRepeatsAfterAPluginDied(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	sites := newSites(t, server, []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint})
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			s.mustVend(t)
			u := s.vendAndHold(t.Context(), t, c1test.AfterCommit, ordinaryClient(t, server))
			server.KillPlugin(t)
			u.barrier.Release()
			err := u.wait(t)
			if err != nil { // Vault re-sent it first, and nobody repeats a 409
				require.Equal(t, http.StatusConflict, statusOf(err), "%v", err)
				require.Equal(t, 2, s.asked())
				// Until C1 can no longer commit it late it is said to be rotating.
				eventuallyWithin(t, 2*settled, func() error { return settledAs(s.mustHealth(t), "ambiguous") })
				s.requireAmbiguous(t)
				u.got = s.mustVend(t)
			}
			s.requireHealthy(t, u.got)
			require.Equal(t, []string{"issued", "superseded", "issued"}, s.outcomes(t))
			require.Equal(t, 3, s.asked())
			noRequestRotatedTwice(t, s)
		})
	}
}
