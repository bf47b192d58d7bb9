// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"
)

// C1's published bounds on annotations.
const (
	maxAnnotations      = 16
	maxAnnotationValue  = 256  // characters
	maxAnnotationsBytes = 4096 // of all of them, serialized
)

var annotationKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]{0,127}$`)

// merge returns annotations as an update leaves them: given keys overwrite,
// absent ones stay, an empty value deletes.
func merge(current, given map[string]string) map[string]string {
	merged := map[string]string{}
	maps.Copy(merged, current)
	maps.Copy(merged, given)
	maps.DeleteFunc(merged, func(key, value string) bool {
		_, isGiven := given[key]
		return isGiven && value == ""
	})
	return merged
}

// checkAnnotations returns which of C1's bounds the given annotations, or all
// that the decoy would then have, exceed.
func checkAnnotations(given, result map[string]string) error {
	for key, value := range given {
		switch {
		case !annotationKey.MatchString(key):
			return fmt.Errorf("annotations: a key must match %s", annotationKey)
		case strings.HasPrefix(key, "c1/"):
			return fmt.Errorf("annotations: keys that begin with c1/ are reserved")
		case utf8.RuneCountInString(value) > maxAnnotationValue:
			return fmt.Errorf("annotations: a value is longer than %d characters", maxAnnotationValue)
		}
	}
	encoded, err := json.Marshal(result)
	switch {
	case err != nil:
		return fmt.Errorf("annotations: %w", err)
	case len(result) > maxAnnotations:
		return fmt.Errorf("annotations: more than %d", maxAnnotations)
	case len(encoded) > maxAnnotationsBytes:
		return fmt.Errorf("annotations: more than %d bytes together", maxAnnotationsBytes)
	}
	return nil
}
