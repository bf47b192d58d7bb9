// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxListed bounds a list of texts; C1 knows a few hundred permissions.
const maxListed = 4096

// object is one JSON object of an answer, read field by field: what cannot be
// asked for twice must not be lost over a field beside it. Names are exact. A
// field that C1 did not set may be absent or come as "", false, 0, null, {} or
// []. Any other value that is not of the field's type is left out, and a
// warning says so.
type object struct {
	unprintable

	fields   map[string]json.RawMessage
	warnings *[]string // one sentence each; shared with the objects below
}

// decode reads an answer: one JSON object, and nothing after it. The decoder's
// own error is not shown: it may quote the answer.
func (k call) decode(body []byte) (object, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return object{}, k.unusable("the answer is empty")
	}
	o, ok := parseObject(body)
	if !ok {
		return object{}, k.unusable("the answer is not the JSON object that it must be")
	}
	o.warnings = new([]string)
	return o, nil
}

// unusable is the error for a 2xx answer that does not hold what it must.
func (k call) unusable(message string) *Error {
	return &Error{Op: k.op, Reason: k.lost(), StatusCode: http.StatusOK, Message: message}
}

func parseObject(raw []byte) (object, bool) {
	var o object
	if text := bytes.TrimSpace(raw); len(text) == 0 || text[0] != '{' {
		return o, false
	}
	err := json.Unmarshal(raw, &o.fields)
	return o, err == nil
}

// warn notes what was wrong with a field. It must not quote the value.
func (o object) warn(field, fault string) {
	*o.warnings = append(*o.warnings, fmt.Sprintf("C1's answer: %s %s.", field, fault))
}

// has reports whether a field is set. C1 also sends the fields that are not.
func (o object) has(field string) bool {
	raw, found := o.fields[field]
	if !found {
		return false
	}
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return true // a number too large for any type
	}
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	default:
		return true
	}
}

// below returns the object in a field, and whether there is one. An empty one
// is none: it is how C1 may send a field that is not set.
func (o object) below(field string) (found object, ok bool) {
	found, isObject := parseObject(o.fields[field])
	if !isObject && o.has(field) {
		o.warn(field, "is not the object that it must be and was left out")
	}
	found.warnings = o.warnings
	return found, len(found.fields) > 0
}

// list returns the objects in a field; anything else in the list is skipped.
func (o object) list(field string) []object {
	var raw []json.RawMessage
	if json.Unmarshal(o.fields[field], &raw) != nil && o.has(field) {
		o.warn(field, "is not the list that it must be and was left out")
	}
	var all []object
	for _, r := range raw {
		if one, ok := parseObject(r); ok {
			one.warnings = new([]string)
			all = append(all, one)
		}
	}
	return all
}

// text returns a text for people: one line of visible characters, cut to a
// number of them.
func (o object) text(field string, limit int) string {
	value, ok := o.str(field)
	if !ok {
		o.warn(field, "is not text and was left out")
		return ""
	}
	fit, changed := fitText(value, limit)
	if changed != "" {
		o.warn(field, changed)
	}
	return fit
}

// texts returns a list of short texts; what is none is skipped.
func (o object) texts(field string) []string {
	var raw []any
	if json.Unmarshal(o.fields[field], &raw) != nil {
		return nil
	}
	var all []string
	for _, value := range raw {
		if s, ok := value.(string); ok && len(all) < maxListed {
			s, _ = fitText(s, maxDisplayName)
			all = append(all, s)
		}
	}
	return all
}

// fitText makes a text fit to be shown and says what that changed, "" for
// nothing.
func fitText(s string, limit int) (fit, changed string) {
	line := oneLine(s)
	fit = cut(line, limit)
	switch {
	case fit != line:
		changed = fmt.Sprintf("is longer than %d characters and was cut", limit)
	case strings.ContainsFunc(s, func(r rune) bool { return !Visible(r) }):
		changed = "held line ends or characters that cannot be shown, which were taken out"
	}
	return fit, changed
}

// str returns the string in a field, "" when it is not set, and false when it
// is no string.
func (o object) str(field string) (value string, ok bool) {
	if !o.has(field) {
		return "", true
	}
	err := json.Unmarshal(o.fields[field], &value)
	return value, err == nil
}

// moment returns the time in a field, zero when it is not set. The beginning of
// the Unix era is the zero of C1's times.
func (o object) moment(field string) time.Time {
	var t time.Time
	if !o.has(field) {
		return t
	}
	if json.Unmarshal(o.fields[field], &t) != nil {
		o.warn(field, "is not a time that can be read (RFC 3339) and was left out")
		return time.Time{}
	}
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t
}

// flag returns the truth value in a field, false when it is not set.
func (o object) flag(field string) bool {
	var value bool
	if o.has(field) && json.Unmarshal(o.fields[field], &value) != nil {
		o.warn(field, "is neither true nor false and was left out")
	}
	return value
}

// id returns an ID that can be used in later requests, or an error.
func (o object) id(field string) (string, error) {
	value, ok := o.str(field)
	switch {
	case !ok:
		return "", errors.New("is not text")
	case value == "":
		return "", errors.New("is missing")
	}
	if fault := idFault(value); fault != "" {
		return "", errors.New(fault)
	}
	return value, nil
}

// name returns a client ID or the like, which is used as it is or not at all.
func (o object) name(field string, limit int) (string, error) {
	value, err := o.secret(field, limit)
	if err == nil && strings.ContainsFunc(value, func(r rune) bool { return !Visible(r) }) {
		err = errors.New("holds characters that cannot be shown")
	}
	return value, err
}

// secret returns a secret, which is used as it is or not at all. The Unicode
// replacement character stands for what was no text.
func (o object) secret(field string, limit int) (string, error) {
	value, ok := o.str(field)
	switch {
	case !ok:
		return "", errors.New("is not text")
	case strings.TrimSpace(value) == "":
		return "", errors.New("is missing")
	case len(value) > limit:
		return "", fmt.Errorf("is longer than %d bytes", limit)
	case strings.ContainsFunc(value, func(r rune) bool {
		return unicode.IsControl(r) || r == utf8.RuneError || unicode.In(r, unicode.Zl, unicode.Zp)
	}):
		return "", errors.New("holds a control character or is not valid text")
	}
	return value, nil
}
