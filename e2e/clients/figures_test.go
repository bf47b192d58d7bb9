// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

var write = flag.String("write", "", "`page` whose table is replaced by what was measured")

// stories is how many stories are played at once: they wait, most of the time.
const stories = "40"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", stories); err != nil { // before what the command line says
		panic(err)
	}
	vaulttest.Main(m, func(passed bool) error {
		if *write == "" || !passed {
			return nil
		}
		return table.replaceIn(*write)
	})
}

// figures are what one story has measured.
type figures struct {
	caused  int             // rotations beyond those by the clock and by hand
	clock   []time.Duration // from each rotation by the clock to the consumer's login with what it made
	hand    time.Duration   // the same of the one by hand
	without time.Duration   // in which no consumer ran whose credential C1 would take
}

func (f *figures) String() string {
	return fmt.Sprintf("caused %d rotations; new credential after %s (clock) and %s (hand); without a working one for %s",
		f.caused, f.clock, seconds(f.hand), seconds(f.without))
}

// measure compares what C1 did with what the consumer did.
func (s *story) measure() figures {
	s.t.Helper()
	lines, err := s.reported()
	require.NoError(s.t, err)
	minted := s.minted()
	f := figures{caused: len(minted) - byClock - 2}
	for i, rotation := range minted[1:] {
		login := slices.IndexFunc(lines, func(l line) bool { return l.Fingerprint == rotation.Fingerprint && l.Said == "logged in" })
		require.GreaterOrEqual(s.t, login, 0, "the consumer never had version %d", i+2)
		after := lines[login].Time.Sub(rotation.Time)
		if i < byClock {
			f.clock = append(f.clock, after)
		} else {
			f.hand = after
		}
	}
	f.without = without(lines, ends(s.Tenant.Journal()))
	require.Zero(s.t, f.caused, "a reader of a scheduled binding rotates nothing")
	return f
}

// ends says when C1 stopped taking a credential, by the fingerprint of its secret.
func ends(journal []c1test.Entry) map[string]time.Time {
	fingerprints, ends := map[string]string{}, map[string]time.Time{}
	for _, entry := range journal {
		switch entry.Op {
		case c1test.OpRotateConnector:
			fingerprints[entry.CredentialID] = entry.Fingerprint
		case c1test.OpEndCredential, c1test.OpRevokeConnectorCredential:
			ends[fingerprints[entry.CredentialID]] = entry.Time
		}
	}
	return ends
}

// without is how long, between the consumer's first login and its last, none ran
// whose credential C1 would have taken.
func without(lines []line, ends map[string]time.Time) time.Duration {
	logins := slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return l.Said != "logged in" })
	if len(logins) == 0 {
		return 0
	}
	var with time.Duration
	for i, login := range logins[:len(logins)-1] {
		until := logins[i+1].Time
		for _, l := range lines {
			if l.PID == login.PID && l.Said == "stopped" && l.Time.Before(until) {
				until = l.Time
			}
		}
		if end, ok := ends[login.Fingerprint]; ok && end.Before(until) {
			until = end
		}
		with += max(0, until.Sub(login.Time))
	}
	return logins[len(logins)-1].Time.Sub(logins[0].Time) - with
}

func TestWithoutCountsDeadCredentialsAndRestarts(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	lines := []line{
		{at(0), 1, "a", "logged in"},
		{at(30), 1, "a", "invalid_client"},
		{at(50), 1, "a", "stopped"},
		{at(53), 2, "b", "logged in"},
		{at(60), 2, "b", "stopped"},
		{at(61), 3, "c", "logged in"},
	}
	for name, tc := range map[string]struct {
		ends map[string]time.Time
		want int
	}{
		"nothing ends":             {nil, 3 + 1},
		"the old one ends early":   {map[string]time.Time{"a": at(20)}, 33 + 1},
		"the old one ends late":    {map[string]time.Time{"a": at(55)}, 3 + 1},
		"ended before it was used": {map[string]time.Time{"b": at(40)}, 3 + 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, time.Duration(tc.want)*time.Second, without(lines, tc.ends))
		})
	}
	require.Zero(t, without(nil, nil))
}

// row is what the table tells of a client.
type row struct {
	client                 client
	overlapping, exclusive figures
}

var table rows

// rows are those of the clients that ran.
type rows struct {
	mu   sync.Mutex
	rows []row
}

func (r *rows) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, one)
}

// The marks in the page between which the table stands.
const (
	tableBegins = "<!-- table: written by make e2e-clients -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

func (r *rows) replaceIn(page string) error {
	raw, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(raw), tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the table", page)
	}
	return os.WriteFile(page, []byte(before+tableBegins+r.String()+tableEnds+after), 0o644)
}

func (r *rows) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.rows, func(a, b row) int { return cmp.Compare(a.client.name, b.client.name) })
	var text strings.Builder
	text.WriteString("| client | ran | set up | rotations caused | new credential after a rotation by the clock | by hand | without a working credential, overlapping | exclusive |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, r := range r.rows {
		clock := slices.Concat(r.overlapping.clock, r.exclusive.clock)
		hand := []time.Duration{r.overlapping.hand, r.exclusive.hand}
		_, _ = fmt.Fprintf(&text, "| %s | %s | %s | %d | %s | %s | %s | %s |\n", r.client.name, r.client.ran, r.client.needs,
			r.overlapping.caused+r.exclusive.caused, span(clock), span(hand), seconds(r.overlapping.without), seconds(r.exclusive.without))
	}
	return text.String()
}

// span is from the least to the most.
func span(all []time.Duration) string {
	return fmt.Sprintf("%.1f to %s", slices.Min(all).Seconds(), seconds(slices.Max(all)))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
