// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/crontab"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// checkInput prepares what a caller sent, before the framework converts it to
// the fields' types. The framework takes null for zero, writes numbers as text,
// and quotes a value that it cannot convert, which may be a secret.
func (b *backend) checkInput(req *logical.Request) error {
	if len(req.Data) == 0 || req.Secret != nil {
		return nil // a renewal or revocation carries what the engine answered once
	}
	path := b.Route(req.Path)
	if path == nil {
		return nil // the framework says so
	}
	for name, value := range req.Data {
		field := path.Fields[name]
		switch {
		case value == nil && req.Operation != logical.PatchOperation:
			delete(req.Data, name) // null is "not named"
		case field != nil && field.Type == framework.TypeKVPairs && value == "":
			req.Data[name] = map[string]any{} // what the CLI makes of `metadata=`
		case field == nil:
			return refuse("unknown field %q; see `vault path-help` for the fields of this path", clip(name, 40))
		case value == nil:
			req.Data[name] = field.DefaultOrZero() // RFC 7396: null removes
		case field.Type == framework.TypeKVPairs && req.Operation == logical.PatchOperation:
			if !fitsPatch(value) {
				return refuse("%s: must be %s, or null to remove one", name, expected(field.Type))
			}
		case !fits(field.Type, value):
			return refuse("%s: must be %s", name, expected(field.Type))
		case field.Type == framework.TypeDurationSecond:
			if err := checkDuration(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits reports whether a value is of a field's type. A number is no text: it
// would lose digits on the way to one.
func fits(t framework.FieldType, value any) bool {
	switch t {
	case framework.TypeString:
		_, ok := value.(string)
		return ok
	case framework.TypeKVPairs:
		return fitsPairs(value)
	case framework.TypeBool:
		_, ok := value.(bool)
		return ok || isNumber(value, true)
	case framework.TypeInt:
		return isNumber(value, true)
	default:
		return isNumber(value, false)
	}
}

// isNumber takes a number, or text, which the framework then reads as one.
func isNumber(value any, whole bool) bool {
	switch v := value.(type) {
	case string, int, int64, time.Duration:
		return true
	case float64:
		return !whole || v == math.Trunc(v)
	case json.Number:
		_, err := v.Int64()
		return !whole || err == nil
	default:
		return false
	}
}

// fitsPairs takes an object of texts, or what the CLI makes of key=value
// arguments: one of them, or a list.
func fitsPairs(value any) bool {
	switch v := value.(type) {
	case string, []string, map[string]string:
		return true
	case []any:
		for _, pair := range v {
			if _, ok := pair.(string); !ok {
				return false
			}
		}
		return true
	case map[string]any:
		for _, text := range v {
			if _, ok := text.(string); !ok {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// fitsPatch takes pairs of which some are to be removed.
func fitsPatch(value any) bool {
	pairs, ok := value.(map[string]any)
	if !ok {
		return false
	}
	for _, text := range pairs {
		if _, ok := text.(string); !ok && text != nil {
			return false
		}
	}
	return true
}

// patchPairs puts a merge patch (RFC 7396) of a field of pairs over what is stored.
func patchPairs(d *framework.FieldData, field string, stored map[string]string) {
	patch, ok := d.Raw[field].(map[string]any)
	if !ok || len(patch) == 0 {
		return // not named, or removed as a whole
	}
	pairs := map[string]any{}
	for key, value := range stored {
		pairs[key] = value
	}
	for key, value := range patch {
		if value == nil {
			delete(pairs, key)
		} else {
			pairs[key] = value
		}
	}
	d.Raw[field] = pairs
}

func expected(t framework.FieldType) string {
	switch t {
	case framework.TypeString:
		return "text (in JSON, put it in quotes)"
	case framework.TypeKVPairs:
		return "pairs of texts (in JSON, an object whose values are in quotes)"
	case framework.TypeBool:
		return "true or false"
	case framework.TypeDurationSecond:
		return "a duration such as 90s, 15m, 24h or 30d, or a number of seconds"
	case framework.TypeInt:
		return "a whole number"
	default:
		return "a number"
	}
}

// checkDuration refuses fractions of a second. The framework cuts them off, which makes
// 500ms a zero. It says itself what is no duration.
func checkDuration(name string, raw any) error {
	if f, ok := raw.(float64); ok && f != math.Trunc(f) {
		return refuse("%s: must be whole seconds, not %v", name, f)
	}
	if value, err := parseutil.ParseDurationSecond(raw); err == nil && value%time.Second != 0 {
		return refuse("%s: must be whole seconds, not %s", name, value)
	}
	return nil
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
