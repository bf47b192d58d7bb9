// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// PlotDir is the directory of the plots, beside the Markdown file.
const PlotDir = "benchmarks"

// RunInfo is what a reader needs to judge a run and to repeat it.
type RunInfo struct {
	Time     time.Time
	Full     bool // or the quick programme
	CPU      string
	Cores    int
	Memory   string
	Kernel   string
	Go       string
	Vault    string
	Versions []Version // of the engine, the rivals and what they are built on
	Commands []string
}

// Version is that of one module.
type Version struct{ Name, Version string }

func (i RunInfo) programme() string {
	if i.Full {
		return "full"
	}
	return "quick: fewer and shorter rounds, to be read as a hint"
}

const introduction = `# Benchmarks

The engine beside what users would pick instead, on real servers. The sides take
turns within one run on one machine, so that whatever slows one slows all. A value
is the median of the rounds, a ratio is the median of ours/theirs round for round.
A goal is a bound on the ratio, or on ours where nobody is beside. It is met or missed
only if all rounds say so; else it lies within the spread of the rounds, and is open.
This file is written by ` + "`make bench`" + ` and, with
more rounds and bindings, by ` + "`make bench-full`" + `.

`

// WriteMarkdown writes the whole report. Its plots are expected in PlotDir.
func (r *Report) WriteMarkdown(w io.Writer, info RunInfo) error {
	var out bytes.Buffer
	out.WriteString(introduction)
	info.write(&out)
	r.writeSummary(&out)
	for _, section := range r.sections() {
		r.writeSection(&out, section)
	}
	_, err := w.Write(append(bytes.TrimRight(out.Bytes(), "\n"), '\n'))
	return err
}

func (i RunInfo) write(out *bytes.Buffer) {
	out.WriteString("## The machine, the versions, the commands\n\n")
	rows := [][]string{
		{"when", i.Time.UTC().Format("2006-01-02 15:04 MST")},
		{"programme", i.programme()},
		{"processor", fmt.Sprintf("%s, %d cores", i.CPU, i.Cores)},
		{"memory", i.Memory},
		{"kernel", i.Kernel},
		{"Go", i.Go},
		{"Vault", i.Vault},
	}
	for _, v := range i.Versions {
		rows = append(rows, []string{v.Name, v.Version})
	}
	writeTable(out, []string{"", ""}, rows)
	if len(i.Commands) > 0 {
		fmt.Fprintf(out, "<!-- not run: it measures for minutes -->\n```\n%s\n```\n\n", strings.Join(i.Commands, "\n"))
	}
}

var summaryHead = []string{"measure", "beside", "ours", "theirs", "ratio", "goal", "met"}

// summary returns the row of a comparison. no is the word for a missed goal.
func summary(c Comparison, no string) []string {
	return []string{
		c.Measure, orNone(c.Rival), withUnit(c.Ours.Median(), c.Unit), withUnit(c.Theirs.Median(), c.Unit),
		spread(c.Ratios()), goal(c), met(c, no),
	}
}

func (r *Report) writeSummary(out *bytes.Buffer) {
	out.WriteString("## Summary\n\n")
	out.WriteString(r.verdict() + "\n\n")
	var rows [][]string
	for _, section := range r.sections() {
		comparisons := r.comparisons(section)
		if len(comparisons) == 0 {
			continue
		}
		rows = append(rows, []string{"**" + section + "**", "", "", "", "", "", ""})
		for _, c := range comparisons {
			rows = append(rows, summary(c, "**no**"))
		}
	}
	writeTable(out, summaryHead, rows)
}

// verdict counts the goals.
func (r *Report) verdict() string {
	count := map[Verdict]int{}
	for _, c := range r.Comparisons {
		count[c.Verdict()]++
	}
	goals := count[Met] + count[Missed] + count[Open]
	if goals == 0 {
		return "Nothing here has a goal."
	}
	return fmt.Sprintf("Of %d goals %d are met, %d are missed and %d are open.", goals, count[Met], count[Missed], count[Open])
}

