// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package crontab reads cron lines and says when they are due, to the minute
// and in the line's own time zone.
//
// It wraps no library, because none holds: robfig/cron, hashicorp/cronexpr,
// adhocore/gronx and netresearch/go-cron all skip or repeat local times when
// clocks change, and each gets a plain line wrong (in that order: 7, 5-7,
// MON-SUN, *-5). With the rule for local times and the errors written here, all
// that a library could still do is read numbers and leaf through a calendar.
package crontab

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxLength is the longest line that Parse takes, in bytes.
const MaxLength = 256

// maxQuote is how much of a line an error repeats, in bytes.
const maxQuote = 80

// shorthands are the names of common lines.
var shorthands = map[string]string{
	"@hourly":   "0 * * * *",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@weekly":   "0 0 * * 0",
	"@monthly":  "0 0 1 * *",
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
}

// A Schedule is a parsed cron line. It never changes and may be shared.
type Schedule struct {
	calendar calendar
	zone     *time.Location
}

// Parse reads the five fields of a cron line: minute, hour, day-of-month, month,
// day-of-week. They mean what crontab(5) says:
//
//   - A field is *, a number, a range (1-5), or a list of those (1,3-5); a step
//     (*/15, 8-18/2) takes every nth value, and 8/2 runs to the field's end.
//   - Months are 1-12 or jan-dec; days of the week are 0-7 or sun-sat, and both
//     0 and 7 are Sunday. ? is read as *.
//   - If neither day field begins with *, a day that matches either will do;
//     otherwise it must match both.
//   - @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually stand
//     for five fields.
//
// The fields are in UTC unless the line begins with CRON_TZ=<zone> or
// TZ=<zone>, a name of the tz database. There is no field for seconds and no
// @every, so a line is due once a minute at most.
//
// The error says what is wrong and how to write it. A line that never comes
// true is an error too.
func Parse(line string) (*Schedule, error) {
	if len(line) > MaxLength {
		return nil, fmt.Errorf("cron line has %d bytes: at most %d are allowed", len(line), MaxLength)
	}
	zone, texts, err := splitZone(strings.Fields(line))
	if err != nil {
		return nil, err
	}
	if len(texts) > 0 && strings.HasPrefix(texts[0], "@") {
		if texts, err = expand(texts); err != nil {
			return nil, err
		}
	}
	if len(texts) != len(fields) {
		return nil, fmt.Errorf("cron line has %d fields: write five, minute hour day-of-month month day-of-week", len(texts))
	}
	var bits [len(fields)]uint64
	for i, text := range texts {
		if bits[i], err = fields[i].parse(text); err != nil {
			return nil, err
		}
	}
	s := &Schedule{zone: zone, calendar: calendar{
		minutes:   bits[0],
		hours:     bits[1],
		days:      bits[2],
		months:    bits[3],
		weekdays:  bits[4],
		eitherDay: !wildcard(texts[2]) && !wildcard(texts[4]),
	}}
	if !s.calendar.possible() {
		return nil, errors.New("cron line never matches: choose a day that one of its months has")
	}
	return s, nil
}

// splitZone takes the zone off the front of a line. Without one it is UTC.
func splitZone(words []string) (*time.Location, []string, error) {
	if len(words) == 0 {
		return time.UTC, nil, nil
	}
	name, named := strings.CutPrefix(words[0], "CRON_TZ=")
	if !named {
		name, named = strings.CutPrefix(words[0], "TZ=")
	}
	if !named {
		return time.UTC, words, nil
	}
	zone, err := loadZone(name)
	if err != nil {
		return nil, nil, err
	}
	if len(words) == 1 {
		return nil, nil, errors.New("cron line names a time zone but no time: write five fields after it")
	}
	return zone, words[1:], nil
}

// expand returns the five fields that a shorthand stands for.
func expand(words []string) ([]string, error) {
	if words[0] == "@every" {
		return nil, errors.New("@every is a period, not a cron line: use rotation_period")
	}
	line, ok := shorthands[words[0]]
	if !ok {
		return nil, fmt.Errorf("unknown shorthand %s: write five fields, or one of @hourly, @daily, @weekly, @monthly, @yearly", quote(words[0]))
	}
	if len(words) > 1 {
		return nil, fmt.Errorf("%s stands for all five fields: write nothing after it", words[0])
	}
	return strings.Fields(line), nil
}

// Next returns the first time after t at which the line is due, in t's
// location, or the zero time if there is none within 50 years.
//
// When clocks change, each local time that the line names is due once:
//
//   - one that exists once, then;
//   - one that is skipped, at the change, together with others skipped by it;
//   - one that exists twice, the first time.
//
// This holds for lines of every shape: */15 * * * * has no turns in the hour
// that autumn repeats. Write a line in UTC if elapsed time matters.
func (s *Schedule) Next(t time.Time) time.Time {
	wall := s.calendar.after(reached(t, s.zone))
	if wall.IsZero() {
		return time.Time{}
	}
	return firstShown(wall, s.zone).In(t.Location())
}

// quote shows a part of a line on one line of ASCII, cut to a bearable length.
func quote(text string) string {
	quoted := strconv.QuoteToASCII(text)
	if len(quoted) <= maxQuote {
		return quoted
	}
	return quoted[:maxQuote-len(`..."`)] + `..."`
}
