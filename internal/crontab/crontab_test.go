// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package crontab

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parse reads a line that must be good.
func parse(t testing.TB, line string) *Schedule {
	t.Helper()
	s, err := Parse(line)
	require.NoError(t, err, line)
	return s
}

// instant reads a time as RFC 3339 writes it.
func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at
}

// turns are the first n times at which a line is due, as its zone writes them.
func turns(t testing.TB, line, after string, n int) []string {
	t.Helper()
	s := parse(t, line)
	at := instant(t, after)
	found := make([]string, 0, n)
	for range n {
		at = s.Next(at)
		found = append(found, at.In(s.zone).Format("Mon 2006-01-02T15:04Z07:00"))
	}
	return found
}

func TestFieldsMeanWhatCrontabSays(t *testing.T) {
	t.Parallel()
	const friday = "2026-11-27T03:04:05Z"
	for line, want := range map[string][]string{
		"* * * * *":                         {"Fri 2026-11-27T03:05Z", "Fri 2026-11-27T03:06Z"},
		"  4\t3 *  * *\n":                   {"Sat 2026-11-28T03:04Z", "Sun 2026-11-29T03:04Z"},
		"*/15 * * * *":                      {"Fri 2026-11-27T03:15Z", "Fri 2026-11-27T03:30Z"},
		"5/20 * * * *":                      {"Fri 2026-11-27T03:05Z", "Fri 2026-11-27T03:25Z", "Fri 2026-11-27T03:45Z", "Fri 2026-11-27T04:05Z"},
		"0 8-18/5,20 * * *":                 {"Fri 2026-11-27T08:00Z", "Fri 2026-11-27T13:00Z", "Fri 2026-11-27T18:00Z", "Fri 2026-11-27T20:00Z"},
		"59 23 31 12 *":                     {"Thu 2026-12-31T23:59Z", "Fri 2027-12-31T23:59Z"},
		"0 0 31 * *":                        {"Thu 2026-12-31T00:00Z", "Sun 2027-01-31T00:00Z", "Wed 2027-03-31T00:00Z"},
		"0 0 1 jan-MAR *":                   {"Fri 2027-01-01T00:00Z", "Mon 2027-02-01T00:00Z", "Mon 2027-03-01T00:00Z", "Sat 2028-01-01T00:00Z"},
		"0 0 29 2 *":                        {"Tue 2028-02-29T00:00Z", "Sun 2032-02-29T00:00Z"},
		"0 0 29 2 */6":                      {"Sun 2032-02-29T00:00Z", "Sat 2048-02-29T00:00Z"},
		"0 3 * * 7":                         {"Sun 2026-11-29T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 * * 0":                         {"Sun 2026-11-29T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 * * SUN":                       {"Sun 2026-11-29T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 * * 0,7":                       {"Sun 2026-11-29T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 * * 5-7":                       {"Sat 2026-11-28T03:00Z", "Sun 2026-11-29T03:00Z", "Fri 2026-12-04T03:00Z"},
		"0 3 * * 5-0":                       {"Sat 2026-11-28T03:00Z", "Sun 2026-11-29T03:00Z", "Fri 2026-12-04T03:00Z"},
		"0 3 * * fri-sun":                   {"Sat 2026-11-28T03:00Z", "Sun 2026-11-29T03:00Z", "Fri 2026-12-04T03:00Z"},
		"0 3 * * 7-1":                       {"Sun 2026-11-29T03:00Z", "Mon 2026-11-30T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 * * 0-7/3":                     {"Sat 2026-11-28T03:00Z", "Sun 2026-11-29T03:00Z", "Wed 2026-12-02T03:00Z"},
		"0 3 * * 5/1":                       {"Sat 2026-11-28T03:00Z", "Fri 2026-12-04T03:00Z"},
		"0 3 * * 7/2":                       {"Sun 2026-11-29T03:00Z", "Sun 2026-12-06T03:00Z"},
		"0 3 ? * 1":                         {"Mon 2026-11-30T03:00Z", "Mon 2026-12-07T03:00Z"},
		"0 0 13 * 5":                        {"Fri 2026-12-04T00:00Z", "Fri 2026-12-11T00:00Z", "Sun 2026-12-13T00:00Z"}, // either day
		"0 0 13 * *":                        {"Sun 2026-12-13T00:00Z", "Wed 2027-01-13T00:00Z"},
		"0 0 */2 * 1":                       {"Mon 2026-12-07T00:00Z", "Mon 2026-12-21T00:00Z"}, // both: an odd Monday
		"0 0 30 2 1":                        {"Mon 2027-02-01T00:00Z", "Mon 2027-02-08T00:00Z"},
		"CRON_TZ=Asia/Tokyo 30 4 * * *":     {"Sat 2026-11-28T04:30+09:00"},
		"TZ=Asia/Kathmandu 0 9 * * *":       {"Fri 2026-11-27T09:00+05:45"},
		"CRON_TZ=America/New_York @monthly": {"Tue 2026-12-01T00:00-05:00"},
		"@hourly":                           {"Fri 2026-11-27T04:00Z"},
		"@daily":                            {"Sat 2026-11-28T00:00Z"},
		"@midnight":                         {"Sat 2026-11-28T00:00Z"},
		"@weekly":                           {"Sun 2026-11-29T00:00Z"},
		"@monthly":                          {"Tue 2026-12-01T00:00Z"},
		"@yearly":                           {"Fri 2027-01-01T00:00Z"},
		"@annually":                         {"Fri 2027-01-01T00:00Z"},
	} {
		assert.Equal(t, want, turns(t, line, friday, len(want)), line)
	}
}

// refused are bad lines, each with the part of the error that helps.
var refused = map[string]string{
	"":                                      "has 0 fields: write five",
	" \t\n":                                 "has 0 fields: write five",
	"0 3 * *":                               "has 4 fields: write five",
	"0 0 3 * * *":                           "has 6 fields: write five",
	"61 3 * * *":                            `minute takes 0-59, lists (1,4), ranges (1-4) and steps (*/2), not "61"`,
	"0 24 * * *":                            `hour takes 0-23`,
	"0 3 0 * *":                             `day-of-month takes 1-31`,
	"0 3 32 * *":                            `day-of-month takes 1-31`,
	"0 3 * 13 *":                            `month takes 1-12 or jan-dec`,
	"0 3 * * 8":                             `day-of-week takes 0-7 or sun-sat`,
	"0 3 * * 5-8":                           `not "5-8"`,
	"0 3 * * sunday":                        `not "sunday"`,
	"0 3 * mon *":                           `not "mon"`,
	"jan 3 * * *":                           `not "jan"`,
	"1,,2 * * * *":                          `not ""`,
	", * * * *":                             `not ""`,
	"*-5 * * * *":                           `not "*-5"`,
	"1-2-3 * * * *":                         `not "1-2-3"`,
	"-5 * * * *":                            `not "-5"`,
	"+5 * * * *":                            `not "+5"`,
	"1_0 * * * *":                           `not "1_0"`,
	"0x5 * * * *":                           `not "0x5"`,
	"5.5 * * * *":                           `not "5.5"`,
	"٣ * * * *":                             `not "\u0663"`,
	"99999999999999999999 * * * *":          `not "99999999999999999999"`,
	"H * * * *":                             `not "H"`,
	"0 3 L * *":                             `not "L"`,
	"0 3 * * 1#2":                           `not "1#2"`,
	"*/0 * * * *":                           `minute step must be 1 to 59, as in */2, not "*/0"`,
	"*/90 * * * *":                          `minute step must be 1 to 59`,
	"*/ * * * *":                            `minute step must be 1 to 59`,
	"*/5/5 * * * *":                         `minute step must be 1 to 59`,
	"*/-5 * * * *":                          `minute step must be 1 to 59`,
	"0 22-2 * * *":                          `hour range "22-2" runs backwards: split it in two, as in 22-23,0-2`,
	"0 3 * nov-feb *":                       `as in 11-12,1-2`,
	"0 3 * * fri-mon":                       `as in 5-6,0-1`,
	"0 3 30 2 *":                            "never matches",
	"0 3 31 2,4,6,9,11 *":                   "never matches",
	"0 3 30 2 */6":                          "never matches",
	"@every 1s":                             "use rotation_period",
	"CRON_TZ=UTC @every 1s":                 "use rotation_period",
	"TZ=UTC @every 24h":                     "use rotation_period",
	"\t @every 1m":                          "use rotation_period",
	"@every":                                "use rotation_period",
	"@EVERY 1s":                             `unknown shorthand "@EVERY"`,
	"@every1s":                              `unknown shorthand "@every1s"`,
	"@reboot":                               `unknown shorthand "@reboot": write five fields`,
	"@daily 3":                              "write nothing after it",
	"CRON_TZ=UTC":                           "a time zone but no time",
	"TZ=Europe/Berlin ":                     "a time zone but no time",
	"CRON_TZ= 0 3 * * *":                    "time zone has no name",
	"CRON_TZ=Mars/Base 0 3 * * *":           `unknown time zone "Mars/Base"`,
	"CRON_TZ=../../etc/passwd 0 3 * * *":    "unknown time zone",
	"CRON_TZ=/etc/localtime 0 3 * * *":      "unknown time zone",
	"CRON_TZ=Europe//Berlin 0 3 * * *":      "unknown time zone",
	"CRON_TZ=Europe/./Berlin 0 3 * * *":     "unknown time zone",
	"CRON_TZ=Local 0 3 * * *":               "may differ from node to node: name one",
	"TZ=local 0 3 * * *":                    "may differ from node to node: name one",
	"TZ=localtime 0 3 * * *":                "may differ from node to node: name one",
	"TZ=right/Europe/Berlin 0 3 * * *":      "may differ from node to node: name one",
	"TZ=posix/Europe/Berlin 0 3 * * *":      "may differ from node to node: name one",
	"CRON_TZ=UTC TZ=UTC 0 3 * * *":          "has 6 fields",
	"cron_tz=UTC 0 3 * * *":                 "has 6 fields",
	strings.Repeat("1", 200) + " 3 * * *":   `..."`,
	strings.Repeat("\x00", 99) + " * * 1 1": `..."`,
	"CRON_TZ=" + strings.Repeat("A", 200) + " 0 3 * * *":   `..."`,
	"@" + strings.Repeat("d", 200):                         `..."`,
	"0 3 * * " + strings.Repeat("1,", 124) + "1":           "at most 256",
	strings.Repeat("0,", 200_000) + "0 3 * * *":            "400009 bytes: at most 256",
	strings.Repeat(" ", 400_000) + "0 3 * * *":             "at most 256",
	"CRON_TZ=" + strings.Repeat("A", 1<<20) + " 0 3 * * *": "at most 256",
}

func TestBadLineIsToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	for line, want := range refused {
		s, err := Parse(line)
		name := fmt.Sprintf("%.99q", line)
		assert.Nil(t, s, name)
		if assert.Error(t, err, name) {
			assert.ErrorContains(t, err, want, name)
			assert.Less(t, len(err.Error()), 180, name)
			for _, quoted := range regexp.MustCompile(`"[^"]*"`).FindAllString(err.Error(), -1) {
				assert.LessOrEqual(t, len(quoted), 80, name)
			}
		}
	}
}

// Whatever an error advises must be good: no advice leads to the next error.
func TestAdviceOfErrorsIsGood(t *testing.T) {
	t.Parallel()
	columns := map[string]string{"minute": "%s * * * *", "hour": "0 %s * * *", "day-of-month": "0 0 %s * *", "month": "0 0 1 %s *", "day-of-week": "0 0 * * %s"}
	value := regexp.MustCompile(`\*/\d+|(\d+|[a-z]{3})[-,](\d+|[a-z]{3})([-,]\d+)*`)
	zone := regexp.MustCompile(`UTC|[A-Z][a-z]+/[A-Z][a-z]+`)
	seen := map[string]bool{}
	for line := range refused {
		_, err := Parse(line)
		require.Error(t, err)
		advice := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(err.Error(), "") // not what was refused
		if column, ok := columns[strings.Fields(advice)[0]]; ok {
			for _, example := range value.FindAllString(advice, -1) {
				parse(t, fmt.Sprintf(column, example))
				seen[example] = true
			}
		}
		if strings.Contains(advice, "time zone") {
			for _, example := range zone.FindAllString(advice, -1) {
				parse(t, "CRON_TZ="+example+" 0 3 * * 7")
				seen[example] = true
			}
		}
		for _, example := range regexp.MustCompile(`one of (@.*)`).FindAllStringSubmatch(advice, -1) {
			for name := range strings.SplitSeq(example[1], ", ") {
				parse(t, name)
				seen[name] = true
			}
		}
	}
	for _, example := range []string{"1,4", "1-4", "*/2", "0-59", "sun-sat", "22-23,0-2", "5-6,0-1", "11-12,1-2", "UTC", "Europe/Berlin", "@weekly"} {
		assert.Contains(t, seen, example)
	}
}

func TestLineOfTheGreatestLengthIsTaken(t *testing.T) {
	t.Parallel()
	line := "0 3 * * " + strings.Repeat("1,", 123) + "1"
	line += strings.Repeat(" ", MaxLength-len(line))
	parse(t, line)
	_, err := Parse(line + " ")
	require.ErrorContains(t, err, "at most 256")
}

// The rarest lines come true at last; a schedule that nobody parsed says so
// instead of searching for ever.
func TestNextEnds(t *testing.T) {
	t.Parallel()
	for weekday := range 7 {
		c := parse(t, "0 0 29 2 *").calendar
		c.weekdays = 1 << weekday
		for year := 1800; year < 2200; year++ {
			assert.False(t, c.after(time.Date(year, 3, 1, 0, 0, 0, 0, time.UTC)).IsZero(), "%d, %d", weekday, year)
		}
	}
	assert.True(t, (&Schedule{zone: time.UTC}).Next(time.Unix(0, 0)).IsZero())
}

func TestNextKeepsTheLocationOfTheQuestion(t *testing.T) {
	t.Parallel()
	s := parse(t, "CRON_TZ=Asia/Tokyo 30 4 * * *")
	plus2 := time.FixedZone("", 2*3600)
	at := s.Next(time.Date(2026, 11, 27, 0, 0, 0, 0, plus2))
	assert.Equal(t, "2026-11-27T21:30:00+02:00", at.Format(time.RFC3339))
	assert.Equal(t, time.UTC, s.Next(at.UTC()).Location())
}

func BenchmarkParse(b *testing.B) {
	for _, line := range []string{"0 3 * * *", "CRON_TZ=Europe/Berlin 30 2 * * 1-5"} {
		b.Run(line, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	now := instant(b, "2026-10-25T00:31:00Z") // half an hour before Berlin's clocks are turned back
	for _, line := range []string{"* * * * *", "0 3 * * *", "0 0 1 1 *", "0 0 29 2 */6", "CRON_TZ=Asia/Tokyo 0 3 * * *", "CRON_TZ=Europe/Berlin 0 3 * * *"} {
		s := parse(b, line)
		b.Run(line, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Next(now)
			}
		})
	}
}
