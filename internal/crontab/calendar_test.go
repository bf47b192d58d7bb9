// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A drawnField is the text of a field with the values that it was made from.
type drawnField struct {
	text   string
	values []int
	any    bool
}

// drawField makes a field of entries that a person could write.
func drawField(t *rapid.T, label string, first, last int, names []string) drawnField {
	if rapid.IntRange(0, 2).Draw(t, label+" any") == 0 {
		return drawnField{"*", sequence(first, last, 1), true}
	}
	spell := func(v int) string {
		if names != nil && rapid.Bool().Draw(t, label+" named") {
			return rapid.SampledFrom([]string{names[v-first], strings.ToUpper(names[v-first])}).Draw(t, label+" name")
		}
		return strconv.Itoa(v)
	}
	var f drawnField
	var entries []string
	for range rapid.IntRange(1, 3).Draw(t, label+" entries") {
		low := rapid.IntRange(first, last).Draw(t, label+" low")
		high := rapid.IntRange(low, last).Draw(t, label+" high")
		step := rapid.IntRange(1, last).Draw(t, label+" step")
		switch rapid.IntRange(0, 3).Draw(t, label+" kind") {
		case 0:
			entries, f.values = append(entries, spell(low)), append(f.values, low)
		case 1:
			entries = append(entries, spell(low)+"-"+spell(high))
			f.values = append(f.values, sequence(low, high, 1)...)
		case 2:
			entries = append(entries, fmt.Sprintf("%s-%s/%d", spell(low), spell(high), step))
			f.values = append(f.values, sequence(low, high, step)...)
		default:
			entries = append(entries, fmt.Sprintf("%s/%d", spell(low), step))
			f.values = append(f.values, sequence(low, last, step)...)
		}
	}
	f.text = strings.Join(entries, ",")
	return f
}

func sequence(low, high, step int) []int {
	var values []int
	for v := low; v <= high; v += step {
		values = append(values, v)
	}
	return values
}

// Next finds what a walk from minute to minute finds.
func TestNextIsTheFirstMinuteThatMatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		minute := drawField(t, "minute", 0, 59, nil)
		hour := drawField(t, "hour", 0, 23, nil)
		day := drawField(t, "day", 1, 31, nil)
		month := drawField(t, "month", 1, 12, fields[3].names)
		weekday := drawField(t, "weekday", 0, 6, fields[4].names)
		line := strings.Join([]string{minute.text, hour.text, day.text, month.text, weekday.text}, " ")
		s, err := Parse(line)
		if err != nil {
			if !strings.Contains(err.Error(), "never matches") {
				t.Fatalf("%s: %v", line, err)
			}
			s = &Schedule{zone: time.UTC}
		}
		after := time.Unix(rapid.Int64Range(1.7e9, 2e9).Draw(t, "after"), 0).UTC()
		next := s.Next(after)

		at := after.Truncate(time.Minute).Add(time.Minute)
		for end := at.AddDate(0, 2, 0); at.Before(end); at = at.Add(time.Minute) {
			byDay := slices.Contains(day.values, at.Day())
			byWeekday := slices.Contains(weekday.values, int(at.Weekday()))
			if day.any || weekday.any {
				byDay = byDay && byWeekday
			} else {
				byDay = byDay || byWeekday
			}
			if byDay && slices.Contains(month.values, int(at.Month())) &&
				slices.Contains(hour.values, at.Hour()) && slices.Contains(minute.values, at.Minute()) {
				if !next.Equal(at) {
					t.Fatalf("%s after %s: %s, not %s", line, after, next, at)
				}
				return
			}
		}
		if !next.IsZero() && next.Before(at) {
			t.Fatalf("%s after %s: %s, where nothing matches", line, after, next)
		}
	})
}
