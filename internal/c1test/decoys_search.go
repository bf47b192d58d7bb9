// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"fmt"
	"slices"
	"strings"
)

const enumUnspecified = "_UNSPECIFIED"

// decoyStatus is C1's DecoyStatusFilter.
type decoyStatus string

const (
	decoyActive   decoyStatus = "DECOY_STATUS_FILTER_ACTIVE"
	decoyDisabled decoyStatus = "DECOY_STATUS_FILTER_DISABLED"
)

func (d *decoy) status() decoyStatus {
	if d.disabled {
		return decoyDisabled
	}
	return decoyActive
}

// searchDecoysRequest is C1's DecoySearchRequest. Lists are alternatives, an
// empty one filters nothing.
type searchDecoysRequest struct {
	Query          string        `json:"query"`
	Kinds          []Kind        `json:"kinds"`
	Statuses       []decoyStatus `json:"statuses"`
	AnnotationKeys []string      `json:"annotationKeys"`
	HasBeenUsed    bool          `json:"hasBeenUsed"`
	PageSize       int           `json:"pageSize"`
	PageToken      string        `json:"pageToken"`
}

// handleSearchDecoys is POST /api/v1/decoys/search.
func (t *Tenant) handleSearchDecoys(rq *request) answer {
	var in searchDecoysRequest
	err := decode(rq.body, &in,
		"query", "kinds", "statuses", "annotationKeys", "hasBeenUsed", "pageSize", "pageToken")
	if err != nil {
		return badRequest("%v", err)
	}
	page, err := newPage(in.PageSize, in.PageToken)
	if err != nil {
		return badRequest("%v", err)
	}
	if in.Kinds, err = knownValues("kinds", in.Kinds, Kinds()); err != nil {
		return badRequest("%v", err)
	}
	if in.Statuses, err = knownValues("statuses", in.Statuses, []decoyStatus{decoyActive, decoyDisabled}); err != nil {
		return badRequest("%v", err)
	}
	return t.listDecoys(page, in.matches)
}

func (in searchDecoysRequest) matches(d *decoy) bool {
	text := strings.ToLower(d.displayName + "\n" + d.description)
	annotated := func(key string) bool {
		_, ok := d.annotations[key]
		return ok
	}
	return strings.Contains(text, strings.ToLower(in.Query)) &&
		isOneOf(d.kind, in.Kinds) &&
		isOneOf(d.status(), in.Statuses) &&
		(len(in.AnnotationKeys) == 0 || slices.ContainsFunc(in.AnnotationKeys, annotated)) &&
		(!in.HasBeenUsed || !d.lastUsedAt.IsZero())
}

// isOneOf says whether a filter lets the value through.
func isOneOf[T comparable](value T, filter []T) bool {
	return len(filter) == 0 || slices.Contains(filter, value)
}

// knownValues refuses values of an enum that C1 does not have, and drops the
// unspecified one, which filters nothing.
func knownValues[T ~string](field string, given, known []T) ([]T, error) {
	var values []T
	for _, value := range given {
		switch {
		case slices.Contains(known, value):
			values = append(values, value)
		case !strings.HasSuffix(string(value), enumUnspecified):
			return nil, fmt.Errorf("%s: unknown value %q", field, string(value))
		}
	}
	return values, nil
}
