// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// Simulations begin in the middle of a minute, as days do for most.
var simulatedStart = time.Date(2030, 1, 1, 0, 0, 7, 0, time.UTC)

// within spreads the writes of n bindings evenly over a time.
func within(n int, d time.Duration) func(int) time.Duration {
	return func(i int) time.Duration { return time.Duration(float64(d) * float64(i) / float64(n)) }
}

func atOnce(int) time.Duration { return 0 }

// steady are first turns as they are after many periods.
func steady(refs []target.Ref, sched target.Schedule) func(int) time.Time {
	return func(i int) time.Time {
		return simulatedStart.Add(time.Duration(float64(sched.After(simulatedStart, anySplay(refs[i])).Sub(simulatedStart)) * uniform(i)))
	}
}

func TestASimulatedYearRotatesAllInTimeAndSpreadsThem(t *testing.T) {
	t.Parallel()
	bindings, period := 10_000, 30*day
	if raceEnabled {
		bindings, period = 1000, 3*day // a year of minutes takes too long
	}
	slice, length := int(period/time.Minute)/50, period*365/30
	c := simulate(plan{
		refs: connectorsAt(bindings), schedule: target.Schedule{Period: period}, config: limits(8, 50, 0), latency: 200 * time.Millisecond,
		start: simulatedStart, length: length, written: within(bindings, time.Minute), rotated: true,
	})
	require.Less(t, c.late, time.Second, "there is room for all of them")
	require.Zero(t, c.overdue)
	require.Zero(t, c.broken)
	require.GreaterOrEqual(t, c.earliest, 0.9, "nobody is more than a tenth early")
	require.GreaterOrEqual(t, c.rotations, bindings*int(length/period))
	require.LessOrEqual(t, c.rotations, bindings*int(length/(period*9/10)))
	require.LessOrEqual(t, c.largestBacklog(), 8, "only what is under way when a minute begins")
	noise := 1 + 5*math.Sqrt(50/float64(bindings))
	require.Greater(t, c.busiest(0, period, slice), 8.0, "written together, they fall due within a tenth of the period")
	for k := range 12 {
		from, to := time.Duration(k)*period, time.Duration(k+1)*period
		require.Less(t, c.busiest(from, to, slice), wave(k+1)*noise, "in period %d", k+1)
	}
}

// wave is how many times the mean the k-th period's peak is when all bindings
// were written together. The n-th turns spread over n tenths of a period, and
// from the tenth on they begin to overlap.
func wave(k int) float64 {
	peak := 0.0
	for _, at := range []float64{float64(k) - 1e-9, float64(k-1) + 1e-9} {
		height := 0.0
		for n := math.Ceil(at); n <= at/0.9; n++ {
			height += 1 / (0.1 * n)
		}
		peak = max(peak, height)
	}
	for n := 1.0; n < 2*float64(k); n++ { // where a wave begins
		if at := 0.9 * n; at > float64(k-1) && at < float64(k) {
			height := 0.0
			for m := math.Ceil(at); m <= n; m++ {
				height += 1 / (0.1 * m)
			}
			peak = max(peak, height)
		}
	}
	return peak * 0.95
}

func TestASimulatedOutageIsCaughtUpAtTheCap(t *testing.T) {
	t.Parallel()
	const bindings, perSecond = 10_000, 2
	refs, sched := connectorsAt(bindings), target.Schedule{Period: day}
	for _, length := range []time.Duration{time.Hour, 24 * time.Hour} {
		out := outage{from: simulatedStart.Add(6 * time.Hour), to: simulatedStart.Add(6*time.Hour + length)}
		c := simulate(plan{
			refs: refs, schedule: sched, config: limits(8, perSecond, 0), latency: 200 * time.Millisecond,
			start: simulatedStart, length: 6*time.Hour + length + 3*time.Hour, written: atOnce, firstTurn: steady(refs, sched), outages: []outage{out},
		})
		arriving := c.meanPerMinute()
		backlog := float64(c.backlogAt(out.to))
		if length == time.Hour {
			require.InEpsilon(t, 60*arriving, backlog, 0.1)
		} else {
			require.InEpsilon(t, bindings, backlog, 0.01, "each of them came due once and waits")
			arriving = 0 // who was rotated in the drain is not due for another day
		}
		drain := backlog / (60*perSecond - arriving)
		require.InDelta(t, drain, c.drained(out.to).Minutes(), 0.03*drain+2, "and up to a minute for the probe")
		require.LessOrEqual(t, c.late, length+c.drained(out.to))
		for _, n := range c.perMinute {
			require.LessOrEqual(t, n, int32(60*perSecond+1))
		}
	}
}

