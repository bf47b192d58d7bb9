// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedianAndSpread(t *testing.T) {
	odd := Sample{3, 1, 2}
	require.InDelta(t, 2, odd.Median(), 0)
	require.Equal(t, Sample{3, 1, 2}, odd, "it stays in the order of the rounds")
	require.InDelta(t, 2.5, Sample{4, 1, 3, 2}.Median(), 0)
	lowest, highest := odd.Spread()
	require.InDelta(t, 1, lowest, 0)
	require.InDelta(t, 3, highest, 0)
	require.True(t, isNaN(Sample{}.Median()))
	lowest, highest = Sample{}.Spread()
	require.True(t, isNaN(lowest) && isNaN(highest))
}

func isNaN(x float64) bool { return number(x) == none }

func TestARatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	// The machine was ten times slower in the last round.
	c := Comparison{Ours: Sample{200, 220, 20}, Rival: "KV", Theirs: Sample{100, 100, 10}}
	require.Equal(t, Sample{2, 2.2, 2}, c.Ratios())
	require.InDelta(t, 2, c.Ratio(), 0)

	require.True(t, isNaN(Comparison{Ours: Sample{1}}.Ratio()))
	require.InDelta(t, 1, Comparison{Ours: Sample{0}, Rival: "KV", Theirs: Sample{0}}.Ratio(), 0)
}

func TestGoals(t *testing.T) {
	versus := func(ours, theirs float64, g *Goal) Comparison {
		return Comparison{Ours: Sample{ours}, Rival: "KV", Theirs: Sample{theirs}, Goal: g}
	}
	alone := func(ours float64, g *Goal) Comparison { return Comparison{Ours: Sample{ours}, Goal: g} }
	require.Equal(t, NoGoal, versus(1, 2, nil).Verdict())
	for name, c := range map[string]Comparison{
		"at least, just":    versus(180, 100, &Goal{AtLeast: 1.8}),
		"at most, just":     versus(100, 100, &Goal{AtMost: 1}),
		"alone":             alone(19, &Goal{AtMost: 20}),
		"alone, at least":   alone(21, &Goal{AtLeast: 20}),
		"none at all, of 0": alone(0, &Goal{}),
	} {
		require.Equal(t, Met, c.Verdict(), name)
	}
	for name, c := range map[string]Comparison{
		"at least":          versus(179, 100, &Goal{AtLeast: 1.8}),
		"at most":           versus(101, 100, &Goal{AtMost: 1}),
		"alone":             alone(21, &Goal{AtMost: 20}),
		"none at all, of 1": alone(1, &Goal{}),
		"nothing measured":  {Rival: "KV", Goal: &Goal{AtMost: 1}},
	} {
		require.Equal(t, Missed, c.Verdict(), name)
	}
}

func TestAGoalWithinTheSpreadIsOpen(t *testing.T) {
	rounds := func(g *Goal, ours ...float64) Verdict {
		return Comparison{Ours: ours, Rival: "KV", Theirs: Sample{100, 100, 100}, Goal: g}.Verdict()
	}
	most, least := &Goal{AtMost: 1.5}, &Goal{AtLeast: 0.95}
	require.Equal(t, Met, rounds(most, 140, 149, 150))
	require.Equal(t, Open, rounds(most, 140, 149, 151))
	require.Equal(t, Open, rounds(most, 140, 160, 170))
	require.Equal(t, Missed, rounds(most, 151, 160, 170))
	require.Equal(t, Met, rounds(least, 95, 99, 120))
	require.Equal(t, Open, rounds(least, 94, 99, 120))
	require.Equal(t, Missed, rounds(least, 90, 93, 94))
	require.Equal(t, Open, Comparison{Ours: Sample{9, 11}, Goal: &Goal{AtMost: 10}}.Verdict())
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 1: "1.00", 20: "20", 1.8: "1.80", 0.012345: "0.0123", 9.996: "10", 99.96: "100", 123.4: "123",
		999.6: "1,000", 12345: "12,300", 1234567: "1,230,000", -1234: "-1,230", -123: "-123",
	} {
		require.Equal(t, want, number(x))
	}
}

