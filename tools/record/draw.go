// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The terminal's measures: at its own size it fits a README on GitHub.
const (
	columns   = 92
	rowHeight = 19
	gapHeight = 12
	spacing   = 11 // above a command
	margin    = 20
	titleBar  = 42
	width     = 2*margin + columns*17/2 // no common monospace font is wider at 14 px
)

// For how many milliseconds a reader has what is new.
const (
	perCommand = 1100
	perLine    = 450  // of output
	perScreen  = 2500 // besides
)

// It draws its own background, for a light page as for a dark one.
const top = `<?xml version="1.0" encoding="UTF-8"?>
<!-- Copyright (c) The vault-plugin-c1 authors
     SPDX-License-Identifier: MPL-2.0
     Made by: make recording. Do not edit. -->
<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" xml:space="preserve">
<title>The demo of vault-plugin-c1</title>
<style>
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;font-size:14px;fill:#b4bdc8;white-space:pre}
.heading{fill:#79c0ff;font-weight:bold}
.prompt{fill:#f0f6fc}
.sign,.good{fill:#56d364}
.bad{fill:#ff7b72}
.point{fill:#e3b341}
.gap,.title{fill:#8b949e}
@media (prefers-reduced-motion:no-preference){
%[3]s}
</style>
<rect x="1" y="1" width="%[4]d" height="%[5]d" rx="9" fill="#161b22" stroke="#3d444d" stroke-width="2"/>
<circle cx="22" cy="20" r="6" fill="#ff5f57"/><circle cx="42" cy="20" r="6" fill="#febc2e"/><circle cx="62" cy="20" r="6" fill="#28c840"/>
<text x="%[6]d" y="25" text-anchor="middle" class="title">make demo (abridged)</text>
`

// part is what turns up at once: a command with the heading above it, or its output.
type part struct {
	svg  string
	wait int // milliseconds, until the next one
}

// draw makes an SVG that shows the screens one after the other, each of them part by
// part, and then begins anew. It needs no script and nothing from elsewhere: an <img>
// shows it. For readers who want no motion, and where there is none, it is the last screen.
func draw(screens [][]line) string {
	parts := make([][]part, len(screens))
	height, total := 0, 0
	for i, screen := range screens {
		var bottom int
		parts[i], bottom = layOut(screen)
		height = max(height, bottom)
		for _, p := range parts[i] {
			total += p.wait
		}
	}

	var body, motion strings.Builder
	now := 0
	percent := func() string { return fmt.Sprintf("%d.%02d%%", 100*now/total, 10000*now/total%100) }
	// With step-end a frame lasts until the next one.
	frames := func(name, frames string) {
		fmt.Fprintf(&motion, ".%s{animation:%s %dms step-end infinite}@keyframes %s{%s}\n", name, name, total, name, frames)
	}
	for i, screen := range parts {
		name, still := fmt.Sprintf("s%d", i+1), ` opacity="0"`
		if i == len(parts)-1 {
			still = ""
		}
		fmt.Fprintf(&body, "<g class=\"%s\"%s>\n", name, still)
		fmt.Fprintf(&body, "<text x=\"%d\" y=\"25\" text-anchor=\"end\" class=\"title\">%d/%d</text>\n", width-margin, i+1, len(parts))
		begins := percent()
		for j, p := range screen {
			part := fmt.Sprintf("%sp%d", name, j+1)
			fmt.Fprintf(&body, "<g class=\"%s\">\n%s</g>\n", part, p.svg)
			if j > 0 {
				frames(part, "0%{opacity:0}"+percent()+"{opacity:1}")
			}
			now += p.wait
		}
		body.WriteString("</g>\n")
		frames(name, "0%{opacity:0}"+begins+"{opacity:1}"+percent()+"{opacity:0}")
	}
	height += margin
	return fmt.Sprintf(top, width, height, motion.String(), width-2, height-2, width/2) + body.String() + "</svg>\n"
}

// layOut places the lines of a screen, and says where they end.
func layOut(screen []line) (parts []part, bottom int) {
	y := titleBar
	for i, l := range screen {
		before := gap
		if i > 0 {
			before = screen[i-1].kind
		}
		command := l.kind == heading || l.kind == prompt
		if i == 0 || before == prompt || command && before != heading {
			parts = append(parts, part{})
		}
		p := &parts[len(parts)-1]
		switch {
		case l.kind == heading && i > 0:
			y += 2 * spacing
		case l.kind == prompt:
			y += spacing
		}
		for n, row := range wrap(l) {
			if l.kind == gap {
				y += gapHeight
			} else {
				y += rowHeight
			}
			p.svg += text(l, n, row, y-5)
		}
		switch l.kind {
		case heading, prompt:
			p.wait = perCommand
		case output, point:
			p.wait += perLine
		}
	}
	parts[len(parts)-1].wait += perScreen
	return parts, y
}

// wrap breaks a line that is too long for the terminal, a command in the way of the shell.
func wrap(l line) []string {
	more, room := "", columns
	if l.kind == prompt {
		more, room = ` \`, columns-2 // beside the sign
	}
	var rows []string
	rest := l.text
	for utf8.RuneCountInString(rest) > room {
		fits := string([]rune(rest)[:room-len(more)+1])
		cut := strings.LastIndex(fits, " -") // an option stays with its value
		if cut < len(fits)/2 {
			cut = strings.LastIndex(fits, " ")
		}
		if strings.TrimSpace(rest[:max(cut, 0)]) == "" {
			break // one long word
		}
		rows = append(rows, rest[:cut]+more)
		rest = "    " + rest[cut+1:]
	}
	return append(rows, rest)
}

var (
	good   = regexp.MustCompile(`^(Success!|login succeeded)`)
	bad    = regexp.MustCompile(`^(Error |login failed)`)
	escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
)

// text draws the nth row of a line.
func text(l line, n int, row string, y int) string {
	class := map[kind]string{heading: "heading", prompt: "prompt", point: "point", gap: "gap"}[l.kind]
	switch {
	case l.kind == output && good.MatchString(l.text):
		class = "good"
	case l.kind == output && bad.MatchString(l.text):
		class = "bad"
	}
	if class != "" {
		class = ` class="` + class + `"`
	}
	row = escape.Replace(row)
	if l.kind == prompt && n == 0 {
		row = `<tspan class="sign">$</tspan> ` + row
	} else if l.kind == prompt {
		row = "  " + row
	}
	return fmt.Sprintf("<text x=\"%d\" y=\"%d\"%s>%s</text>\n", margin, y, class, row)
}
