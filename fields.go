// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/crontab"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	maxMetadataPairs = 64
	maxLabelLength   = 512
	maxNameLength    = 128
	maxIDLength      = 128
)

// Lengths are checked beside the patterns: a counted repeat takes some 100 kB,
// and a millisecond of each start.
var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// C1's IDs are opaque; this is what can be no path, no control character
	// and no separator of a storage key.
	idPattern = regexp.MustCompile(`^[A-Za-z0-9_:~=@+-]+$`)
)

// isName says what can be a binding's name. Storage refuses a key with two dots in
// a row.
func isName(name string) bool {
	return len(name) <= maxNameLength && namePattern.MatchString(name) && !strings.Contains(name, "..")
}

func validName(name string) error {
	if !isName(name) {
		return refuse("name %q: must be a letter or digit, then up to 127 of letters, digits, `_`, `-` and `.`, without two dots in a row", clip(name, 40))
	}
	return nil
}

func validID(field, id string) error {
	if len(id) > maxIDLength || !idPattern.MatchString(id) {
		return refuse("%s %q: must be an ID as C1 shows it, 1 to 128 letters, digits and any of _:~=@+-", field, clip(id, 40))
	}
	return nil
}

func validMetadata(m map[string]string) error {
	if len(m) > maxMetadataPairs {
		return refuse("metadata: %d pairs, at most %d are allowed", len(m), maxMetadataPairs)
	}
	for key, value := range m {
		if err := validLabel("metadata", key); err != nil {
			return err
		}
		if err := validLabel("metadata", value); err != nil {
			return err
		}
	}
	return nil
}

// validLabel checks free text that ends up in records and answers.
func validLabel(field, text string) error {
	if len(text) > maxLabelLength {
		return refuse("%s: %d bytes, at most %d are allowed", field, len(text), maxLabelLength)
	}
	if !utf8.ValidString(text) {
		return refuse("%s: is not UTF-8 text", field)
	}
	if i := strings.IndexFunc(text, unseen); i >= 0 {
		r, _ := utf8.DecodeRuneInString(text[i:])
		return refuse("%s: holds the character %U, which a terminal does not show as it is (control, direction, zero-width or the like)", field, r)
	}
	return nil
}

// unseen says which characters change how a line looks without being seen:
// control characters and line ends, those that turn the direction of writing,
// zero-width ones and tags. Emoji keep their variation selectors.
func unseen(r rune) bool {
	const textStyle, emojiStyle = '\uFE0E', '\uFE0F'
	return r != textStyle && r != emojiStyle && !c1api.Visible(r)
}

// longestPage is the most names or records that a list may be asked for.
const longestPage = 1_000_000

// page returns the sorted names after one, at most limit of them (0 is all).
func page(names []string, after string, limit int) []string {
	slices.Sort(names)
	if after != "" {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	return names
}

// named reports whether the caller gave a field a value other than its zero.
func named(d *framework.FieldData, field string) bool {
	v, given := d.GetOk(field)
	if pairs, ok := v.(map[string]string); ok {
		return len(pairs) > 0
	}
	return given && v != d.Schema[field].Type.Zero()
}

// set takes a field, if given.
func set[T any](d *framework.FieldData, field string, value *T) {
	if v, given := d.GetOk(field); given {
		*value = v.(T)
	}
}

// setDuration takes a duration field, if given, within its bounds.
func setDuration(d *framework.FieldData, field string, value *time.Duration, shortest, longest time.Duration) error {
	secs, given := d.GetOk(field)
	if !given {
		return nil
	}
	v := time.Duration(secs.(int)) * time.Second
	if v < shortest || v > longest {
		return refuse("%s must lie between %s and %s, not %s", field, shortest, longest, v)
	}
	*value = v
	return nil
}

// setDurationOrOff takes a duration field, if given, within its bounds or as 0,
// which switches off.
func setDurationOrOff(d *framework.FieldData, field string, value *time.Duration, shortest, longest time.Duration) error {
	if v, given := d.GetOk(field); given && v == 0 {
		*value = 0
		return nil
	}
	return setDuration(d, field, value, shortest, longest)
}

// setInt takes a number field, if given, within its bounds.
func setInt(d *framework.FieldData, field string, value *int, least, most int) error {
	set(d, field, value)
	if _, given := d.GetOk(field); given && (*value < least || *value > most) {
		return refuse("%s must lie between %d and %d, not %d", field, least, most, *value)
	}
	return nil
}

// scheduleFields are the fields that say when the clock rotates something.
type scheduleFields struct {
	period, cron      string
	shortest, longest time.Duration // of a period
}

// setSchedule takes a period or a cron line, if given. Naming one of both replaces the
// other, unless both are named.
func setSchedule(d *framework.FieldData, schedule *target.Schedule, f scheduleFields) error {
	var line string
	set(d, f.cron, &line)
	line = strings.TrimSpace(line)
	periodGiven := named(d, f.period)
	if periodGiven && line != "" {
		return refuse("%s and %s exclude each other: write one", f.period, f.cron)
	}
	if _, ok := d.GetOk(f.period); ok || line != "" {
		schedule.Period = 0
	}
	if _, ok := d.GetOk(f.cron); ok || periodGiven {
		schedule.Cron = ""
	}
	if periodGiven {
		return setDuration(d, f.period, &schedule.Period, f.shortest, f.longest)
	}
	if line == "" {
		return nil
	}
	schedule.Cron = line
	if _, err := crontab.Parse(schedule.Cron); err != nil {
		return refuse("%s %q: %s (for example `0 3 * * 7` or `CRON_TZ=Europe/Berlin 0 3 * * *`)", f.cron, clip(schedule.Cron, 80), err)
	}
	return nil
}
