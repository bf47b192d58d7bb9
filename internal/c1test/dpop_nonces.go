// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"maps"
	"time"
)

// nonceHeader is where C1 gives a nonce out.
const nonceHeader = "DPoP-Nonce"

// proofPlace is where a proof is checked: C1's token endpoint and its API hand
// out nonces of their own.
type proofPlace string

const (
	onTokenEndpoint proofPlace = "token"
	onAPI           proofPlace = "api"
)

// dpop is what a tenant remembers for the checks of proofs.
type dpop struct {
	window time.Duration
	nonces map[proofPlace]string // the current one, where one is wanted
	seen   map[string]time.Time  // until when a jti counts as used
}

// defaultProofWindow is how far a proof's iat may lie from C1's clock.
const defaultProofWindow = time.Minute

func newDPoP() dpop {
	return dpop{window: defaultProofWindow, nonces: map[proofPlace]string{}, seen: map[string]time.Time{}}
}

// replayed reports whether a jti was used before, and remembers it for as long
// as a proof with it could pass.
func (d *dpop) replayed(id string, now time.Time) bool {
	until, used := d.seen[id]
	if used && !now.After(until) {
		return true
	}
	if len(d.seen)%1000 == 999 { // rarely, since it looks at them all
		maps.DeleteFunc(d.seen, func(_ string, until time.Time) bool { return now.After(until) })
	}
	d.seen[id] = now.Add(2 * d.window)
	return false
}

// checkNonce returns why the nonce of a proof is refused, or nil. Where none is
// wanted C1 refuses one.
func (d *dpop) checkNonce(at proofPlace, sent *string) *badProof {
	want := d.nonces[at]
	switch {
	case want == "" && sent == nil:
		return nil
	case want == "":
		return invalidProof("the proof has a nonce, which nobody asked for")
	case sent == nil || *sent != want:
		return &badProof{code: "use_dpop_nonce", description: "the proof needs the nonce of this answer", nonce: want}
	default:
		return nil
	}
}

// SetDPoPNonces says whether the token endpoint and the API want a nonce in
// DPoP proofs; at first neither does. Each has a nonce of its own, and refuses
// one that it did not ask for.
func (t *Tenant) SetDPoPNonces(token, api bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.dpop.nonces)
	if token {
		t.dpop.nonces[onTokenEndpoint] = newAccessToken()
	}
	if api {
		t.dpop.nonces[onAPI] = newAccessToken()
	}
	t.record(Entry{Op: "setDPoPNonces", Detail: onOff(token) + " " + onOff(api)})
}

// RotateDPoPNonces replaces the nonces: who sends an older one is challenged
// again.
func (t *Tenant) RotateDPoPNonces() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.dpop.nonces {
		t.dpop.nonces[at] = newAccessToken()
	}
	t.record(Entry{Op: "rotateDPoPNonces", Detail: outside})
}

// SetDPoPWindow changes how far a proof's iat may lie from C1's clock; a minute
// at first.
func (t *Tenant) SetDPoPWindow(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dpop.window = d
	t.record(Entry{Op: "setDPoPWindow", Detail: d.String()})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
