// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"sort"
	"strconv"
)

const (
	defaultPageSize = 25
	maxPageSize     = 100
)

// idForm is what a list's items may be called: KSUIDs and names like
// strange-hydra-68836.
var idForm = regexp.MustCompile(`^[0-9A-Za-z-]{10,40}$`)

// page is the part of a list that a caller asks for. Lists are ordered by ID.
type page struct {
	size  int
	after string // the last ID of the page before, "" on the first
}

// newPage takes a page size, 0 = the default, and the token of a page, "" = the
// first.
func newPage(size int, token string) (page, error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || (token != "" && !idForm.Match(after)) {
		return page{}, fmt.Errorf("the page token is not one that this tenant gave out")
	}
	if size < 0 || size > maxPageSize {
		return page{}, fmt.Errorf("the page size must be between 0 and %d", maxPageSize)
	}
	if size == 0 {
		size = defaultPageSize
	}
	return page{size: size, after: string(after)}, nil
}

// pageOfQuery reads the query parameters page_size and page_token.
func pageOfQuery(query url.Values) (page, error) {
	size := 0
	if given := query.Get("page_size"); given != "" {
		n, err := strconv.ParseInt(given, 10, 32)
		if err != nil {
			return page{}, fmt.Errorf("page_size must be a number")
		}
		size = int(n)
	}
	return newPage(size, query.Get("page_token"))
}

// cut returns the items of the page and the token of the next one, "" on the
// last. The items are ordered by the ID that id returns.
func cut[T any](p page, items []T, id func(T) string) (shown []T, next string) {
	from := sort.Search(len(items), func(i int) bool { return id(items[i]) > p.after })
	to := min(from+p.size, len(items))
	if to < len(items) {
		next = base64.RawURLEncoding.EncodeToString([]byte(id(items[to-1])))
	}
	return items[from:to], next
}
