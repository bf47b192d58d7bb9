// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionStorm = "After an outage of C1"

	stormLatency = 100 * time.Millisecond // of a rotation at C1
	stormCap     = 100                    // requests per second that config allows
	// With 4 times cap × latency, the workers are not what bounds the drain.
	stormWorkers    = 40
	stormConcurrent = 64 // of which the workers may take three quarters

	// What people and programs read meanwhile: 20 leased reads per second. Each
	// reader goes round several bindings, since one holds 1,000 live leases.
	stormReaders           = 5
	stormBindingsPerReader = 20
	stormPace              = 250 * time.Millisecond

	// stormSamples are needed for a p99 that is not merely the slowest.
	stormSamples = 300
	// stormOverdueAfter is how long after its time a rotation counts as overdue.
	stormOverdueAfter = 10 * time.Second
)

// BenchmarkDrainAfterOutage measures how fast all bindings that fell due while
// C1 was away are rotated, and what those notice who read a lease meanwhile.
func BenchmarkDrainAfterOutage(b *testing.B) {
	bindings := 2_000
	if *full {
		bindings = 10_000
	}
	s := newStorm(b)
	due := s.bind(bindings)

	readers := s.startReaders()
	<-time.After(time.Until(due) - 2*time.Second)
	idle := readers.stop()

	s.outage(due)
	readers = s.startReaders()
	rotations := s.awaitDrain()
	draining := readers.stop()
	s.report(rotations, idle, draining)
}

// storm is an engine with bindings that are all due at one time.
type storm struct {
	b         *testing.B
	e         *vaulttest.Engine
	scheduled map[string]bool // connectors
	back      time.Time       // when C1 was within reach again
}

func newStorm(b *testing.B) *storm {
	b.Helper()
	e := vaulttest.New(b, vaulttest.Options{Measure: true, NoAudit: true})
	e.Configure(e.Mount, e.Tenant, map[string]any{
		"request_timeout": "10s", "max_requests_per_second": stormCap,
		"max_concurrent_requests": stormConcurrent, "rotation_workers": stormWorkers,
	})
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: stormLatency})
	return &storm{b: b, e: e, scheduled: map[string]bool{}}
}

func stormReadName(reader, binding int) string {
	return fmt.Sprintf("interactive-%d-%d", reader, binding)
}

// bind makes the bindings, all due once at one minute and the next day again,
// and returns that minute. Until then there is time for the idle reads.
func (s *storm) bind(bindings int) (due time.Time) {
	s.b.Helper()
	for reader := range stormReaders {
		for binding := range stormBindingsPerReader {
			name := stormReadName(reader, binding)
			s.e.BindConnector(s.e.Mount, name, s.e.Tenant.NewConnector(name), map[string]any{"verify": false})
		}
	}
	idle := stormSamples * stormPace / stormReaders * 5 / 4
	began := time.Now()
	due = began.Add(idle + time.Duration(bindings)*5*time.Millisecond).Truncate(time.Minute).Add(time.Minute).UTC()
	refs := make([]c1test.ConnectorRef, bindings)
	for i := range refs {
		refs[i] = s.e.Tenant.NewConnector(fmt.Sprintf("Connector %d", i))
		s.scheduled[refs[i].ConnectorID] = true
	}
	bindDueAt(s.b, s.e, clientsOf(s.e.Server), refs, due)
	s.b.Logf("%d bindings made in %s, due in %s", bindings, time.Since(began).Round(time.Second), time.Until(due).Round(time.Second))
	if time.Until(due) < idle {
		s.b.Fatal("this machine makes bindings too slowly: too little time is left until they are due")
	}
	return due
}

