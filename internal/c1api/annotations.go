// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// C1's bounds on the annotations of one decoy, the lengths in characters.
const (
	MaxAnnotations           = 16
	MaxAnnotationKeyLength   = 128
	MaxAnnotationValueLength = 256

	maxAnnotationBytes      = 4096 // of all together, as JSON
	reservedAnnotationStart = "c1/"
)

var annotationKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]{0,127}$`)

// annotationSlack is how many times C1's bounds are taken from C1, which may
// raise them.
const annotationSlack = 4

// checkAnnotations refuses annotations that C1 would refuse.
func checkAnnotations(annotations map[string]string) error {
	if len(annotations) > MaxAnnotations {
		return fmt.Errorf("a decoy takes at most %d annotations", MaxAnnotations)
	}
	for key, value := range annotations {
		switch {
		case !annotationKey.MatchString(key):
			return fmt.Errorf("an annotation's key is a letter and up to %d letters, digits, dots, dashes, underscores and slashes after it", MaxAnnotationKeyLength-1)
		case strings.HasPrefix(key, reservedAnnotationStart):
			return errors.New("annotations whose key begins with " + reservedAnnotationStart + " are C1's own")
		case utf8.RuneCountInString(value) > MaxAnnotationValueLength:
			return fmt.Errorf("the annotation %s is longer than %d characters", key, MaxAnnotationValueLength)
		}
	}
	if text, err := json.Marshal(annotations); err != nil || len(text) > maxAnnotationBytes {
		return fmt.Errorf("a decoy's annotations are longer than %d bytes together", maxAnnotationBytes)
	}
	return nil
}

// annotations returns a map of texts, of which the first in the order of their
// keys are kept. A value is cut like any text; a key that cannot be kept as it
// is goes, since cut it would be another.
func (o object) annotations(field string) map[string]string {
	var raw map[string]json.RawMessage
	if json.Unmarshal(o.fields[field], &raw) != nil {
		if o.has(field) {
			o.warn(field, "is not a map of texts and was left out")
		}
		return nil
	}
	var kept map[string]string
	dropped, changed := 0, 0
	values := object{fields: raw}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		value, ok := values.str(key)
		fitKey, badKey := fitText(key, annotationSlack*MaxAnnotationKeyLength)
		if !ok || key == "" || badKey != "" || fitKey != key || len(kept) == annotationSlack*MaxAnnotations {
			dropped++
			continue
		}
		value, fault := fitText(value, annotationSlack*MaxAnnotationValueLength)
		if fault != "" {
			changed++
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = value
	}
	if dropped > 0 {
		o.warn(field, fmt.Sprintf("has %d entries that are too many, too long or no plain text, which were left out", dropped))
	}
	if changed > 0 {
		o.warn(field, fmt.Sprintf("has %d values that were cut or held characters that cannot be shown", changed))
	}
	return kept
}
