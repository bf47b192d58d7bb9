// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

// farthest is more than any zone's distance from UTC, and more than any change
// of its clocks. No zone has changed them twice within twice that time since
// 1970.
const farthest = 25 * time.Hour

// zoneName is how the tz database spells a name. It keeps paths such as
// Europe//Berlin from being loaded and remembered under many names.
var zoneName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$`)

// zones holds the zones loaded so far by name: loading one reads a file and
// takes ten times as long as parsing the fields. It holds names of the tz
// database only, so it stays small.
var zones sync.Map

// loadZone returns the zone of a name.
func loadZone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	switch lower := strings.ToLower(name); {
	case name == "":
		return nil, errors.New("time zone has no name: write one after the =, such as UTC or Europe/Berlin")
	case lower == "local", lower == "localtime", lower == "posixrules",
		strings.HasPrefix(lower, "posix/"), strings.HasPrefix(lower, "right/"):
		return nil, fmt.Errorf("time zone %s may differ from node to node: name one such as UTC or Europe/Berlin", quote(name))
	}
	if !zoneName.MatchString(name) {
		return nil, unknownZone(name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, unknownZone(name)
	}
	zones.Store(name, zone)
	return zone, nil
}

func unknownZone(name string) error {
	return fmt.Errorf("unknown time zone %s: use a name of the tz database, such as UTC or Europe/Berlin", quote(name))
}

// reached returns the latest wall time that a zone's clocks have shown by t, as
// if in UTC. That is what they show at t, unless they were turned back and have
// not caught up.
func reached(t time.Time, zone *time.Location) time.Time {
	now := offset(t, zone)
	wall := t.UTC().Add(now)
	earlier := t.Add(-farthest).Truncate(time.Second)
	if before := offset(earlier, zone); before > now {
		// The change itself showed the time after it, so the last one shown
		// before is a moment less.
		last := change(earlier, t, zone).UTC().Add(before - 1)
		if last.After(wall) {
			return last
		}
	}
	return wall
}

// firstShown returns the first instant at which a zone's clocks show a wall
// time or have passed it. A skipped one is passed at the change.
func firstShown(wall time.Time, zone *time.Location) time.Time {
	earlier, later := wall.Add(-farthest), wall.Add(farthest)
	before, after := offset(earlier, zone), offset(later, zone)
	t := wall.Add(-before)
	if before == after {
		return t
	}
	changed := change(earlier, later, zone)
	if t.Before(changed) {
		return t
	}
	if t = wall.Add(-after); t.Before(changed) {
		return changed
	}
	return t
}

// offset is how far a zone's clocks are ahead of UTC.
func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// change returns the instant between two others at which the offset changed.
// time.Time.ZoneBounds would also name the turn of a year, where nothing
// changes.
func change(earlier, later time.Time, zone *time.Location) time.Time {
	before := offset(earlier, zone)
	n := sort.Search(int(later.Sub(earlier)/time.Second), func(n int) bool {
		return offset(earlier.Add(time.Duration(n)*time.Second), zone) != before
	})
	return earlier.Add(time.Duration(n) * time.Second)
}