// outage has C1 out of reach while everything falls due, and returns once the
// engine has found out that C1 is back.
func (s *storm) outage(due time.Time) {
	s.b.Helper()
	s.e.Tenant.SetDown(true)
	<-time.After(time.Until(due.Add(stormOverdueAfter)))
	vaulttest.Eventually(s.b, time.Minute, func() error {
		// Beside them, leased bindings wait for the look that follows each rotation.
		overdue, _ := s.e.MustRead("status").Data["overdue"].(json.Number)
		if n, err := overdue.Int64(); err != nil || int(n) < len(s.scheduled) {
			return fmt.Errorf("%s of %d are overdue", overdue, len(s.scheduled))
		}
		return nil
	})
	s.back = time.Now()
	s.e.Tenant.SetDown(false)
	vaulttest.Eventually(s.b, 2*time.Minute, func() error {
		_, err := s.e.Read("connector-creds/" + stormReadName(0, 0))
		return err
	})
}

// awaitDrain waits until each scheduled binding has rotated, and returns the
// rotations at C1 from the first of them to the last: those for the readers too.
func (s *storm) awaitDrain() []c1test.Entry {
	s.b.Helper()
	var rotations []c1test.Entry
	before := s.e.Tenant.Requests(c1test.OpRotateConnector)
	// The journal is long: it is not looked at before it can be complete.
	earliest := before + len(s.scheduled)/2
	timeout := time.Minute + 3*time.Duration(len(s.scheduled))*time.Second/stormCap
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for deadline := time.Now().Add(timeout); ; <-ticker.C {
		if s.e.Tenant.Requests(c1test.OpRotateConnector) >= earliest {
			var missing int
			if rotations, missing = s.drained(); missing == 0 {
				return rotations
			}
			earliest += missing
		}
		if time.Now().After(deadline) {
			s.b.Fatalf("not drained within %s", timeout)
		}
	}
}

// drained returns the rotations from the first scheduled one to the last, and
// how many bindings have not rotated yet.
func (s *storm) drained() (rotations []c1test.Entry, missing int) {
	s.b.Helper()
	times := map[string]int{}
	first, last := -1, 0
	for _, entry := range s.e.Tenant.Journal() {
		if entry.Op != c1test.OpRotateConnector || entry.Time.Before(s.back) {
			continue
		}
		if s.scheduled[entry.Object] {
			if first < 0 {
				first = len(rotations)
			}
			last = len(rotations)
			if times[entry.Object]++; times[entry.Object] > 1 {
				s.b.Fatalf("the connector %s was rotated twice", entry.Object)
			}
		}
		rotations = append(rotations, entry)
	}
	if missing = len(s.scheduled) - len(times); missing > 0 {
		return nil, missing
	}
	return rotations[first : last+1], 0
}

func (s *storm) report(rotations []c1test.Entry, idle, draining []stormRead) {
	s.b.Helper()
	first, last := rotations[0].Time, rotations[len(rotations)-1].Time
	took := last.Sub(first)
	rate := float64(len(rotations)-1) / took.Seconds()
	draining = slices.DeleteFunc(draining, func(r stormRead) bool { return r.began.Before(first) || r.began.After(last) })
	if len(idle) < stormSamples || len(draining) < stormSamples {
		s.b.Fatalf("%d reads while idle and %d while draining are too few", len(idle), len(draining))
	}
	s.b.ReportMetric(rate/stormCap, "of-the-cap")
	s.b.Logf("%d rotations in %s, the first %s after C1's return; %d reads while idle, %d while draining", len(rotations),
		took.Round(time.Second), first.Sub(s.back).Round(time.Second), len(idle), len(draining))

	compare(report.Comparison{
		Section: sectionStorm, Measure: "share of the permitted rate that is used while draining", Unit: "requests/s",
		Ours: report.Sample{rate}, Rival: "the cap in config", Theirs: report.Sample{stormCap},
		Goal: &report.Goal{AtLeast: 0.95},
	})
	for _, c := range []struct {
		share float64
		goal  *report.Goal
	}{{0.5, nil}, {0.99, &report.Goal{AtMost: 2}}} {
		ours, theirs := stormPercentile(draining, c.share), stormPercentile(idle, c.share)
		s.b.Logf("p%.0f of leased reads: %.0f ms while draining, %.0f ms while idle", 100*c.share, ours, theirs)
		compare(report.Comparison{
			Section: sectionStorm, Measure: fmt.Sprintf("leased reads while draining, p%.0f", 100*c.share), Unit: "ms",
			Ours: report.Sample{ours}, Rival: "the same, idle", Theirs: report.Sample{theirs}, Goal: c.goal,
		})
	}
	plot(report.Plot{
		File: "drain-rate.svg", Section: sectionStorm,
		Title: fmt.Sprintf("Draining %d overdue bindings", len(s.scheduled)),
		X:     "seconds since the first of them", Y: "rotations per second",
		Series: []report.Series{
			stormPerSecond(rotations),
			{Name: "the cap in config", X: []float64{0, took.Seconds()}, Y: []report.Sample{{stormCap}, {stormCap}}},
		},
	})
	note(report.Note{
		Section: sectionStorm,
		Text: fmt.Sprintf("%d scheduled bindings fell due while C1 was out of reach; then it answered each rotation after %d ms, with `max_requests_per_second=%d` and `rotation_workers=%d`. "+
			"So that no second sees more than the cap, the engine aims at 4 %% less. Meanwhile %d readers made %d leased reads per second, which count for the rate too. Their percentiles are of %d reads while draining and %d before the outage.",
			len(s.scheduled), stormLatency.Milliseconds(), stormCap, stormWorkers,
			stormReaders, stormReaders*time.Second/stormPace, len(draining), len(idle)),
	})
}