// The real worker, in fake time, against the simulation of the same targets.
func TestASimulatedMountTurnsAsTheRealOneDoes(t *testing.T) {
	t.Parallel()
	for name, side := range map[string]besideTheReal{
		"undisturbed":    {schedule: target.Schedule{Period: 7 * time.Hour}, workers: 2, perSecond: 2, driftCheck: 5 * time.Hour},
		"with an outage": {schedule: target.Schedule{Period: 7 * time.Hour}, workers: 2, perSecond: 2, driftCheck: 5 * time.Hour, down: 5 * time.Hour},
		"all at once":    {schedule: target.Schedule{Cron: "30 */8 * * *"}, workers: 20, perSecond: 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(e *engine) { side.agree(e) })
		})
	}
}

// besideTheReal is a mount that is simulated and run.
type besideTheReal struct {
	schedule   target.Schedule
	workers    int
	perSecond  float64
	driftCheck time.Duration
	down       time.Duration // from the twentieth hour on
}

func (s besideTheReal) agree(e *engine) {
	bindings, length, latency := 200, 2*day, 300*time.Millisecond
	if raceEnabled {
		bindings = 40
	}
	pass(7 * time.Second)
	e.write("config", "rotation_workers", s.workers, "max_requests_per_second", s.perSecond, "drift_check_period", seconds(s.driftCheck))
	for _, op := range []string{c1test.OpRotateConnector, c1test.OpGetConnectorCredential} {
		e.c1.AddFault(c1test.Fault{Op: op, Delay: latency})
	}
	cfg, err := readConfig(context.Background(), e.disk())
	require.NoError(e, err)
	p := plan{
		schedule: s.schedule, config: *cfg, latency: latency,
		start: time.Now(), length: length, written: atOnce, keep: true,
	}
	e.bindMany(bindings, "rotation_period", seconds(s.schedule.Period), "rotation_schedule", s.schedule.Cron)
	require.NoError(e, walkStates(context.Background(), e.disk(), func(t *target.State) error {
		if t.Ref == identityRef {
			return nil
		}
		p.refs, p.names, p.splays = append(p.refs, t.Ref), append(p.names, e.nameOf(t.Ref)), append(p.splays, t.Splay)
		return nil
	}))
	if s.down > 0 {
		pass(20 * time.Hour)
		p.outages = []outage{{from: time.Now(), to: time.Now().Add(s.down)}}
		e.c1.SetDown(true)
		pass(s.down)
		e.c1.SetDown(false)
	}
	pass(time.Until(p.start.Add(length)))
	var all, simulated []time.Time
	turns := map[string][]time.Time{}
	for _, entry := range e.rotations() {
		turns[entry.Object] = append(turns[entry.Object], entry.Time)
		all = append(all, entry.Time)
	}

	c := simulate(p)
	require.Equal(e, len(all), c.rotations)
	require.Equal(e, e.c1.Requests(c1test.OpGetConnectorCredential), c.checks, "drift checks")
	var off, paced time.Duration
	for ref, its := range c.turns {
		for i, at := range its {
			off = max(off, at.Sub(turns[ref.ConnectorID][i]).Abs())
		}
		simulated = append(simulated, its...)
	}
	slices.SortFunc(simulated, time.Time.Compare)
	for i, at := range simulated {
		paced = max(paced, at.Sub(all[i]).Abs())
	}
	e.Logf("%d bindings, %d rotations, %d drift checks: the simulation is off by at most %s for a target, and %s for the n-th of all",
		bindings, len(all), c.checks, off, paced)
	require.LessOrEqual(e, off, lateAfter)
	require.LessOrEqual(e, paced, 2*time.Second)
}
