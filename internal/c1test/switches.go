// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "fmt"

// Feature is a group of operations that a tenant may lack.
type Feature string

// The features that can be switched off; every tenant starts with all of them.
const (
	FeatureConnectors Feature = "connectors"
	FeatureDecoys     Feature = "decoys" // early access at C1
	FeatureFindings   Feature = "findings"
)

// Features lists them all.
func Features() []Feature { return []Feature{FeatureConnectors, FeatureDecoys, FeatureFindings} }

// SetFeature turns a feature on or off. Off, each of its operations answers as
// an unknown route does: 404 in C1's error form.
func (t *Tenant) SetFeature(f Feature, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off[f] = !on
	t.record(Entry{Op: "setFeature", Object: string(f), Detail: map[bool]string{true: "on", false: "off"}[on]})
}

// SetDecoyFeature is SetFeature for decoys.
func (t *Tenant) SetDecoyFeature(on bool) { t.SetFeature(FeatureDecoys, on) }

// SetConnectorFeature is SetFeature for connectors.
func (t *Tenant) SetConnectorFeature(on bool) { t.SetFeature(FeatureConnectors, on) }

// has reports whether the feature is on; t.mu is held.
func (t *Tenant) has(f Feature) bool { return !t.off[f] }

// RevokedAnswer says how C1 shows a credential that was revoked or that an
// exclusive rotation ended. C1's clients expect either, so code that uses C1
// must be right under both.
type RevokedAnswer string

const (
	// RevokedNotFound: GET and a second revoke answer 404.
	RevokedNotFound RevokedAnswer = "not_found"
	// RevokedShown: GET answers 200 with deletedAt, and so does a second
	// revoke, which changes nothing.
	RevokedShown RevokedAnswer = "shown"
)

func (r RevokedAnswer) check() error {
	if r != RevokedNotFound && r != RevokedShown {
		return fmt.Errorf("revoked: want %q or %q, got %q", RevokedNotFound, RevokedShown, string(r))
	}
	return nil
}

// SetRevokedAnswer changes how revoked credentials are shown from now on.
func (t *Tenant) SetRevokedAnswer(r RevokedAnswer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = r
	t.record(Entry{Op: "setRevokedAnswer", Detail: string(r)})
}

// TokenErrors is the form in which the token endpoint refuses. C1 does not
// document it, so code that uses C1 must read both.
type TokenErrors string

const (
	// TokenErrorsOAuth: error and error_description (RFC 6749, 5.2).
	TokenErrorsOAuth TokenErrors = "oauth"
	// TokenErrorsGRPC: code, message and details, as everywhere else.
	TokenErrorsGRPC TokenErrors = "grpc"
)

func (f TokenErrors) check() error {
	if f != TokenErrorsOAuth && f != TokenErrorsGRPC {
		return fmt.Errorf("token_errors: want %q or %q, got %q", TokenErrorsOAuth, TokenErrorsGRPC, string(f))
	}
	return nil
}

// SetTokenErrors changes the form of the token endpoint's later refusals.
func (t *Tenant) SetTokenErrors(f TokenErrors) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokenErrors = f
	t.record(Entry{Op: "setTokenErrors", Detail: string(f)})
}
