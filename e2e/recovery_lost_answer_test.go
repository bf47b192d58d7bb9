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

// TestRecoveryLostAnswerIsAmbiguousUntilTheNextRead: C1 rotated, and its answer
// did not come or held no material.
func TestRecoveryLostAnswerIsAmbiguousUntilTheNextRead(t *testing.T) {
	t.Parallel()
	faults := []struct {
		name  string
		fault c1test.Fault
	}{
		{"connection dropped", c1test.Fault{DropAfter: true}},
		{"502 of a proxy", c1test.Fault{StatusAfter: http.StatusBadGateway}},
		{"503 without Retry-After", c1test.Fault{StatusAfter: http.StatusServiceUnavailable}},
		{"half an answer", c1test.Fault{Truncate: true}},
		{"empty answer", c1test.Fault{EmptyAnswer: true}},
		{"no JSON", c1test.Fault{Garbage: true}},
		{"no material", c1test.Fault{OmitMaterial: true}},
		{"no secret in it", c1test.Fault{OmitSecret: true}},
		{"too late", c1test.Fault{Delay: requestTimeout + 500*time.Millisecond}},
	}
	server := startServer(t, vaulttest.Options{})
	kinds := []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint}
	var subjects []subject
	for range faults {
		subjects = append(subjects, kinds...)
	}
	sites := newSites(t, server, subjects)
	last := make([]vended, len(sites))
	looked := make([]int, len(sites))

	for i, s := range sites {
		lost := faults[i/len(kinds)]
		t.Run(lost.name+"/"+s.name, func(t *testing.T) {
			first := s.mustVend(t)
			lost.fault.Op, lost.fault.Times = s.rotateOp(), 1
			s.c1.AddFault(lost.fault)

			_, err := s.vendWith(t.Context(), ordinaryClient(t, server))
			require.Equal(t, http.StatusConflict, statusOf(err), "%v", err)
			require.ErrorContains(t, err, "outcome unknown")
			require.Equal(t, 2, s.asked(), "somebody repeated a request that rotates")

			h := s.requireAmbiguous(t)
			require.Len(t, h.Attention, 1)
			require.Equal(t, "ambiguous", h.Attention[0].Reason)
			require.Equal(t, bindingName, h.Attention[0].Binding)
			require.NotEmpty(t, h.Attention[0].Detail)
			require.Len(t, h.Problems, 1)
			require.Equal(t, []string{"issued"}, s.outcomes(t), "nothing is decided yet")

			vaulttest.Eventually(t, 10*time.Second, func() error { // C1 acts in its own time
				if n := s.committed(); n != 2 {
					return fmt.Errorf("C1 carried out %d rotations", n)
				}
				return nil
			})
			last[i] = s.mustVend(t)
			require.Equal(t, first.Version+1, last[i].Version, "a version stands for material that was handed out")
			s.requireHealthy(t, last[i])
			require.Equal(t, []string{"issued", "superseded", "issued"}, s.outcomes(t))
			require.Equal(t, 3, s.committed())
			looked[i] = s.looks()
		})
	}
	t.Run("and is looked at once more", func(t *testing.T) {
		for i, s := range sites {
			untilSettled(t, func() error {
				if s.looks() == looked[i] {
					return fmt.Errorf("%s at %s: nobody looked again at what followed an unknown outcome", s.name, s.mount)
				}
				return nil
			})
			s.requireHealthy(t, last[i])
			require.Equal(t, 3, s.committed(), "settling rotated")
		}
	})
}

// looks counts the times that C1 was asked about what it holds now.
func (s *site) looks() int {
	if s.isDecoy() {
		return s.c1.Requests(c1test.OpGetDecoy)
	}
	return s.c1.Requests(c1test.OpGetConnectorCredential)
}

