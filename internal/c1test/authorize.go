// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"strings"
)

// authorize checks everything that C1 checks before it looks at the objects of
// a request: the route, the bearer, the caller's rights, the feature, the form.
// An unknown path and an unknown method of a known one get the same 404.
func (t *Tenant) authorize(rq *request) (answer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	scheme, value, _ := strings.Cut(rq.Header.Get("Authorization"), " ")
	t.springDecoy(rq, value)
	switch {
	case rq.route == nil:
		return noRoute(), false
	case rq.route.op == OpToken:
		return answer{}, true // has errors of its own
	}

	caller := t.bearer(rq, scheme, value)
	switch {
	case caller == nil:
		return unauthenticated(), false
	case !caller.may(rq.route.op):
		return fail(http.StatusForbidden, codePermissionDenied, "permission denied"), false
	case !t.has(rq.route.feature):
		return noRoute(), false
	}
	rq.caller = caller
	return rq.checkShape()
}

// bearer returns the identity that the access token stands for, or nil; t.mu
// is held.
func (t *Tenant) bearer(rq *request, scheme, value string) *identity {
	issued := t.tokens[value]
	expired := issued != nil && !issued.expires.IsZero() && !rq.now.Before(issued.expires)
	if issued == nil || expired || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return issued.identity
}

// springDecoy raises a finding when the value is a decoy's access token,
// whatever the request asks for; t.mu is held.
func (t *Tenant) springDecoy(rq *request, value string) {
	for _, d := range t.decoys {
		if d.kind == KindAccessToken && d.live() {
			if used := d.find(value); used != nil {
				t.raise(rq, d, used.fingerprint)
			}
		}
	}
}
