// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package input checks and prepares what a caller sent, before the SDK's framework
// converts it to the fields' types. The framework takes null for zero, writes numbers as
// text, and quotes a value that it cannot convert, which may be a secret.
package input

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// Prepare refuses data that a path's fields cannot take, by the name of its field and
// without its value, and puts the rest in a form that the framework reads as it was meant.
func Prepare(op logical.Operation, data map[string]any, fields map[string]*framework.FieldSchema) error {
	for name, value := range data {
		field := fields[name]
		switch {
		case value == nil && op != logical.PatchOperation:
			delete(data, name) // null is "not named"
		case field != nil && field.Type == framework.TypeKVPairs && value == "":
			data[name] = map[string]any{} // what the CLI makes of `metadata=`
		case field == nil:
			return fmt.Errorf("unknown field %q; see `vault path-help` for the fields of this path", clip(name))
		case value == nil:
			data[name] = field.DefaultOrZero() // RFC 7396: null removes
		case field.Type == framework.TypeKVPairs && op == logical.PatchOperation:
			if !fitsPatch(value) {
				return fmt.Errorf("%s: must be %s, or null to remove one", name, expected(field.Type))
			}
		case !fits(field.Type, value) || !converts(name, value, fields):
			return fmt.Errorf("%s: must be %s", name, expected(field.Type))
		case field.Type == framework.TypeDurationSecond:
			if err := checkDuration(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// clip keeps an error message from repeating 10 kB of input.
func clip(name string) string {
	const most = 40
	if len(name) <= most {
		return name
	}
	return name[:most] + "…"
}

// fits reports whether a value is of a field's type. A number is no text: it
// would lose digits on the way to one.
func fits(t framework.FieldType, value any) bool {
	switch t {
	case framework.TypeString:
		return isText(value)
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

// converts reports whether the framework can make what a field holds of a value.
func converts(name string, value any, fields map[string]*framework.FieldSchema) bool {
	one := &framework.FieldData{Raw: map[string]any{name: value}, Schema: fields}
	_, _, err := one.GetOkErr(name)
	return err == nil
}

// isNumber takes a number, or text, of which converts says whether it is one.
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
		return all(slices.Values(v), isText)
	case map[string]any:
		return all(maps.Values(v), isText)
	default:
		return false
	}
}

// fitsPatch takes pairs of which some are to be removed.
func fitsPatch(value any) bool {
	pairs, ok := value.(map[string]any)
	return ok && all(maps.Values(pairs), func(v any) bool { return v == nil || isText(v) })
}

func isText(value any) bool {
	_, ok := value.(string)
	return ok
}

func all(values iter.Seq[any], fit func(any) bool) bool {
	for v := range values {
		if !fit(v) {
			return false
		}
	}
	return true
}

// PatchPairs puts a merge patch (RFC 7396) of a field of pairs over what is stored.
func PatchPairs(d *framework.FieldData, field string, stored map[string]string) {
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
// 500ms a zero.
func checkDuration(name string, raw any) error {
	if f, ok := raw.(float64); ok && f != math.Trunc(f) {
		return fmt.Errorf("%s: must be whole seconds, not %v", name, f)
	}
	if value, err := parseutil.ParseDurationSecond(raw); err == nil && value%time.Second != 0 {
		return fmt.Errorf("%s: must be whole seconds, not %s", name, value)
	}
	return nil
}