// TestRecoveryUnreadBindingIsSettledByItself: after an unknown outcome nobody
// reads the binding again.
func TestRecoveryUnreadBindingIsSettledByItself(t *testing.T) {
	t.Parallel()
	const firstEver = true
	cases := []struct {
		name      string
		subject   subject
		firstEver bool // nothing was vended before
		fault     c1test.Fault
		settled   string // the binding's state in the end
		problem   string // as status tells it
		outcomes  []string
	}{
		{"decoy, not rotated", decoyWithFingerprint, !firstEver, c1test.Fault{DropBefore: true}, "ready", "", []string{"failed", "issued"}},
		{"decoy, not rotated, the first time", decoyWithFingerprint, firstEver, c1test.Fault{DropBefore: true}, "ready", "", []string{"failed"}},
		{"decoy, rotated", decoyWithFingerprint, !firstEver, c1test.Fault{DropAfter: true}, "ambiguous", "rotated the decoy", []string{"issued"}},
		{"decoy, rotated, the first time", decoyWithFingerprint, firstEver, c1test.Fault{DropAfter: true}, "ambiguous", "rotated the decoy", nil},
		{"decoy without a fingerprint", decoyWithoutSecret, !firstEver, c1test.Fault{DropBefore: true}, "ambiguous", "", []string{"issued"}},
		{"connector, exclusive, rotated", exclusiveConnector, !firstEver, c1test.Fault{DropAfter: true}, "ambiguous", "", []string{"issued"}},
		{"connector, overlapping, not rotated", overlappingConnector, !firstEver, c1test.Fault{DropBefore: true}, "ambiguous", "", []string{"issued"}},
		{"connector, the first time", exclusiveConnector, firstEver, c1test.Fault{DropAfter: true}, "ambiguous", "", nil},
	}
	server := startServer(t, vaulttest.Options{})
	var subjects []subject
	for _, c := range cases {
		subjects = append(subjects, c.subject)
	}
	sites := newSites(t, server, subjects)
	first := make([]vended, len(sites))
	for i, s := range sites {
		if !cases[i].firstEver {
			first[i] = s.mustVend(t)
		}
		cases[i].fault.Op, cases[i].fault.Times = s.rotateOp(), 1
		s.c1.AddFault(cases[i].fault)
		_, err := s.vend(t.Context())
		require.Equal(t, http.StatusConflict, statusOf(err), "%s: %v", cases[i].name, err)
		s.requireAmbiguous(t)
	}
	// The first of these waits for a full minute, the rest find it passed.
	untilSettled(t, func() error {
		if h := sites[0].mustHealth(t); h.State != "ready" {
			return fmt.Errorf("%s is still %s", cases[0].name, h.State)
		}
		return nil
	})
	for i, s := range sites {
		c := cases[i]
		t.Run(c.name, func(t *testing.T) {
			asked := s.asked()
			untilSettled(t, func() error {
				h := s.mustHealth(t)
				if h.State != c.settled || !strings.Contains(strings.Join(h.Problems, "\n"), c.problem) {
					return fmt.Errorf("state %s, problems %q", h.State, h.Problems)
				}
				return nil
			})
			require.Equal(t, c.outcomes, s.outcomes(t))
			require.Equal(t, asked, s.asked(), "settling rotated a leased target")
			if c.settled == "ready" {
				h := s.mustHealth(t)
				require.True(t, h.Healthy, "attention: %v", h.Attention)
				if !c.firstEver {
					require.True(t, s.alive(first[i]), "C1 did not rotate, so the copy from before is good")
				}
			} else {
				s.requireAmbiguous(t)
			}
			s.requireHealthy(t, s.mustVend(t))
		})
	}
}

// TestRecoveryLateCommitShowsAsDrift: C1 carries the lost request out after the
// binding was healed, and what was vended is no longer what C1 holds.
func TestRecoveryLateCommitShowsAsDrift(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	sites := newSites(t, server, []subject{exclusiveConnector, decoyWithFingerprint, overlappingConnector})
	healed := make([]vended, len(sites))
	for i, s := range sites {
		late := make(chan struct{})
		s.c1.AddFault(c1test.Fault{Op: s.rotateOp(), Times: 1, CommitLate: late})
		_, err := s.vend(t.Context())
		require.Equal(t, http.StatusConflict, statusOf(err), "%v", err)
		healed[i] = s.mustVend(t)
		s.requireHealthy(t, healed[i])
		close(late)
		vaulttest.Eventually(t, 10*time.Second, func() error {
			if n := s.committed(); n != 2 {
				return fmt.Errorf("C1 carried out %d rotations", n)
			}
			return nil
		})
	}
	for i, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			if s.semantics == c1test.Overlapping {
				s.requireHealthy(t, healed[i]) // nothing has ended it
				return
			}
			require.False(t, s.alive(healed[i]))
			untilSettled(t, func() error {
				if h := s.mustHealth(t); h.State != "drifted" || h.Drifted != 1 || h.Healthy {
					return fmt.Errorf("state %s, drifted %d, healthy %t", h.State, h.Drifted, h.Healthy)
				}
				return nil
			})
			s.requireHealthy(t, s.mustVend(t))
		})
	}
}
