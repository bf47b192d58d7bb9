// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"net/http"
)

const introspectPath = "/api/v1/auth/introspect"

// Login checks that C1 takes the credential, and asks nothing else of C1: what a
// connector's credential may do is not ours to try.
func (c *Client) Login(ctx context.Context) error {
	if _, failed := c.tokens.get(ctx); failed != nil {
		failed.err.Op = "log in"
		return failed.err
	}
	return nil
}

// Introspect checks that the identity works and says who it is
// (GET /api/v1/auth/introspect).
func (c *Client) Introspect(ctx context.Context) (*Introspection, error) {
	k := call{op: "introspect", effect: reading, method: http.MethodGet, path: introspectPath}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	found, err := k.decode(body)
	if err != nil {
		return nil, err
	}
	return &Introspection{
		UserID:      found.text("userId", maxIDLength),
		PrincipalID: found.text("principleId", maxIDLength),
		Roles:       found.texts("roles"),
		Permissions: found.texts("permissions"),
		Features:    found.texts("features"),
	}, nil
}
