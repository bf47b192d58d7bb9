// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

var scaleBindings = flag.Int("scale.bindings", 1_000_000, "bindings of BenchmarkAYearOfAMillionBindings")

var scaleWrite = flag.String("scale.write", "", "write the tables of BenchmarkAYearOfAMillionBindings into this Markdown file, between its markers")

// BenchmarkAYearOfAMillionBindings plays what docs/scale.md shows:
//
//	go test -run '^$' -bench AYearOfAMillion -benchtime 1x . -scale.write docs/scale.md
func BenchmarkAYearOfAMillionBindings(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(200))
	for range b.N {
		began := time.Now()
		v := viewOf(*scaleBindings)
		all := v.play()
		if *scaleWrite != "" {
			require.NoError(b, writeBetween(*scaleWrite, v.markdown()))
		}
		rotations, simulated := 0, time.Duration(0)
		for _, c := range all {
			rotations += c.rotations
			simulated += c.length
		}
		whole := v.courses[0].course
		b.Logf("%d simulations of %.0f days in all, %d rotations, in %s", len(all), simulated.Hours()/24, rotations, time.Since(began).Round(time.Second))
		b.ReportMetric(float64(whole.rotations), "rotations/year")
		b.ReportMetric(whole.meanPerMinute(), "mean-rotations/minute")
		b.ReportMetric(float64(slices.Max(whole.perMinute)), "peak-rotations/minute")
		b.ReportMetric(whole.late.Seconds(), "worst-s-late")
	}
}

// view is all that the tables show.
type view struct {
	refs    []target.Ref
	courses []*row // the same bindings, written in different ways
	outages []*row
	checks  []*row
}

// row is one simulation and what its row begins with.
type row struct {
	words []string
	plan  plan
	*course
}

func viewOf(bindings int) *view {
	v := &view{refs: connectorsAt(bindings)}
	keysOf(plan{refs: v.refs})
	base := func(sched target.Schedule, cfg config, length time.Duration) plan {
		return plan{
			refs: v.refs, schedule: sched, config: cfg, latency: 200 * time.Millisecond,
			start: simulatedStart, length: length, written: within(bindings, time.Hour), rotated: true,
		}
	}
	written := func(sched target.Schedule, words, how string, cfg config, length time.Duration, spread func(int) time.Duration) {
		p := base(sched, cfg, length)
		p.written = spread
		v.courses = append(v.courses, &row{words: append([]string{words, how}, pace(cfg)...), plan: p})
	}
	hour, tenPerSecond := within(bindings, time.Hour), within(bindings, time.Duration(bindings)*100*time.Millisecond)
	usual, fast := limits(8, 50, 0), limits(32, 150, 0)
	written(target.Schedule{Period: 30 * day}, "30 d", "within an hour", usual, year, hour)
	written(target.Schedule{Period: 30 * day}, "30 d", "within a minute", usual, 95*day, within(bindings, time.Minute))
	written(target.Schedule{Period: 30 * day}, "30 d", "10 per second", usual, 95*day, tenPerSecond)
	written(target.Schedule{Period: 90 * day}, "90 d", "within an hour", usual, year, hour)
	written(target.Schedule{Period: day}, "1 d", "within an hour", usual, 10*day+2*time.Hour, hour)
	written(target.Schedule{Period: day}, "1 d", "within an hour", fast, 10*day+2*time.Hour, hour)
	written(target.Schedule{Period: day}, "1 d", "10 per second", usual, 4*day+4*time.Hour, tenPerSecond)
	written(target.Schedule{Cron: "0 3 * * 6"}, "cron, once a week", "within an hour", usual, 7*day, hour)

	for _, period := range []time.Duration{day, 30 * day, 90 * day} {
		for _, workers := range []int{8, 32} {
			for _, perSecond := range []float64{0, 50, 150} {
				cfg := limits(workers, perSecond, 0)
				p := base(target.Schedule{Period: period}, cfg, 54*time.Hour)
				p.written, p.firstTurn = atOnce, steady(v.refs, p.schedule)
				short, long := simulatedStart.Add(time.Hour), simulatedStart.Add(18*time.Hour)
				p.outages = []outage{{short, short.Add(time.Hour)}, {long, long.Add(day)}}
				v.outages = append(v.outages, &row{words: append([]string{fmt.Sprintf("%.0f d", period.Hours()/24)}, pace(cfg)...), plan: p})
			}
		}
	}

	for _, check := range []struct {
		every  time.Duration
		words  string
		length time.Duration
	}{{0, "0 (never)", 5 * day}, {day, "24 h", 5 * day}, {7 * day, "7 d", 20 * day}} {
		cfg := limits(32, 50, check.every)
		v.checks = append(v.checks, &row{words: append([]string{"30 d", check.words}, pace(cfg)...), plan: base(target.Schedule{Period: 30 * day}, cfg, check.length)})
	}
	return v
}

