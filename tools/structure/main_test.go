// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"slices"
	"testing"
)

func TestUpward(t *testing.T) {
	for name, c := range map[string]struct {
		edges []edge
		want  int
	}{
		"a chain":      {[]edge{{"a", "b"}, {"b", "c"}, {"a", "c"}}, 0},
		"a cycle":      {[]edge{{"a", "b"}, {"b", "c"}, {"c", "a"}}, 1},
		"two cycles":   {[]edge{{"a", "b"}, {"b", "a"}, {"c", "d"}, {"d", "c"}, {"a", "c"}}, 2},
		"shared edge":  {[]edge{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"b", "d"}, {"d", "a"}}, 1},
		"all with all": {[]edge{{"a", "b"}, {"b", "a"}, {"a", "c"}, {"c", "a"}, {"b", "c"}, {"c", "b"}}, 3},
	} {
		if got := len(upward(slices.Clone(c.edges))); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestMeasureItself(t *testing.T) {
	pkgs, err := load(".", []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	s := measure(pkgs[0])
	if s.files != 1 || s.lines < 100 || s.code < 80 || s.longest < 10 || len(s.edges) != 0 {
		t.Errorf("of this package: %+v", s)
	}
}