func sample() *Report {
	const reads, age = "Reading", "Ageing"
	return &Report{
		Comparisons: []Comparison{
			{
				Section: reads, Measure: "throughput", Unit: "reads/s", Goal: &Goal{AtLeast: 1.8},
				Ours: Sample{2000, 2200, 2100}, Rival: "KV v1", Theirs: Sample{1000, 1000, 1000},
			},
			{
				Section: reads, Measure: "p99", Unit: "ms", Goal: &Goal{AtMost: 1},
				Ours: Sample{4.5, 4, 5}, Rival: "KV v1|v2", Theirs: Sample{3, 3, 3},
			},
			{Section: age, Measure: "start", Unit: "ms", Goal: &Goal{AtMost: 10}, Ours: Sample{12}},
			{Section: age, Measure: "memory", Unit: "MiB", Ours: Sample{31}},
		},
		Plots: []Plot{{
			File: "reads.svg", Section: reads, Title: "Reads", X: "clients", Y: "reads/s", LogX: true, LogY: true,
			Series: []Series{
				{Name: "ours", X: []float64{1, 4}, Y: []Sample{{100, 110, 90}, {300}}},
				{Name: "nothing", X: []float64{1}, Y: []Sample{{0}}},
			},
		}},
		Notes: []Note{
			{Section: reads, Text: "Both hold the same."},
			{Section: reads, Unmet: "throughput", Text: "This would say why."},
			{Section: reads, Unmet: "p99", Text: "This says why."},
		},
	}
}

const wantMarkdown = `## The machine, the versions, the commands

|  |  |
|---|---|
| when | 2026-01-02 03:04 UTC |
| programme | full |
| processor | A CPU, 2 cores |
| memory | 8 GiB |
| kernel | Linux 6 |
| Go | go1.26 |
| Vault | Vault v1 |
| kv | v0.1.0 |

` + "<!-- not run: it measures for minutes -->\n```\nmake bench-full\n```" + `

## Summary

Of 3 goals 1 are met, 2 are missed and 0 are open.

| measure | beside | ours | theirs | ratio | goal | met |
|---|---|---|---|---|---|---|
| **Reading** |  |  |  |  |  |  |
| throughput | KV v1 | 2,100 reads/s | 1,000 reads/s | 2.10 (2.00–2.20) | ≥ 1.8 | yes |
| p99 | KV v1\|v2 | 4.50 ms | 3.00 ms | 1.50 (1.33–1.67) | ≤ 1 | **no** |
| **Ageing** |  |  |  |  |  |  |
| start | – | 12 ms | – | – | ≤ 10 ms | **no** |
| memory | – | 31 MiB | – | – | – | – |

## Reading

Medians, with the lowest and the highest round in brackets:

| measure | unit | ours | beside | theirs | ratio |
|---|---|---|---|---|---|
| throughput | reads/s | 2,100 (2,000–2,200) | KV v1 | 1,000 (1,000–1,000) | 2.10 (2.00–2.20) |
| p99 | ms | 4.50 (4.00–5.00) | KV v1\|v2 | 3.00 (3.00–3.00) | 1.50 (1.33–1.67) |

![Reads](benchmarks/reads.svg)

Both hold the same.

**Not met in all rounds: p99 (beside KV v1|v2).** This says why.

## Ageing

Medians, with the lowest and the highest round in brackets:

| measure | unit | ours | beside | theirs | ratio |
|---|---|---|---|---|---|
| start | ms | 12 | – | – | – |
| memory | MiB | 31 | – | – | – |

**Not met in all rounds: start.** There is no explanation yet.
`

func TestMarkdown(t *testing.T) {
	var out strings.Builder
	require.NoError(t, sample().WriteMarkdown(&out, RunInfo{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Full: true, CPU: "A CPU", Cores: 2, Memory: "8 GiB",
		Kernel: "Linux 6", Go: "go1.26", Vault: "Vault v1", Versions: []Version{{"kv", "v0.1.0"}},
		Commands: []string{"make bench-full"},
	}))
	require.Equal(t, introduction+wantMarkdown, out.String())
}

const wantTable = `Reading
measure     beside    ours           theirs         ratio             goal   met
throughput  KV v1     2,100 reads/s  1,000 reads/s  2.10 (2.00–2.20)  ≥ 1.8  yes
p99         KV v1|v2  4.50 ms        3.00 ms        1.50 (1.33–1.67)  ≤ 1    NO

Ageing
measure  beside  ours    theirs  ratio  goal     met
start    –       12 ms   –       –      ≤ 10 ms  NO
memory   –       31 MiB  –       –      –        –

Of 3 goals 1 are met, 2 are missed and 0 are open.
`

func TestTable(t *testing.T) {
	var out strings.Builder
	require.NoError(t, sample().WriteTable(&out))
	require.Equal(t, wantTable, out.String())
}

func TestSVG(t *testing.T) {
	p := sample().Plots[0]
	var first, second bytes.Buffer
	require.NoError(t, p.WriteSVG(&first))
	require.NoError(t, p.WriteSVG(&second))
	require.Equal(t, first.String(), second.String(), "a run with the same figures changes no picture")
	require.Contains(t, first.String(), ">ours</text>")
	require.NotContains(t, first.String(), ">nothing</text>", "0 has no place on a logarithmic axis")
	for d := xml.NewDecoder(&first); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.NoError(t, Plot{}.WriteSVG(io.Discard))
}