func pace(cfg config) []string {
	return []string{strconv.Itoa(cfg.RotationWorkers), strconv.FormatFloat(cfg.MaxRequestsPerSecond, 'f', -1, 64)}
}

// play runs all of it, one simulation per processor at a time.
func (v *view) play() []*course {
	rows := slices.Concat(v.courses, v.outages, v.checks)
	group := errgroup.Group{}
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, r := range rows {
		group.Go(func() error {
			r.course = simulate(r.plan)
			return nil
		})
	}
	_ = group.Wait()
	all := make([]*course, len(rows))
	for i, r := range rows {
		all[i] = r.course
	}
	return all
}

func (v *view) markdown() string {
	var md strings.Builder
	table := func(title string, columns ...string) {
		fmt.Fprintf(&md, "\n**%s**\n\n| %s |\n|%s\n", title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	}
	line := func(cells ...string) { fmt.Fprintf(&md, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&md, "%s bindings; C1 answers in 200 ms; no drift checks but in the last table.\n", thousands(len(v.refs)))

	table("Rotations of a mount whose bindings were written together",
		"rotation_period", "written", "workers", "max_requests_per_second", "simulated", "rotations", "per minute, long run", "per minute, peak", "largest backlog", "worst lateness", "late by more than 10 s", "more than a tenth early")
	for _, r := range v.courses {
		early, mean := "nobody", "–"
		if r.schedule.Period > 0 {
			mean = fmt.Sprintf("%.1f", r.meanPerMinute())
		}
		if r.earliest < 0.9 {
			early = "yes"
		}
		line(append(r.words, days(r.length), thousands(r.rotations), mean, thousands(int(slices.Max(r.perMinute))),
			thousands(r.largestBacklog()), short(r.late), thousands(r.overdue), early)...)
	}

	periods := []int{1, 2, 3, 5, 8, 10, 12}
	columns := []string{"rotation_period", "written", "workers", "max_requests_per_second"}
	for _, k := range periods {
		columns = append(columns, fmt.Sprintf("period %d", k))
	}
	table("How they drift apart: the busiest 720th of a period, as a multiple of the long-run rate (periods count from the last write)", columns...)
	for _, r := range v.courses {
		if r.schedule.Period == 0 {
			continue
		}
		cells := r.words
		for _, k := range periods {
			from := r.written(len(r.refs)-1) + time.Duration(k-1)*r.schedule.Period
			to := from + r.schedule.Period
			if to > r.length {
				cells = append(cells, "")
				continue
			}
			cells = append(cells, fmt.Sprintf("%.1f", r.busiest(from, to, int(r.schedule.Period/time.Minute/720))))
		}
		line(cells...)
	}

	table("An outage of C1, in a mount that is in its long run", "rotation_period", "workers", "max_requests_per_second", "rotations per second, long run",
		"backlog after 1 h", "gone after", "backlog after 24 h", "gone after", "rotations per second in the drain", "worst lateness")
	for _, r := range v.outages {
		cells := slices.Concat(r.words, []string{fmt.Sprintf("%.2f", r.meanPerMinute()/60)})
		for _, o := range r.plan.outages {
			cells = append(cells, thousands(r.backlogAt(o.to)), short(r.drained(o.to)))
		}
		last := r.plan.outages[1].to
		peak := slices.Max(r.perMinute[r.slot(last):])
		line(append(cells, fmt.Sprintf("%.1f", float64(peak)/60), short(r.late))...)
	}

	table("Drift checks: requests of a mount whose bindings were written within an hour", "rotation_period", "drift_check_period", "workers", "max_requests_per_second", "simulated",
		"drift checks", "rotations", "requests per second, last day", "per second, busiest minute", "largest backlog")
	for _, r := range v.checks {
		last := 0
		from := r.slot(r.start.Add(r.length - day))
		for _, n := range r.asked[from : from+24*60] {
			last += int(n)
		}
		line(append(r.words, days(r.length), thousands(r.checks), thousands(r.rotations), fmt.Sprintf("%.1f", float64(last)/day.Seconds()),
			fmt.Sprintf("%.1f", float64(slices.Max(r.asked))/60), thousands(r.largestBacklog()))...)
	}
	return md.String()
}

func days(d time.Duration) string { return fmt.Sprintf("%.0f d", d.Hours()/24) }

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short is a duration as one reads it.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "not within the simulation"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}

const (
	simulatedBegin = "<!-- simulated: begin -->"
	simulatedEnd   = "<!-- simulated: end -->"
)

// writeBetween puts a text between the markers of a file.
func writeBetween(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), simulatedBegin)
	_, after, ended := strings.Cut(rest, simulatedEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no markers %s and %s", file, simulatedBegin, simulatedEnd)
	}
	return os.WriteFile(file, []byte(before+simulatedBegin+"\n"+text+"\n"+simulatedEnd+after), 0o644)
}
