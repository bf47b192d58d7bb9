// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"slices"
	"testing"
	"time"
)

// Whatever line is taken is due on whole minutes, each later than the last.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"* * * * *", "*/15 8-18/2 1,15 jan-mar mon-fri", "0 3 * * 7", "0 0 29 2 */6",
		"CRON_TZ=Africa/Cairo 0 3 30 4 *", "TZ=Australia/Lord_Howe */7 1,2 * * *", "@weekly", "CRON_TZ=UTC @every 1s",
		"CRON_TZ=Europe/Berlin * 2 * 10 *", "0 22-2 * * *", "? ? ? ? ?",
	} {
		f.Add(seed, int64(1774744200)) // half an hour before Berlin's clocks go forward
		f.Add(seed, int64(1792888200)) // and back, in 2026
	}
	// Before 1973 some offsets had seconds; Go writes no year after 9999 as JSON.
	const earliest, latest = 94_694_400, 253_402_300_799
	f.Fuzz(func(t *testing.T, line string, after int64) {
		s, err := Parse(line)
		if err != nil {
			if s != nil || len(err.Error()) > 200 || slices.Contains([]byte(err.Error()), '\n') {
				t.Fatalf("%q: a schedule %v with the error %v", line, s, err)
			}
			return
		}
		at := time.Unix(min(max(after, earliest), latest), 0).UTC()
		last := s.Next(at)
		if !last.After(at) {
			t.Fatalf("%q: %s is not after %s", line, last, at)
		}
		for range 100 {
			next := s.Next(last)
			if next.Sub(last) < time.Minute || next.Second() != 0 || next.Nanosecond() != 0 {
				t.Fatalf("%q: %s, then %s", line, last, next)
			}
			last = next
		}
	})
}
