// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"slices"
	"time"
)

// Identity is what a caller of C1 holds.
type Identity struct {
	ClientID     string
	ClientSecret string
}

// Uses of client IDs, their last part.
const (
	usePersonal         = "pcc"
	useServicePrincipal = "spc"
	useConnector        = "ccc"
)

// identity is what C1 holds: a caller's or a connector credential's login.
type identity struct {
	clientID    string
	principalID string
	secret      secret
	denied      []string // operations that it may not call
	mayNothing  bool     // no operation but introspection
	requireDPoP bool
	credential  *credential // set for a connector's login
}

func (i *identity) may(op string) bool {
	return op == OpIntrospect || (!i.mayNothing && !slices.Contains(i.denied, op))
}

// token is an access token that C1 issued.
type token struct {
	identity *identity
	expires  time.Time // zero: until it is revoked
}

// IdentityOption shapes a new identity.
type IdentityOption func(*identity, *identityForm)

type identityForm struct {
	use   string
	plain bool
}

// Denied takes the right to call some operations away, or, without naming any,
// to call anything but introspection; such calls answer 403.
func Denied(ops ...string) IdentityOption {
	return func(i *identity, _ *identityForm) {
		i.denied = append(i.denied, ops...)
		i.mayNothing = i.mayNothing || len(ops) == 0
	}
}

// RequireDPoP makes the token endpoint insist on a DPoP proof, which the
// emulator does not check: such an identity cannot log in.
func RequireDPoP() IdentityOption {
	return func(i *identity, _ *identityForm) { i.requireDPoP = true }
}

// PlainSecret gives the identity a secret that is no secret-token.
func PlainSecret() IdentityOption {
	return func(_ *identity, f *identityForm) { f.plain = true }
}

// PersonalClient makes the identity a personal client (/pcc) instead of a
// service principal's credential (/spc).
func PersonalClient() IdentityOption {
	return func(_ *identity, f *identityForm) { f.use = usePersonal }
}

// NewIdentity adds an identity; without options it has a secret-token secret
// and all rights.
func (t *Tenant) NewIdentity(options ...IdentityOption) Identity {
	t.mu.Lock()
	defer t.mu.Unlock()
	identity := t.newIdentity(options...)
	t.record(Entry{Op: "createIdentity", Object: identity.ClientID, Detail: outside})
	return identity
}

// newIdentity is NewIdentity with t.mu held and no journal.
func (t *Tenant) newIdentity(options ...IdentityOption) Identity {
	i := &identity{principalID: newID(t.now())}
	form := identityForm{use: useServicePrincipal}
	for _, option := range options {
		option(i, &form)
	}
	i.clientID = t.freshClientID(form.use)
	if form.plain {
		i.secret = t.emulator.newPlainSecret()
	} else {
		i.secret = t.emulator.newKeySecret()
	}
	t.identities[i.clientID] = i
	return Identity{ClientID: i.clientID, ClientSecret: i.secret.value}
}

// freshClientID returns a client ID that is not in use; t.mu is held.
func (t *Tenant) freshClientID(use string) string {
	for {
		id := newClientID(t.host, use)
		if t.identities[id] == nil && t.decoyByClientID(id) == nil {
			return id
		}
	}
}

// Identity returns the seeded identity with a secret-token secret and all rights.
func (t *Tenant) Identity() Identity { return t.seeds.identity }

// PlainIdentity returns the seeded identity with a plain secret and all rights.
func (t *Tenant) PlainIdentity() Identity { return t.seeds.plainIdentity }

// StaticToken returns a bearer of the seeded identity that is valid until
// RevokeTokens; after that, a new one.
func (t *Tenant) StaticToken() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tokens[t.staticToken] == nil {
		t.staticToken = t.issue(t.identities[t.seeds.identity.ClientID], time.Time{})
	}
	return t.staticToken
}

// issue mints an access token; t.mu is held.
func (t *Tenant) issue(i *identity, expires time.Time) string {
	value := newAccessToken()
	t.emulator.remember(value)
	t.tokens[value] = &token{identity: i, expires: expires}
	return value
}

// RevokeTokens ends every access token of the tenant, static ones included.
func (t *Tenant) RevokeTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
	t.record(Entry{Op: "revokeTokens", Detail: outside})
}
