// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"math/bits"
	"time"
)

// horizon is how many years ahead a calendar looks. The rarest lines, such as 29
// February if it is a Sunday, come true every 40 years or more often.
const horizon = 50

// monthLength is the most days that a month can have.
var monthLength = [...]uint{time.January: 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// A calendar is what the five fields say, one bit per value. It knows no time
// zones: its times are what a wall clock shows, written down as if in UTC.
type calendar struct {
	minutes, hours, days, months, weekdays uint64
	eitherDay                              bool // one of days and weekdays is enough
}

// possible says whether the calendar ever comes true. Every date falls on every
// weekday at some time, so only the lengths of the months count.
func (c *calendar) possible() bool {
	if c.eitherDay {
		return true
	}
	for month := time.January; month <= time.December; month++ {
		if has(c.months, int(month)) && c.days&(1<<(monthLength[month]+1)-1) != 0 {
			return true
		}
	}
	return false
}

// after returns the first minute after a wall time at which the calendar comes
// true, zero if there is none within the horizon.
func (c *calendar) after(wall time.Time) time.Time {
	t := wall.Truncate(time.Minute).Add(time.Minute)
	end := t.AddDate(horizon, 0, 0)
	for t.Before(end) {
		year, month, day := t.Date()
		if !has(c.months, int(month)) {
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		hour := from(c.hours, t.Hour())
		if hour < 0 || !c.onDay(day, t.Weekday()) {
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
			continue
		}
		minute := t.Minute()
		if hour > t.Hour() {
			minute = 0
		}
		if minute = from(c.minutes, minute); minute < 0 {
			t = time.Date(year, month, day, hour+1, 0, 0, 0, time.UTC)
			continue
		}
		return time.Date(year, month, day, hour, minute, 0, 0, time.UTC)
	}
	return time.Time{}
}

func (c *calendar) onDay(day int, weekday time.Weekday) bool {
	byDate, byWeekday := has(c.days, day), has(c.weekdays, int(weekday))
	if c.eitherDay {
		return byDate || byWeekday
	}
	return byDate && byWeekday
}

func has(set uint64, value int) bool {
	return set>>value&1 != 0
}

// from returns the lowest value of a set that is not below least, -1 if there
// is none.
func from(set uint64, least int) int {
	rest := set >> least << least
	if rest == 0 {
		return -1
	}
	return bits.TrailingZeros64(rest)
}
