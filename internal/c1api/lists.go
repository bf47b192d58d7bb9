// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
)

const (
	listPageSize = 100
	maxListPages = 100
	maxPageToken = 4096
)

// lists walks a list page by page until one of its items is the one that is meant,
// and reports whether that is there and not deleted.
func (c *Client) lists(ctx context.Context, k call, is func(item object) (found, deleted bool)) (bool, error) {
	listed := false
	err := c.walk(ctx, k, url.Values{"page_size": {strconv.Itoa(listPageSize)}}, func(page object) (enough bool) {
		for _, item := range page.list("list") {
			if found, deleted := is(item); found {
				listed = !deleted
				return true
			}
		}
		return false
	})
	return listed && err == nil, err
}

// walk shows the pages of a list one after the other until one is enough. The first
// is asked for with query alone.
func (c *Client) walk(ctx context.Context, k call, query url.Values, show func(page object) (enough bool)) error {
	path := k.path
	for range maxListPages {
		k.path = path
		if len(query) > 0 {
			k.path += "?" + query.Encode()
		}
		page, err := c.listPage(ctx, k)
		if err != nil || show(page) {
			return err
		}
		next, ok := page.str("nextPageToken")
		switch {
		case next == "" && ok:
			return nil
		case !ok || next == query.Get("page_token") || len(next) > maxPageToken:
			return k.unusable("the list names no page that could be the next")
		}
		query.Set("page_token", next)
	}
	return k.unusable("the list has too many pages")
}

// listPage asks for one page of a list. An object that has neither of a page's
// fields, and others, is something else's answer.
func (c *Client) listPage(ctx context.Context, k call) (object, error) {
	body, err := c.do(ctx, k)
	if err != nil {
		return object{}, err
	}
	page, err := k.decode(body)
	if err != nil {
		return object{}, err
	}
	list, hasList := page.fields["list"]
	_, hasNext := page.fields["nextPageToken"]
	if !hasList && !hasNext && len(page.fields) > 0 {
		return object{}, k.unusable("the answer is not a page of a list")
	}
	if hasList && json.Unmarshal(list, new([]json.RawMessage)) != nil {
		return object{}, k.unusable("the answer's list is not one")
	}
	return page, nil
}