// stormPerSecond counts the rotations in each full second.
func stormPerSecond(rotations []c1test.Entry) report.Series {
	first := rotations[0].Time
	counts := make([]float64, int(rotations[len(rotations)-1].Time.Sub(first).Seconds()))
	for _, entry := range rotations {
		if second := int(entry.Time.Sub(first).Seconds()); second < len(counts) {
			counts[second]++
		}
	}
	series := report.Series{Name: "rotations at C1"}
	for second, count := range counts {
		series.X = append(series.X, float64(second))
		series.Y = append(series.Y, report.Sample{count})
	}
	return series
}

// stormPercentile is that of the reads' latencies, in milliseconds.
func stormPercentile(reads []stormRead, share float64) float64 {
	took := make([]time.Duration, len(reads))
	for i, r := range reads {
		took[i] = r.took
	}
	slices.Sort(took)
	return quantile(took, share).Seconds() * 1000
}

type stormRead struct {
	began time.Time
	took  time.Duration
}

// stormReading are readers at a steady pace.
type stormReading struct {
	b      *testing.B
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu    sync.Mutex
	reads []stormRead
	err   error // the first
}

func (s *storm) startReaders() *stormReading {
	s.b.Helper()
	ctx, cancel := context.WithCancel(s.b.Context())
	l := &stormReading{b: s.b, cancel: cancel}
	for reader := range stormReaders {
		client := s.e.Client(s.e.Root.Token())
		l.group.Go(func() {
			// One after another, not all at the same moment.
			select {
			case <-time.After(time.Duration(reader) * stormPace / stormReaders):
			case <-ctx.Done():
				return
			}
			l.read(ctx, s.e, client, reader)
		})
	}
	return l
}

// read reads one binding after another until ctx ends.
func (l *stormReading) read(ctx context.Context, e *vaulttest.Engine, client *api.Client, reader int) {
	pace := time.NewTicker(stormPace)
	defer pace.Stop()
	for n := 0; ; n++ {
		began := time.Now()
		_, err := client.Logical().ReadWithContext(ctx, e.Path("connector-creds/"+stormReadName(reader, n%stormBindingsPerReader)))
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.reads = append(l.reads, stormRead{began, time.Since(began)})
		l.err = cmp.Or(l.err, err)
		l.mu.Unlock()
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *stormReading) stop() []stormRead {
	l.b.Helper()
	l.cancel()
	l.group.Wait()
	if l.err != nil {
		l.b.Fatalf("a leased read: %v", l.err)
	}
	return l.reads
}
