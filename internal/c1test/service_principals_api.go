// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// servicePrincipalCredentialJSON is C1's ServicePrincipalCredential.
type servicePrincipalCredentialJSON struct {
	ID                 string     `json:"id"`
	ServicePrincipalID string     `json:"servicePrincipalId"`
	ClientID           string     `json:"clientId"`
	DisplayName        string     `json:"displayName"`
	ScopedRoleIDs      []string   `json:"scopedRoleIds"`
	AllowSourceCIDRs   []string   `json:"allowSourceCidrs"`
	RequireDPoP        bool       `json:"requireDpop"`
	CreatedAt          time.Time  `json:"createdAt"`
	ExpiresAt          *time.Time `json:"expiresAt"`
	LastUsedAt         *time.Time `json:"lastUsedAt"`
}

func (c *ownCredential) servicePrincipalJSON() *servicePrincipalCredentialJSON {
	return &servicePrincipalCredentialJSON{
		ID: c.id, ServicePrincipalID: c.login.principal.userID, ClientID: c.login.clientID, DisplayName: c.displayName,
		ScopedRoleIDs: orEmpty(c.scopedRoles), AllowSourceCIDRs: orEmpty(c.sourceCIDRs), RequireDPoP: c.login.requireDPoP,
		CreatedAt: c.createdAt.UTC(), ExpiresAt: timeOrNull(c.expiresAt), LastUsedAt: timeOrNull(c.lastUsedAt),
	}
}

type servicePrincipalCredentialAnswer struct {
	Credential *servicePrincipalCredentialJSON `json:"credential"`
}

type newServicePrincipalCredentialAnswer struct {
	servicePrincipalCredentialAnswer
	ClientSecret string `json:"clientSecret"`
}

type servicePrincipalCredentialList struct {
	List          []*servicePrincipalCredentialJSON `json:"list"`
	NextPageToken string                            `json:"nextPageToken"`
}

// servicePrincipalOf returns the service principal that the path names, or nil;
// t.mu is held.
func (t *Tenant) servicePrincipalOf(rq *request) *principal {
	if p := t.principals[rq.ids["service_principal_id"]]; p != nil && p.service {
		return p
	}
	return nil
}

// credentialsOf returns a principal's credentials that are not deleted, ordered
// by ID: expired ones are shown, and say so; t.mu is held.
func (t *Tenant) credentialsOf(p *principal) []*ownCredential {
	var found []*ownCredential
	for _, c := range t.own {
		if c.login.principal == p && c.deletedAt.IsZero() {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *ownCredential) int { return cmp.Compare(a.id, b.id) })
	return found
}

// handleListOwnCredentials is
// GET /api/v1/service_principals/{service_principal_id}/credentials. C1 answers
// a nextPageToken and publishes no parameter to give it back in; the emulator
// takes those of its other lists.
func (t *Tenant) handleListOwnCredentials(rq *request) answer {
	page, err := pageOfQuery(rq.URL.Query())
	if err != nil {
		return badRequest("%v", err)
	}
	p := t.servicePrincipalOf(rq)
	if p == nil {
		return notFound("service principal")
	}
	shown, next := cut(page, t.credentialsOf(p), func(c *ownCredential) string { return c.id })
	out := servicePrincipalCredentialList{List: []*servicePrincipalCredentialJSON{}, NextPageToken: next}
	for _, c := range shown {
		out.List = append(out.List, c.servicePrincipalJSON())
	}
	return ok200(out)
}

type createServicePrincipalCredentialRequest struct {
	DisplayName      string   `json:"displayName"`
	Expires          *string  `json:"expires"`
	ScopedRoles      []string `json:"scopedRoles"`
	AllowSourceCIDRs []string `json:"allowSourceCidrs"`
	RequireDPoP      bool     `json:"requireDpop"`
}

// Bounds of how long a service principal's credential may live.
const (
	minLifetime = 30 * 24 * time.Hour
	maxLifetime = 180 * 24 * time.Hour
)

// readLifetime takes protobuf's form of a duration, nil = 0.
func readLifetime(expires *string) (time.Duration, error) {
	if expires == nil {
		return 0, nil
	}
	if *expires == "" || !validDuration(*expires) {
		return 0, errors.New("expires must be a number of seconds such as 7776000s")
	}
	d, err := time.ParseDuration(*expires)
	return d, err
}

