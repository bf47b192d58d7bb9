// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"net/url"
	"strings"
)

// Names of the API's operations, for Requests, Fault, Hold and the journal.
const (
	OpToken                     = "token"
	OpIntrospect                = "introspect"
	OpGetConnector              = "getConnector"
	OpRotateConnector           = "rotateConnector"
	OpGetConnectorCredential    = "getConnectorCredential"
	OpRevokeConnectorCredential = "revokeConnectorCredential"
	OpGetDecoy                  = "getDecoy"
	OpListDecoys                = "listDecoys"
	OpCreateDecoy               = "createDecoy"
	OpUpdateDecoy               = "updateDecoy"
	OpDeleteDecoy               = "deleteDecoy"
	OpRotateDecoy               = "rotateDecoy"

	opUnknown = "unknown"
)

// Operations lists them all.
func Operations() []string {
	return []string{
		OpToken, OpIntrospect,
		OpGetConnector, OpRotateConnector, OpGetConnectorCredential, OpRevokeConnectorCredential,
		OpGetDecoy, OpListDecoys, OpCreateDecoy, OpUpdateDecoy, OpDeleteDecoy, OpRotateDecoy,
	}
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// route is one operation of the API.
type route struct {
	op          string
	method      string
	path        string   // segments in braces match any one segment
	query       []string // allowed query parameters
	contentType string   // of the request body, "" = no body
	open        bool     // needs no bearer
	decoys      bool     // answers 404 in tenants without the decoy feature
	handle      func(*Tenant, *request) answer
}

var routes = []route{
	{op: OpToken, method: http.MethodPost, path: "/auth/v1/token", contentType: typeForm, open: true, handle: (*Tenant).handleToken},
	{op: OpIntrospect, method: http.MethodGet, path: "/api/v1/auth/introspect", handle: (*Tenant).handleIntrospect},

	{op: OpRotateConnector, method: http.MethodPost, path: "/api/v1/apps/connectors/credentials", contentType: typeJSON, handle: (*Tenant).handleRotateConnector},
	{op: OpGetConnector, method: http.MethodGet, path: "/api/v1/apps/{app}/connectors/{connector}", handle: (*Tenant).handleGetConnector},
	{op: OpGetConnectorCredential, method: http.MethodGet, path: "/api/v1/apps/{app}/connectors/{connector}/credentials/{credential}", handle: (*Tenant).handleGetConnectorCredential},
	{op: OpRevokeConnectorCredential, method: http.MethodDelete, path: "/api/v1/apps/{app}/connectors/{connector}/credentials/{credential}", contentType: typeJSON, handle: (*Tenant).handleRevokeConnectorCredential},

	{op: OpListDecoys, method: http.MethodGet, path: "/api/v1/decoys", query: []string{"page_size", "page_token"}, decoys: true, handle: (*Tenant).handleListDecoys},
	{op: OpCreateDecoy, method: http.MethodPost, path: "/api/v1/decoys", contentType: typeJSON, decoys: true, handle: (*Tenant).handleCreateDecoy},
	{op: OpGetDecoy, method: http.MethodGet, path: "/api/v1/decoys/{decoy}", decoys: true, handle: (*Tenant).handleGetDecoy},
	{op: OpUpdateDecoy, method: http.MethodPatch, path: "/api/v1/decoys/{decoy}", contentType: typeJSON, decoys: true, handle: (*Tenant).handleUpdateDecoy},
	{op: OpDeleteDecoy, method: http.MethodDelete, path: "/api/v1/decoys/{decoy}", contentType: typeJSON, decoys: true, handle: (*Tenant).handleDeleteDecoy},
	{op: OpRotateDecoy, method: http.MethodPost, path: "/api/v1/decoys/{decoy}/rotate", contentType: typeJSON, decoys: true, handle: (*Tenant).handleRotateDecoy},
}

// findRoute returns the route of a request with the IDs in its path, unescaped.
// Without one, allowed lists the methods that the path has.
func findRoute(method string, u *url.URL) (found *route, ids map[string]string, allowed []string) {
	for i := range routes {
		r := &routes[i]
		params, ok := matchPath(r.path, u.EscapedPath())
		if !ok {
			continue
		}
		if r.method == method {
			return r, params, nil
		}
		allowed = append(allowed, r.method)
	}
	return nil, nil, allowed
}

// matchPath compares segment by segment before unescaping, so that an ID with
// an escaped slash stays one ID.
func matchPath(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		name, isParam := strings.CutPrefix(segment, "{")
		if !isParam {
			if got[i] != segment {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}
