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
	useFederation       = "wfe"
)

// identity is what C1 holds: a login of a principal or of a connector.
type identity struct {
	clientID    string
	principal   *principal
	secret      secret
	denied      []string // operations that it may not call
	mayNothing  bool     // no operation but introspection
	requireDPoP bool
	weaker      []IdentityOption // what the credentials that it creates may not do besides

	// One of these is set:
	own        *ownCredential // a service principal's credential or a personal client
	credential *credential    // a connector's
	trust      *Trust         // a workload's, which has no secret
}

func (i *identity) may(op string) bool {
	return op == OpIntrospect || (!i.mayNothing && !slices.Contains(i.denied, op))
}

// alive says whether the identity can log in.
func (i *identity) alive(now time.Time) bool {
	switch {
	case i.own != nil:
		return i.own.alive(now)
	case i.credential != nil:
		return i.credential.alive(now)
	default:
		return true
	}
}

// used remembers a login.
func (i *identity) used(now time.Time) {
	switch {
	case i.own != nil:
		i.own.lastUsedAt = now
	case i.credential != nil:
		i.credential.lastUsedAt = now
	}
}

// roles returns the names of the roles that the identity acts with.
func (i *identity) roles() []string {
	switch {
	case i.mayNothing:
		return nil
	case i.own != nil && len(i.own.scopedRoles) > 0:
		return i.own.scopedRoles
	default:
		return i.principal.roles
	}
}

// token is an access token that C1 issued.
type token struct {
	identity   *identity
	expires    time.Time // zero: until it is revoked
	thumbprint string    // of the key that it is bound to, "" for a bearer
}

// IdentityOption shapes a new identity.
type IdentityOption func(*identity, *identityForm)

type identityForm struct {
	ownForm
	personal bool
	plain    bool
	beside   string // client ID of an identity of the same principal
}

// Denied takes the right to call some operations away, or, without naming any,
// to call anything but introspection; such calls answer 403.
func Denied(ops ...string) IdentityOption {
	return func(i *identity, _ *identityForm) {
		i.denied = append(i.denied, ops...)
		i.mayNothing = i.mayNothing || len(ops) == 0
	}
}

// ScopeDenies is Denied for the credentials that the identity creates over the
// API, and for those that they create: they are weaker than their creator. C1
// narrows a credential by its scoped roles; which operations a role allows the
// emulator does not know.
func ScopeDenies(ops ...string) IdentityOption {
	return func(i *identity, _ *identityForm) { i.weaker = append(i.weaker, Denied(ops...)) }
}

// RequireDPoP makes the token endpoint insist on a DPoP proof.
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
	return func(_ *identity, f *identityForm) { f.personal = true }
}

// DisplayName names the identity; without it the name is "Vault".
func DisplayName(name string) IdentityOption {
	return func(_ *identity, f *identityForm) { f.displayName = name }
}

// ExpiresIn ends the identity after a while; without it, it never ends, which
// C1 allows personal clients only.
func ExpiresIn(d time.Duration) IdentityOption {
	return func(_ *identity, f *identityForm) { f.lifetime = d }
}

// ScopedRoles narrows the identity to roles, which its principal gets where it
// has them not.
func ScopedRoles(roles ...string) IdentityOption {
	return func(_ *identity, f *identityForm) { f.scopedRoles = append(f.scopedRoles, roles...) }
}

// SourceCIDRs lets the identity log in from these ranges only.
func SourceCIDRs(cidrs ...string) IdentityOption {
	return func(_ *identity, f *identityForm) { f.sourceCIDRs = append(f.sourceCIDRs, cidrs...) }
}

// Beside makes the identity one more credential of another one's principal. It
// has the rights that its own options say.
func Beside(other Identity) IdentityOption {
	return func(_ *identity, f *identityForm) { f.beside = other.ClientID }
}

// NewIdentity adds an identity; without options it has a secret-token secret,
// all rights and no end. It panics when Beside names nobody.
func (t *Tenant) NewIdentity(options ...IdentityOption) Identity {
	t.mu.Lock()
	defer t.mu.Unlock()
	identity := t.newIdentity(options...)
	t.record(Entry{Op: "createIdentity", Object: identity.ClientID, Detail: outside})
	return identity
}

// newIdentity is NewIdentity with t.mu held and no journal.
func (t *Tenant) newIdentity(options ...IdentityOption) Identity {
	i := &identity{}
	form := identityForm{ownForm: ownForm{displayName: "Vault"}}
	for _, option := range options {
		option(i, &form)
	}
	if form.beside != "" {
		i.principal = t.identities[form.beside].principal
	} else {
		i.principal = t.newPrincipal(!form.personal)
	}
	for role := i.principal.lacks(form.scopedRoles); role != ""; role = i.principal.lacks(form.scopedRoles) {
		i.principal.roles = append(i.principal.roles, role)
	}
	if form.plain {
		i.secret = t.emulator.newPlainSecret()
	}
	t.mintOwn(i, form.ownForm, t.now())
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
		t.staticToken = t.issue(t.identities[t.seeds.identity.ClientID], time.Time{}, "")
	}
	return t.staticToken
}

// issue mints an access token, which is bound to a key unless the thumbprint is
// empty; t.mu is held.
func (t *Tenant) issue(i *identity, expires time.Time, thumbprint string) string {
	value := newAccessToken()
	t.emulator.remember(value)
	t.tokens[value] = &token{identity: i, expires: expires, thumbprint: thumbprint}
	return value
}

// RevokeTokens ends every access token of the tenant, static ones included.
func (t *Tenant) RevokeTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
	t.record(Entry{Op: "revokeTokens", Detail: outside})
}