// handleCreateOwnCredential is
// POST /api/v1/service_principals/{service_principal_id}/credentials.
func (t *Tenant) handleCreateOwnCredential(rq *request) answer {
	var in createServicePrincipalCredentialRequest
	err := decode(rq.body, &in, "displayName", "expires", "scopedRoles", "allowSourceCidrs", "requireDpop")
	if err != nil {
		return badRequest("%v", err)
	}
	p := t.servicePrincipalOf(rq)
	if p == nil {
		return notFound("service principal")
	}
	lifetime, err := readLifetime(in.Expires)
	form := ownForm{displayName: in.DisplayName, lifetime: lifetime, scopedRoles: in.ScopedRoles, sourceCIDRs: in.AllowSourceCIDRs}
	if err = errors.Join(err, form.check(p)); err != nil {
		return badRequest("%v", err)
	}
	if lifetime < minLifetime || lifetime > maxLifetime {
		return badRequest("expires must be between 30 and 180 days")
	}
	minted := t.mintOwn(rq.caller.heir(p, in.RequireDPoP), form, rq.now)
	t.recordOwn(OpCreateServicePrincipalCredential, minted, "")
	return ok200(&newServicePrincipalCredentialAnswer{
		servicePrincipalCredentialAnswer: servicePrincipalCredentialAnswer{Credential: minted.servicePrincipalJSON()},
		ClientSecret:                     minted.login.secret.value,
	})
}

// heir returns the identity behind a credential that this one creates: it may
// do no more than its creator.
func (i *identity) heir(p *principal, requireDPoP bool) *identity {
	heir := &identity{
		principal: p, denied: slices.Clone(i.denied), mayNothing: i.mayNothing,
		requireDPoP: requireDPoP, weaker: i.weaker,
	}
	for _, weaken := range i.weaker {
		weaken(heir, nil)
	}
	return heir
}

// ownCredentialOf returns the credential that the path names, or why there is
// none to show; t.mu is held.
func (t *Tenant) ownCredentialOf(rq *request) (*ownCredential, answer) {
	p := t.servicePrincipalOf(rq)
	if p == nil {
		return nil, notFound("service principal")
	}
	for _, c := range t.credentialsOf(p) {
		if c.id == rq.ids["id"] {
			return c, answer{}
		}
	}
	return nil, notFound("credential")
}

// handleGetOwnCredential is
// GET /api/v1/service_principals/{service_principal_id}/credentials/{id}.
func (t *Tenant) handleGetOwnCredential(rq *request) answer {
	c, refusal := t.ownCredentialOf(rq)
	if c == nil {
		return refusal
	}
	return ok200(&servicePrincipalCredentialAnswer{Credential: c.servicePrincipalJSON()})
}

// handleUpdateOwnCredential is
// PATCH /api/v1/service_principals/{service_principal_id}/credentials/{id}: C1
// marks every field but the name as its own.
func (t *Tenant) handleUpdateOwnCredential(rq *request) answer {
	var in struct {
		Credential json.RawMessage `json:"credential"`
		UpdateMask string          `json:"updateMask"`
	}
	if err := decode(rq.body, &in, "credential", "updateMask"); err != nil {
		return badRequest("%v", err)
	}
	var patch struct {
		DisplayName string `json:"displayName"`
	}
	if err := readPatch("credential", in.Credential, &patch, in.UpdateMask, "displayName"); err != nil {
		return badRequest("%v", err)
	}
	c, refusal := t.ownCredentialOf(rq)
	if c == nil {
		return refusal
	}
	if patch.DisplayName == "" {
		return badRequest("displayName is required")
	}
	c.displayName, c.updatedAt = patch.DisplayName, rq.now
	t.recordOwn(OpUpdateServicePrincipalCredential, c, in.UpdateMask)
	return ok200(&servicePrincipalCredentialAnswer{Credential: c.servicePrincipalJSON()})
}

// readPatch reads the object of an update, whose mask may name these fields and
// must name one.
func readPatch(name string, object json.RawMessage, out any, mask string, updatable ...string) error {
	if len(object) == 0 || string(object) == "null" {
		return errors.New(name + " is required")
	}
	for field := range strings.SplitSeq(mask, ",") {
		if !slices.Contains(updatable, field) {
			return errors.New("updateMask names a field that cannot be updated")
		}
	}
	return decode(object, out, updatable...)
}

// handleDeleteOwnCredential is
// DELETE /api/v1/service_principals/{service_principal_id}/credentials/{id}.
func (t *Tenant) handleDeleteOwnCredential(rq *request) answer {
	if err := decode(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	c, refusal := t.ownCredentialOf(rq)
	if c == nil {
		return refusal
	}
	t.deleteOwn(c, rq.now, "")
	return ok200(struct{}{})
}
