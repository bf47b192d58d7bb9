// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"strings"
)

type kind int

const (
	heading kind = iota
	prompt       // a command
	output
	point // output that the reader should not miss
	gap   // output that is left out
)

// line is a line of the terminal.
type line struct {
	kind kind
	text string
}

// pick takes from what the demo printed the lines that the story shows, screen by screen.
func pick(story [][]step, printed string) ([][]line, error) {
	rest := strings.Split(printed, "\n")
	var screens [][]line
	for _, steps := range story {
		var screen []line
		for _, s := range steps {
			found := find(rest, func(l string) bool { return l == s.heading })
			if found < 0 {
				return nil, fmt.Errorf("the demo has no step %q here: see tools/record/story.go", s.heading)
			}
			screen = append(screen, line{heading, s.heading})
			rest = rest[found+1:]
			for _, c := range s.commands {
				found := find(rest, func(l string) bool { return strings.HasPrefix(l, "$ ") && strings.Contains(l, c.contains) })
				if found < 0 {
					return nil, fmt.Errorf("the demo's step %q has no command %q: see tools/record/story.go", s.heading, c.contains)
				}
				shown, err := c.pick(rest[found:])
				if err != nil {
					return nil, err
				}
				screen = append(screen, shown...)
				rest = rest[found+1:]
			}
		}
		screens = append(screens, screen)
	}
	return screens, nil
}

// pick takes a command and what is shown of its output from the lines that begin with
// it. The next command ends the output.
func (c command) pick(lines []string) ([]line, error) {
	shown := []line{{prompt, strings.TrimPrefix(lines[0], "$ ")}}
	lines = lines[1:]
	for _, begins := range c.output {
		found := find(lines, func(l string) bool {
			return strings.HasPrefix(l, "$ ") || strings.HasPrefix(strings.TrimLeft(l, " \t"), begins)
		})
		if found < 0 || strings.HasPrefix(lines[found], "$ ") {
			return nil, fmt.Errorf("the command %q of the demo prints no %q here: see tools/record/story.go", c.contains, begins)
		}
		if found > 0 {
			shown = append(shown, ellipsis(lines[0]))
		}
		l := line{output, strings.ReplaceAll(lines[found], "\t", "  ")}
		if begins == c.point {
			l.kind = point
		}
		shown = append(shown, l)
		lines = lines[found+1:]
	}
	if len(lines) > 0 && lines[0] != "" {
		shown = append(shown, ellipsis(lines[0]))
	}
	return shown, nil
}

// ellipsis stands for lines that are left out, where the first of them begins.
func ellipsis(first string) line {
	return line{gap, first[:len(first)-len(strings.TrimLeft(first, " "))] + "…"}
}

func find(lines []string, is func(string) bool) int {
	for i, l := range lines {
		if is(l) {
			return i
		}
	}
	return -1
}
