// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sunday is the other number of day 0.
const sunday = 7

// A field describes one of the five fields of a line.
type field struct {
	name        string
	first, last uint     // what * runs over
	highest     uint     // the highest number allowed; weekdays go on to sunday
	takes       string   // the values, as an error shows them
	names       []string // of the values, from first on
}

var fields = [5]field{
	{name: "minute", last: 59, highest: 59, takes: "0-59"},
	{name: "hour", last: 23, highest: 23, takes: "0-23"},
	{name: "day-of-month", first: 1, last: 31, highest: 31, takes: "1-31"},
	{
		name: "month", first: 1, last: 12, highest: 12, takes: "1-12 or jan-dec",
		names: []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"},
	},
	{
		name: "day-of-week", last: 6, highest: sunday, takes: "0-7 or sun-sat",
		names: []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"},
	},
}

// wildcard says whether a day field leaves the choice of the day to the other
// one. As in Vixie's cron, */2 does too.
func wildcard(text string) bool {
	return text[0] == '*' || text[0] == '?'
}

// parse returns the values that a field's text stands for, one bit each.
func (f *field) parse(text string) (uint64, error) {
	var bits uint64
	for entry := range strings.SplitSeq(text, ",") {
		low, high, step, err := f.span(entry)
		if err != nil {
			return 0, err
		}
		for v := low; v <= high; v += step {
			bits |= 1 << v
		}
	}
	if f.highest == sunday {
		bits = bits&^(1<<sunday) | bits>>sunday
	}
	return bits, nil
}

// span reads one entry of a list.
func (f *field) span(entry string) (low, high, step uint, err error) {
	values, stepText, stepped := strings.Cut(entry, "/")
	step = 1
	if stepped {
		var ok bool
		if step, ok = number(stepText, 1, f.last); !ok {
			return 0, 0, 0, fmt.Errorf("%s step must be 1 to %d, as in */2, not %s", f.name, f.last, quote(entry))
		}
	}
	if values == "*" || values == "?" {
		return f.first, f.last, step, nil
	}
	lowText, highText, ranged := strings.Cut(values, "-")
	low, ok := f.value(lowText)
	high = low
	switch {
	case ok && ranged:
		if high, ok = f.value(highText); ok {
			low, high = f.order(low, high)
		}
	case stepped:
		high = max(low, f.last)
	}
	if !ok {
		return 0, 0, 0, fmt.Errorf("%s takes %s, lists (1,4), ranges (1-4) and steps (*/2), not %s", f.name, f.takes, quote(entry))
	}
	if low > high {
		return 0, 0, 0, fmt.Errorf("%s range %s runs backwards: split it in two, as in %d-%d,%d-%d",
			f.name, quote(entry), low, f.last, f.first, high)
	}
	return low, high, step, nil
}

// order picks the Sunday that a range of weekdays means: MON-SUN ends with one,
// 7-1 begins with one.
func (f *field) order(low, high uint) (uint, uint) {
	if f.highest == sunday {
		if low == sunday && high < sunday {
			low = 0
		} else if low > 0 && high == 0 {
			high = sunday
		}
	}
	return low, high
}

// value reads a number or a name.
func (f *field) value(text string) (uint, bool) {
	if i := slices.Index(f.names, strings.ToLower(text)); i >= 0 {
		return f.first + uint(i), true
	}
	return number(text, f.first, f.highest)
}

// number reads a decimal number within bounds. There is no sign.
func number(text string, low, high uint) (uint, bool) {
	n, err := strconv.ParseUint(text, 10, 8)
	return uint(n), err == nil && uint(n) >= low && uint(n) <= high
}