func (r *Report) writeSection(out *bytes.Buffer, section string) {
	fmt.Fprintf(out, "## %s\n\n", section)
	var rows [][]string
	for _, c := range r.comparisons(section) {
		rows = append(rows, []string{
			c.Measure, orNone(c.Unit), spread(c.Ours), orNone(c.Rival), spread(c.Theirs), spread(c.Ratios()),
		})
	}
	if rows != nil {
		out.WriteString("Medians, with the lowest and the highest round in brackets:\n\n")
		writeTable(out, []string{"measure", "unit", "ours", "beside", "theirs", "ratio"}, rows)
	}
	for _, p := range r.Plots {
		if p.Section == section {
			fmt.Fprintf(out, "![%s](%s/%s)\n\n", p.Title, PlotDir, p.File)
		}
	}
	for _, n := range r.Notes {
		if n.Section == section && n.Unmet == "" {
			out.WriteString(n.Text + "\n\n")
		}
	}
	for _, measure := range r.unmet(section) {
		fmt.Fprintf(out, "**Not met in all rounds: %s%s.** %s\n\n", measure, r.unmetBeside(section, measure), r.explanation(section, measure))
	}
}

// unmet returns the measures of a section of which a goal is missed or open.
func (r *Report) unmet(section string) []string {
	var measures []string
	for _, c := range r.comparisons(section) {
		if c.unmet() {
			measures = appendNew(measures, c.Measure)
		}
	}
	return measures
}

// unmetBeside names the rivals beside whom a measure's goal is missed or open.
func (r *Report) unmetBeside(section, measure string) string {
	var rivals []string
	for _, c := range r.comparisons(section) {
		if c.Measure == measure && c.unmet() && c.Rival != "" {
			rivals = appendNew(rivals, c.Rival)
		}
	}
	if rivals == nil {
		return ""
	}
	return " (beside " + strings.Join(rivals, "; ") + ")"
}

func (r *Report) explanation(section, measure string) string {
	var texts []string
	for _, n := range r.Notes {
		if n.Section == section && n.Unmet == measure {
			texts = append(texts, n.Text)
		}
	}
	if texts == nil {
		return "There is no explanation yet."
	}
	return strings.Join(texts, "\n\n")
}

// WriteTable writes the summary for a terminal.
func (r *Report) WriteTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells []string) { _, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) } // Flush has the error
	for i, section := range r.sections() {
		comparisons := r.comparisons(section)
		if len(comparisons) == 0 {
			continue
		}
		if i > 0 {
			line(nil)
		}
		line([]string{section})
		line(summaryHead)
		for _, c := range comparisons {
			line(summary(c, "NO"))
		}
	}
	line(nil)
	line([]string{r.verdict()})
	return table.Flush()
}

// sections returns the headings in order of their first appearance.
func (r *Report) sections() []string {
	var sections []string
	for _, c := range r.Comparisons {
		sections = appendNew(sections, c.Section)
	}
	for _, p := range r.Plots {
		sections = appendNew(sections, p.Section)
	}
	for _, n := range r.Notes {
		sections = appendNew(sections, n.Section)
	}
	return sections
}

func (r *Report) comparisons(section string) []Comparison {
	var own []Comparison
	for _, c := range r.Comparisons {
		if c.Section == section {
			own = append(own, c)
		}
	}
	return own
}

func appendNew(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// cellText keeps a cell from ending early or being taken for HTML.
var cellText = strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")

func writeTable(out *bytes.Buffer, head []string, rows [][]string) {
	writeRow(out, head)
	out.WriteString("|" + strings.Repeat("---|", len(head)) + "\n")
	for _, row := range rows {
		writeRow(out, row)
	}
	out.WriteString("\n")
}

func writeRow(out *bytes.Buffer, cells []string) {
	out.WriteString("|")
	for _, cell := range cells {
		out.WriteString(" " + cellText.Replace(cell) + " |")
	}
	out.WriteString("\n")
}
