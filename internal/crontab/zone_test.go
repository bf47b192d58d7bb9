// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"archive/zip"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the test needs all zones on any machine

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The walk through all zones covers changes that governments have made and
// those that the rules in force foretell.
const (
	walkFrom  = 2018
	walkUntil = 2038
)

// someZones stand in where Go's list of zones cannot be read.
var someZones = []string{
	"Africa/Cairo", "Africa/Casablanca", "America/Asuncion", "America/Havana", "America/Nuuk", "America/New_York",
	"America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Antarctica/Casey", "Antarctica/Troll", "Asia/Amman",
	"Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Asia/Tehran", "Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin",
	"Pacific/Apia", "Pacific/Chatham", "Pacific/Kiritimati", "UTC",
}

// zoneNames are all names of the tz database that comes with Go.
func zoneNames(t *testing.T) []string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Logf("testing some zones only: %v", err)
		return someZones
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Logf("testing some zones only: %v", err)
		return someZones
	}
	defer func() { assert.NoError(t, archive.Close()) }()
	var names []string
	for _, file := range archive.File {
		if !strings.HasSuffix(file.Name, "/") {
			names = append(names, file.Name)
		}
	}
	require.Subset(t, names, someZones)
	return names
}

// wallAt is what a zone's clocks show, as if in UTC.
func wallAt(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	hour, minute, sec := t.In(zone).Clock()
	return time.Date(y, m, d, hour, minute, sec, 0, time.UTC)
}

// changes are the minutes at which a zone's clocks jump, found by looking.
func changes(from, until time.Time, zone *time.Location) []time.Time {
	const stride = 6 * time.Hour
	var found []time.Time
	for t := from; t.Before(until); t = t.Add(stride) {
		_, before := t.In(zone).Zone()
		if _, after := t.Add(stride).In(zone).Zone(); after == before {
			continue
		}
		for at := t; ; at = at.Add(time.Minute) {
			if _, now := at.In(zone).Zone(); now != before {
				found = append(found, at)
				break
			}
		}
	}
	return found
}

// An oracle knows by brute force when each local minute around a change is due.
type oracle struct {
	zone     *time.Location
	from, to time.Time
	due      map[time.Time]time.Time // by wall time
}

// newOracle walks from minute to minute and takes the promise at its word.
func newOracle(from, to time.Time, zone *time.Location) *oracle {
	o := &oracle{zone: zone, from: from, to: to, due: map[time.Time]time.Time{}}
	skipped := map[time.Time]time.Time{}
	last := wallAt(from.Add(-time.Minute), zone)
	for t := from; !t.After(to); t = t.Add(time.Minute) {
		wall := wallAt(t, zone)
		if _, twice := o.due[wall]; !twice {
			o.due[wall] = t
		}
		for w := last.Add(time.Minute); w.Before(wall); w = w.Add(time.Minute) {
			skipped[w] = t
		}
		last = wall
	}
	for wall, t := range skipped {
		if _, exists := o.due[wall]; !exists {
			o.due[wall] = t
		}
	}
	return o
}

// turns are the instants at which a line is due whose wall times are given.
func (o *oracle) turns(named func(wall time.Time) bool) []time.Time {
	set := map[time.Time]bool{}
	for wall, t := range o.due {
		if named(wall) {
			set[t] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), time.Time.Compare)
}

// check compares a line with the oracle, turn by turn.
func (o *oracle) check(t *testing.T, line string, named func(wall time.Time) bool) {
	t.Helper()
	s := parse(t, "CRON_TZ="+o.zone.String()+" "+line)
	var got []time.Time
	for at := s.Next(o.from.Add(-time.Second)); !at.After(o.to); at = s.Next(at) {
		require.True(t, len(got) == 0 || at.After(got[len(got)-1]), "%s %s stands still", o.zone, line)
		got = append(got, at)
	}
	if want := o.turns(named); !slices.EqualFunc(got, want, time.Time.Equal) {
		assert.Equal(t, want, got, "%s %s", o.zone, line)
	}
}

// checkMinute compares the line that names one local minute of one day with
// the oracle, asked at each of the given times.
func (o *oracle) checkMinute(t *testing.T, wall time.Time, asked ...time.Time) {
	t.Helper()
	due, ok := o.due[wall]
	require.True(t, ok, "%s %s", o.zone, wall)
	line := fmt.Sprintf("CRON_TZ=%s %d %d %d %d *", o.zone, wall.Minute(), wall.Hour(), wall.Day(), wall.Month())
	s := parse(t, line)
	for _, at := range append(asked, due.Add(-time.Nanosecond), due, due.Add(time.Second)) {
		next := s.Next(at)
		if at.Before(due) {
			assert.Equal(t, due, next.UTC(), "%s asked at %s", line, at)
		} else {
			assert.Greater(t, next.Sub(due), 360*24*time.Hour, "%s asked at %s", line, at)
		}
	}
}

func always(time.Time) bool { return true }

func quarter(wall time.Time) bool { return wall.Minute()%15 == 0 }

func midnight(wall time.Time) bool { return wall.Hour() == 0 && wall.Minute() == 0 }

