// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package bench measures the engine beside what users would pick instead: on
// real servers, in alternation, in one run on one machine. Run it by `make
// bench` or `make bench-full`.
package bench

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

var (
	full  = flag.Bool("full", false, "the whole programme, up to an hour, instead of some minutes")
	write = flag.String("write", "", "write the report to this Markdown file, with its plots beside it in benchmarks/")
)

func TestMain(m *testing.M) { vaulttest.Main(m, finish) }

// finish prints what was measured, and writes it where -write says, unless a
// part of it is missing.
func finish(passed bool) error {
	if len(results.report.Comparisons) == 0 {
		return nil
	}
	inOrder(results.report.Comparisons, func(c report.Comparison) string { return c.Section })
	inOrder(results.report.Plots, func(p report.Plot) string { return p.Section })
	inOrder(results.report.Notes, func(n report.Note) string { return n.Section })
	fmt.Println()
	if err := results.report.WriteTable(os.Stdout); err != nil {
		return err
	}
	if *write == "" || !passed {
		return nil
	}
	return writeReport(&results.report, *write)
}

// sections are in the order of the report: what users do all day comes first.
var sections = []string{
	sectionReads, sectionProxy, sectionLeased, sectionOverhead, sectionScheduled, sectionStart, sectionStorm, sectionTokens, sectionProcess,
}

// inOrder sorts by section, and leaves what stands in one as it was measured.
func inOrder[T any](list []T, section func(T) string) {
	slices.SortStableFunc(list, func(a, b T) int {
		return cmp.Compare(slices.Index(sections, section(a)), slices.Index(sections, section(b)))
	})
}

// writeReport replaces a report and its plots.
func writeReport(r *report.Report, path string) error {
	info, err := runInfo()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := r.WriteMarkdown(&text, info); err != nil {
		return err
	}
	plots := filepath.Join(filepath.Dir(path), report.PlotDir)
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(plots, "*.svg"))
	if err != nil {
		return err
	}
	for _, file := range stale {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	for _, p := range r.Plots {
		var svg bytes.Buffer
		if err := p.WriteSVG(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(plots, p.File), svg.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// results are what the benchmarks of this process have measured so far.
var results struct {
	mu     sync.Mutex
	report report.Report
}

func compare(c report.Comparison) {
	results.mu.Lock()
	defer results.mu.Unlock()
	results.report.Comparisons = append(results.report.Comparisons, c)
}

func plot(p report.Plot) {
	results.mu.Lock()
	defer results.mu.Unlock()
	results.report.Plots = append(results.report.Plots, p)
}

func note(n report.Note) {
	results.mu.Lock()
	defer results.mu.Unlock()
	results.report.Notes = append(results.report.Notes, n)
}

// alternate measures each side once per round, A B A B …, so that whatever
// slows the machine for a while slows both. It returns one sample per side.
func alternate(b *testing.B, rounds int, sides ...func(b *testing.B) float64) []report.Sample {
	b.Helper()
	samples := make([]report.Sample, len(sides))
	for range rounds {
		for i, measure := range sides {
			samples[i] = append(samples[i], measure(b))
		}
	}
	return samples
}
