// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"strings"
)

// authorize checks everything that C1 checks before it looks at the objects of
// a request: the path, the bearer, the caller's rights, the feature, the form.
func (t *Tenant) authorize(rq *request) (answer, bool) {
	if rq.route == nil {
		_, _, allowed := findRoute(rq.Method, rq.URL)
		if len(allowed) == 0 {
			return fail(http.StatusNotFound, codeNotFound, "Not Found"), false
		}
		a := fail(http.StatusMethodNotAllowed, codeUnimplemented, "Method Not Allowed")
		a.header = map[string]string{"Allow": strings.Join(allowed, ", ")}
		return a, false
	}
	if rq.route.open {
		return answer{}, true // the token endpoint has errors of its own
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	caller := t.bearer(rq)
	switch {
	case caller == nil:
		return unauthenticated(), false
	case !caller.may(rq.route.op):
		return fail(http.StatusForbidden, codePermissionDenied, "permission denied"), false
	case rq.route.decoys && !t.decoyFeature:
		return fail(http.StatusNotFound, codeNotFound, "Not Found"), false
	}
	rq.caller = caller
	return rq.checkShape()
}

// bearer returns the identity that the access token stands for, or nil. A
// decoy's access token is no token, and raises a finding; t.mu is held.
func (t *Tenant) bearer(rq *request) *identity {
	scheme, value, found := strings.Cut(rq.Header.Get("Authorization"), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	if issued := t.tokens[value]; issued != nil {
		if !rq.now.Before(issued.expires) && !issued.expires.IsZero() {
			return nil
		}
		return issued.identity
	}
	for _, d := range t.decoys {
		if d.kind == KindAccessToken && d.live() {
			if used := d.find(value); used != nil {
				t.raise(rq, d, used.fingerprint)
			}
		}
	}
	return nil
}
