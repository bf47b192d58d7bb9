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

	caller, refusal := t.callerOf(rq, scheme, value)
	switch {
	case caller == nil:
		return refusal, false
	case !caller.may(rq.route.op):
		return fail(http.StatusForbidden, codePermissionDenied, "permission denied"), false
	case !t.has(rq.route.feature):
		return noRoute(), false
	}
	rq.caller = caller
	return rq.checkShape()
}

// callerOf returns the identity that the access token stands for, or why it is
// refused; t.mu is held. A token that is bound to a key is no bearer, and a
// bearer proves nothing (RFC 9449, 7).
func (t *Tenant) callerOf(rq *request, scheme, value string) (*identity, answer) {
	issued := t.tokens[value]
	expired := issued != nil && !issued.expires.IsZero() && !rq.now.Before(issued.expires)
	switch {
	case issued == nil || expired:
		return nil, unauthenticated()
	case issued.thumbprint == "" && strings.EqualFold(scheme, "Bearer"):
		return issued.identity, answer{}
	case issued.thumbprint == "" && !strings.EqualFold(scheme, schemeDPoP):
		return nil, unauthenticated()
	}
	var problem *badProof
	switch {
	case issued.thumbprint == "":
		problem = invalidToken("the access token is not bound to a key")
	case !strings.EqualFold(scheme, schemeDPoP):
		problem = invalidToken("the access token is bound to a key and no bearer")
	default:
		problem = t.possession(rq, issued, value)
	}
	if problem != nil {
		return nil, problem.onAPI()
	}
	return issued.identity, answer{}
}

func invalidToken(description string) *badProof {
	return &badProof{code: "invalid_token", description: description}
}

// possession returns why a request does not prove that its caller holds the key
// of the access token, or nil; t.mu is held.
func (t *Tenant) possession(rq *request, issued *token, value string) *badProof {
	p, problem := t.proofOf(rq, onAPI, value)
	switch {
	case problem != nil:
		return problem
	case p == nil:
		return invalidProof("the DPoP header is missing")
	case p.thumbprint != issued.thumbprint:
		return invalidToken("the access token is bound to another key")
	default:
		return nil
	}
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
