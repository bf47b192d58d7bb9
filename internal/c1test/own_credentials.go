// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ownCredential is what C1 keeps of a service principal's credential or of a
// personal client.
type ownCredential struct {
	id          string
	login       *identity
	displayName string
	createdAt   time.Time
	updatedAt   time.Time
	expiresAt   time.Time // zero: never
	deletedAt   time.Time // zero: not deleted
	lastUsedAt  time.Time
	scopedRoles []string // empty: all roles of the principal
	sourceCIDRs []string // empty: from everywhere
}

func (c *ownCredential) alive(now time.Time) bool {
	return c.deletedAt.IsZero() && (c.expiresAt.IsZero() || now.Before(c.expiresAt))
}

// admits says whether the credential may be used from an address.
func (c *ownCredential) admits(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return len(c.sourceCIDRs) == 0
	}
	return len(c.sourceCIDRs) == 0 || slices.ContainsFunc(c.sourceCIDRs, func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		return err == nil && prefix.Contains(ip.Unmap())
	})
}

// ownForm is what a new credential is to be.
type ownForm struct {
	displayName string
	lifetime    time.Duration // 0: without an end
	scopedRoles []string
	sourceCIDRs []string
}

// maxCIDRs is how many source ranges C1 takes.
const maxCIDRs = 32

// check says what C1 refuses, whatever the kind of credential.
func (f ownForm) check(p *principal) error {
	if f.displayName == "" {
		return errors.New("displayName is required")
	}
	return errors.Join(checkRoles(p, f.scopedRoles), checkCIDRs(f.sourceCIDRs))
}

func checkRoles(p *principal, roles []string) error {
	if role := p.lacks(roles); role != "" {
		return fmt.Errorf("scopedRoles: %q is no role of the credential's owner", role)
	}
	return nil
}

func checkCIDRs(cidrs []string) error {
	if len(cidrs) > maxCIDRs {
		return fmt.Errorf("at most %d source CIDRs are allowed", maxCIDRs)
	}
	for _, cidr := range cidrs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return fmt.Errorf("%q is no CIDR such as 10.0.0.0/24", cidr)
		}
	}
	return nil
}

// mintOwn gives the identity a client ID and a secret, and makes it an object
// of the API; t.mu is held.
func (t *Tenant) mintOwn(i *identity, form ownForm, now time.Time) *ownCredential {
	i.clientID = t.freshClientID(i.principal.use())
	if i.secret.value == "" {
		i.secret = t.emulator.newKeySecret()
	}
	minted := &ownCredential{
		id: newID(now), login: i, displayName: form.displayName, createdAt: now, updatedAt: now,
		scopedRoles: slices.Clone(form.scopedRoles), sourceCIDRs: slices.Clone(form.sourceCIDRs),
	}
	if i.principal.service {
		minted.id, _, _ = strings.Cut(i.clientID, "@")
	}
	if form.lifetime > 0 {
		minted.expiresAt = now.Add(form.lifetime)
	}
	i.own = minted
	t.identities[i.clientID] = i
	t.own = append(t.own, minted)
	return minted
}

func (t *Tenant) recordOwn(op string, c *ownCredential, detail string) {
	t.record(Entry{
		Op: op, Object: c.login.clientID, CredentialID: c.id,
		Fingerprint: c.login.secret.fingerprint, Detail: detail,
	})
}

// deleteOwn ends the credential; tokens that it got live on until their end.
func (t *Tenant) deleteOwn(c *ownCredential, now time.Time, detail string) {
	c.deletedAt, c.updatedAt = now, now
	op := OpDeletePersonalClient
	if c.login.principal.service {
		op = OpDeleteServicePrincipalCredential
	}
	t.recordOwn(op, c, detail)
}

// OwnCredential is a service principal's credential or a personal client as the
// emulator shows it.
type OwnCredential struct {
	ID                 string    `json:"id"`
	ClientID           string    `json:"client_id"`
	DisplayName        string    `json:"display_name"`
	ServicePrincipalID string    `json:"service_principal_id"` // the user ID that introspection answers
	Personal           bool      `json:"personal"`
	RequireDPoP        bool      `json:"require_dpop"`
	Fingerprint        string    `json:"fingerprint"` // hex SHA-256 of the secret
	CreatedAt          time.Time `json:"created_at"`
	ExpiresAt          time.Time `json:"expires_at"`   // zero: never
	LastUsedAt         time.Time `json:"last_used_at"` // zero: never
	ScopedRoles        []string  `json:"scoped_roles"`
	SourceCIDRs        []string  `json:"source_cidrs"`
}

func (c *ownCredential) public() OwnCredential {
	return OwnCredential{
		ID: c.id, ClientID: c.login.clientID, DisplayName: c.displayName,
		ServicePrincipalID: c.login.principal.userID, Personal: !c.login.principal.service,
		RequireDPoP: c.login.requireDPoP, Fingerprint: c.login.secret.fingerprint,
		CreatedAt: c.createdAt, ExpiresAt: c.expiresAt, LastUsedAt: c.lastUsedAt,
		ScopedRoles: slices.Clone(c.scopedRoles), SourceCIDRs: slices.Clone(c.sourceCIDRs),
	}
}

// LiveCredentials returns the credentials of service principals and the
// personal clients that could log in now, seeded ones included, oldest first.
func (t *Tenant) LiveCredentials() []OwnCredential {
	t.mu.Lock()
	defer t.mu.Unlock()
	var alive []OwnCredential
	for _, c := range t.own {
		if c.alive(t.now()) {
			alive = append(alive, c.public())
		}
	}
	return alive
}

// DeleteIdentity ends an identity as somebody else would, and reports whether
// there was one to end.
func (t *Tenant) DeleteIdentity(clientID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.identities[clientID]
	switch {
	case i == nil:
		return false
	case i.trust != nil:
		delete(t.identities, clientID)
		t.record(Entry{Op: "deleteTrust", Object: clientID, Detail: outside})
		return true
	case i.own == nil || !i.own.deletedAt.IsZero():
		return false
	}
	t.deleteOwn(i.own, t.now(), outside)
	return true
}

// ExpireIdentity lets an identity expire now, and reports whether it was alive.
func (t *Tenant) ExpireIdentity(clientID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.identities[clientID]
	if i == nil || i.own == nil || !i.own.alive(t.now()) {
		return false
	}
	i.own.expiresAt = t.now()
	t.recordOwn("expireIdentity", i.own, outside)
	return true
}