// checkChange tests all kinds of lines around one change of a zone's clocks.
func checkChange(t *testing.T, at time.Time, zone *time.Location) {
	t.Helper()
	low, high := wallAt(at.Add(-time.Minute), zone).Add(time.Minute), wallAt(at, zone)
	if high.Before(low) {
		low, high = high, low
	}
	shift := high.Sub(low)
	o := newOracle(at.Add(-shift-time.Hour), at.Add(shift+time.Hour), zone)
	o.check(t, "* * * * *", always)
	o.check(t, "*/15 * * * *", quarter)
	o.check(t, "0 0 * * *", midnight)
	for _, wall := range []time.Time{
		low.Add(-time.Minute), low, low.Add(time.Minute), low.Add(shift / 2).Truncate(time.Minute),
		high.Add(-time.Minute), high, high.Add(time.Minute),
	} {
		o.checkMinute(t, wall, o.from, at.Add(-time.Second), at, at.Add(shift/2), at.Add(shift-time.Second), at.Add(shift), o.to)
	}
}

func TestEachLocalTimeIsDueOnceInEveryZone(t *testing.T) {
	t.Parallel()
	from, until := time.Date(walkFrom, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(walkUntil, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, name := range zoneNames(t) {
		if raceEnabled && i%20 != 0 {
			continue // nothing here is shared but the zones
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(name)
			require.NoError(t, err)
			var last time.Time
			for _, at := range changes(from, until, zone) {
				require.Greater(t, at.Sub(last), 2*farthest, "the search for a change expects one at most")
				last = at
				checkChange(t, at, zone)
			}
		})
	}
}

// Whole days were skipped or lived twice where the date line moved.
func TestDaysThatTheDateLineTook(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"Pacific/Apia":       "2011-12-30T10:00:00Z",
		"Pacific/Fakaofo":    "2011-12-30T11:00:00Z",
		"Pacific/Kiritimati": "1994-12-31T10:00:00Z",
		"Pacific/Kwajalein":  "1993-08-21T12:00:00Z",
	} {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		checkChange(t, instant(t, at), zone)
	}
}

func TestLocalTimesAroundChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		promise, line, after string
		want                 []string
	}{
		{
			"Cairo skips midnight, not three o'clock", "CRON_TZ=Africa/Cairo 0 3 30 4 *", "2027-01-01T00:00:00Z",
			[]string{"Fri 2027-04-30T03:00+03:00", "Sun 2028-04-30T03:00+03:00"},
		},
		{
			"a skipped midnight is due at the change", "CRON_TZ=Africa/Cairo 0 0 30 4 *", "2027-01-01T00:00:00Z",
			[]string{"Fri 2027-04-30T01:00+03:00", "Sun 2028-04-30T00:00+03:00"},
		},
		{
			"a skipped time is due at the change", "CRON_TZ=Europe/Berlin 30 2 * * *", "2027-03-27T12:00:00Z",
			[]string{"Sun 2027-03-28T03:00+02:00", "Mon 2027-03-29T02:30+02:00"},
		},
		{
			"skipped times are due at the change together", "CRON_TZ=Europe/Berlin 0,20,40 2,3 28 3 *", "2027-03-28T00:00:00Z",
			[]string{"Sun 2027-03-28T03:00+02:00", "Sun 2027-03-28T03:20+02:00", "Sun 2027-03-28T03:40+02:00", "Tue 2028-03-28T02:00+02:00"},
		},
		{
			"a time that exists twice is due the first time", "CRON_TZ=Europe/Berlin 30 2 * * *", "2027-10-30T12:00:00Z",
			[]string{"Sun 2027-10-31T02:30+02:00", "Mon 2027-11-01T02:30+01:00"},
		},
		{
			"who asks between both times is told the next day", "CRON_TZ=Europe/Berlin 30 2 * * *", "2027-10-31T01:15:00Z",
			[]string{"Mon 2027-11-01T02:30+01:00"},
		},
		{
			"a wildcard hour is no exception", "CRON_TZ=Europe/Berlin */30 * * * *", "2027-10-31T00:00:00Z",
			[]string{"Sun 2027-10-31T02:30+02:00", "Sun 2027-10-31T03:00+01:00", "Sun 2027-10-31T03:30+01:00"},
		},
		{
			"Havana's second midnight is not due", "CRON_TZ=America/Havana 0 0 * * *", "2027-11-06T12:00:00Z",
			[]string{"Sun 2027-11-07T00:00-04:00", "Mon 2027-11-08T00:00-05:00"},
		},
		{
			"Lord Howe skips half an hour", "CRON_TZ=Australia/Lord_Howe 15,45 2 * * *", "2027-10-02T13:00:00Z",
			[]string{"Sun 2027-10-03T02:30+11:00", "Sun 2027-10-03T02:45+11:00", "Mon 2027-10-04T02:15+11:00"},
		},
		{
			"Lord Howe repeats half an hour", "CRON_TZ=Australia/Lord_Howe 15,45 1 * * *", "2027-04-03T12:00:00Z",
			[]string{"Sun 2027-04-04T01:15+11:00", "Sun 2027-04-04T01:45+11:00", "Mon 2027-04-05T01:15+10:30"},
		},
		{
			"Samoa's lost day is made up for at once", "CRON_TZ=Pacific/Apia 0 12 * * *", "2011-12-29T12:00:00Z",
			[]string{"Thu 2011-12-29T12:00-10:00", "Sat 2011-12-31T00:00+14:00", "Sat 2011-12-31T12:00+14:00"},
		},
		{
			"UTC repeats nothing", "*/30 * * * *", "2027-10-31T00:00:00Z",
			[]string{"Sun 2027-10-31T00:30Z", "Sun 2027-10-31T01:00Z", "Sun 2027-10-31T01:30Z"},
		},
	} {
		assert.Equal(t, c.want, turns(t, c.line, c.after, len(c.want)), c.promise)
	}
}
