// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

// Route is one operation of the router, for tests that go through all of them.
type Route struct {
	Op, Method, Path string
	Feature          Feature
}

// Routes returns every operation of the router.
func Routes() []Route {
	var all []Route
	for _, r := range routes {
		all = append(all, Route{Op: r.op, Method: r.method, Path: r.path, Feature: r.feature})
	}
	return all
}
