// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// none stands where a table has nothing to say.
const none = "–"

// number writes three significant digits, with commas between the thousands.
func number(x float64) string {
	switch {
	case math.IsNaN(x):
		return none
	case math.IsInf(x, 0):
		return "∞"
	case x == 0:
		return "0"
	}
	// To round first, since 999.6 has one digit more than it seems.
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	if x == math.Trunc(x) && math.Abs(x) >= 10 {
		decimals = 0
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(x, 'f', decimals, 64), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

func withUnit(x float64, unit string) string {
	if unit == "" || math.IsNaN(x) {
		return number(x)
	}
	return number(x) + " " + unit
}

// spread writes a sample as its median (lowest–highest).
func spread(s Sample) string {
	if len(s) < 2 {
		return number(s.Median())
	}
	lowest, highest := s.Spread()
	return fmt.Sprintf("%s (%s–%s)", number(s.Median()), number(lowest), number(highest))
}

// goal writes a comparison's bound, of the ratio or of ours.
func goal(c Comparison) string {
	if c.Goal == nil {
		return none
	}
	sign, bound := "≤", c.Goal.AtMost
	if c.Goal.AtLeast != 0 {
		sign, bound = "≥", c.Goal.AtLeast
	}
	text := sign + " " + strconv.FormatFloat(bound, 'f', -1, 64)
	if c.Rival == "" && c.Unit != "" {
		text += " " + c.Unit
	}
	return text
}

// met says in a word whether a comparison's goal is met; no is the word for not.
func met(c Comparison, no string) string {
	switch c.Verdict() {
	case Met:
		return "yes"
	case Missed:
		return no
	case Open:
		return "open"
	default:
		return none
	}
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}
