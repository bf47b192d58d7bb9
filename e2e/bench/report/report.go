// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package report holds what the benchmarks measured and writes it as Markdown
// tables and SVG plots.
package report

import (
	"math"
	"slices"
)

// Sample are the values that one side reached, one per round.
type Sample []float64

// Median returns NaN when there are no values.
func (s Sample) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Spread returns the lowest and the highest value.
func (s Sample) Spread() (lowest, highest float64) {
	if len(s) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(s), slices.Max(s)
}

// Goal is a bound on the ratio ours/theirs, or on ours where there is nothing
// to compare it with. One of both is set.
type Goal struct {
	AtLeast float64
	AtMost  float64
}

func (g Goal) metBy(value float64) bool {
	if g.AtLeast != 0 {
		return value >= g.AtLeast
	}
	return value <= g.AtMost
}

// Comparison is one row of the table.
type Comparison struct {
	Section string // heading under which the row stands, e.g. "Reading a scheduled binding"
	Measure string // what was measured, e.g. "throughput, 16 clients"
	Unit    string // of the values, e.g. "reads/s"
	Ours    Sample
	Rival   string // against whom, e.g. "KV v2, external"; "" for nobody
	Theirs  Sample // round for round beside Ours; nil if Rival is ""
	Goal    *Goal  // nil: reported without a goal
}

// Ratios returns ours/theirs, round for round: what slowed a round slowed both.
func (c Comparison) Ratios() Sample {
	ratios := make(Sample, min(len(c.Ours), len(c.Theirs)))
	for i := range ratios {
		ratios[i] = c.Ours[i] / c.Theirs[i]
		if c.Ours[i] == c.Theirs[i] {
			ratios[i] = 1 // also where both are 0
		}
	}
	return ratios
}

// Ratio returns the median of Ratios, NaN where there is no rival.
func (c Comparison) Ratio() float64 { return c.Ratios().Median() }

// Verdict is what a run says of a goal.
type Verdict int

// A goal counts as met or missed only where all rounds agree.
const (
	NoGoal Verdict = iota
	Met            // by each round
	Missed         // by each round, or nothing was measured
	Open           // the goal lies within the spread of the rounds
)

// Verdict says what the rounds say of the goal.
func (c Comparison) Verdict() Verdict {
	if c.Goal == nil {
		return NoGoal
	}
	rounds := c.Ratios()
	if c.Rival == "" {
		rounds = c.Ours
	}
	met := 0
	for _, value := range rounds {
		if c.Goal.metBy(value) {
			met++
		}
	}
	switch {
	case met == 0:
		return Missed
	case met == len(rounds):
		return Met
	default:
		return Open
	}
}

// unmet reports whether there is something to explain.
func (c Comparison) unmet() bool { return c.Verdict() == Missed || c.Verdict() == Open }

// Series is one line of a plot: Y[i] was reached at X[i].
type Series struct {
	Name string
	X    []float64
	Y    []Sample
}

// Plot is one picture.
type Plot struct {
	File    string // name of the SVG, e.g. "reads-throughput.svg"
	Section string // heading under which it stands
	Title   string
	X, Y    string // labels of the axes
	LogX    bool
	LogY    bool
	Series  []Series
}

// Note is a remark under a section: how something was measured, or what bounds
// a result. A note for a goal that is missed or open names its Measure and is
// printed only then.
type Note struct {
	Section string
	Unmet   string // Measure whose goal must be unmet for the note to be printed; "" prints always
	Text    string // Markdown
}

// Report is a whole run.
type Report struct {
	Comparisons []Comparison
	Plots       []Plot
	Notes       []Note
}
