// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// personalClientJSON is C1's PersonalClient.
type personalClientJSON struct {
	ID              string     `json:"id"`
	UserID          string     `json:"userId"`
	ClientID        string     `json:"clientId"`
	DisplayName     string     `json:"displayName"`
	ScopedRoles     []string   `json:"scopedRoles"`
	AllowSourceCIDR []string   `json:"allowSourceCidr"`
	CreatedAt       time.Time  `json:"createdAt"`
	UpdatedAt       time.Time  `json:"updatedAt"`
	DeletedAt       *time.Time `json:"deletedAt"`
	ExpiresTime     *time.Time `json:"expiresTime"`
	LastUsedAt      *time.Time `json:"lastUsedAt"`
}

func (c *ownCredential) personalJSON() *personalClientJSON {
	return &personalClientJSON{
		ID: c.id, UserID: c.login.principal.userID, ClientID: c.login.clientID, DisplayName: c.displayName,
		ScopedRoles: orEmpty(c.scopedRoles), AllowSourceCIDR: orEmpty(c.sourceCIDRs),
		CreatedAt: c.createdAt.UTC(), UpdatedAt: c.updatedAt.UTC(), DeletedAt: timeOrNull(c.deletedAt),
		ExpiresTime: timeOrNull(c.expiresAt), LastUsedAt: timeOrNull(c.lastUsedAt),
	}
}

type personalClientAnswer struct {
	Client *personalClientJSON `json:"client"`
}

type newPersonalClientAnswer struct {
	personalClientAnswer
	ClientSecret string `json:"clientSecret"`
}

type personalClientList struct {
	List          []*personalClientJSON `json:"list"`
	NextPageToken string                `json:"nextPageToken"`
}

// personalClientsOf returns the caller's own personal clients; t.mu is held.
func (t *Tenant) personalClientsOf(caller *identity) []*ownCredential {
	if caller.principal.service {
		return nil
	}
	return t.credentialsOf(caller.principal)
}

// handleListPersonalClients is GET /api/v1/iam/personal_clients, with the
// unpublished paging of handleListOwnCredentials.
func (t *Tenant) handleListPersonalClients(rq *request) answer {
	page, err := pageOfQuery(rq.URL.Query())
	if err != nil {
		return badRequest("%v", err)
	}
	shown, next := cut(page, t.personalClientsOf(rq.caller), func(c *ownCredential) string { return c.id })
	out := personalClientList{List: []*personalClientJSON{}, NextPageToken: next}
	for _, c := range shown {
		out.List = append(out.List, c.personalJSON())
	}
	return ok200(out)
}

type createPersonalClientRequest struct {
	DisplayName     string   `json:"displayName"`
	Expires         *string  `json:"expires"`
	ScopedRoles     []string `json:"scopedRoles"`
	AllowSourceCIDR []string `json:"allowSourceCidr"`
}

// handleCreatePersonalClient is POST /api/v1/iam/personal_clients.
func (t *Tenant) handleCreatePersonalClient(rq *request) answer {
	var in createPersonalClientRequest
	if err := decode(rq.body, &in, "displayName", "expires", "scopedRoles", "allowSourceCidr"); err != nil {
		return badRequest("%v", err)
	}
	owner := rq.caller.principal
	lifetime, err := readLifetime(in.Expires)
	form := ownForm{displayName: in.DisplayName, lifetime: lifetime, scopedRoles: in.ScopedRoles, sourceCIDRs: in.AllowSourceCIDR}
	if err = errors.Join(err, form.check(owner)); err != nil {
		return badRequest("%v", err)
	}
	if owner.service {
		return badRequest("a service principal has no personal clients")
	}
	minted := t.mintOwn(rq.caller.heir(owner, false), form, rq.now)
	t.recordOwn(OpCreatePersonalClient, minted, "")
	return ok200(&newPersonalClientAnswer{
		personalClientAnswer: personalClientAnswer{Client: minted.personalJSON()},
		ClientSecret:         minted.login.secret.value,
	})
}

// personalClientOf returns the caller's own personal client that the path
// names, or nil. C1's description calls the same parameter the ID and the name
// in the client ID, so either is taken; t.mu is held.
func (t *Tenant) personalClientOf(rq *request) *ownCredential {
	for _, c := range t.personalClientsOf(rq.caller) {
		name, _, _ := strings.Cut(c.login.clientID, "@")
		if id := rq.ids["id"]; id == c.id || id == name {
			return c
		}
	}
	return nil
}

// handleGetPersonalClient is GET /api/v1/iam/personal_clients/{id}.
func (t *Tenant) handleGetPersonalClient(rq *request) answer {
	c := t.personalClientOf(rq)
	if c == nil {
		return notFound("personal client")
	}
	return ok200(&personalClientAnswer{Client: c.personalJSON()})
}

// handleUpdatePersonalClient is POST /api/v1/iam/personal_clients/{id}: when it
// ends cannot be changed.
func (t *Tenant) handleUpdatePersonalClient(rq *request) answer {
	var in struct {
		Client     json.RawMessage `json:"client"`
		UpdateMask string          `json:"updateMask"`
	}
	if err := decode(rq.body, &in, "client", "updateMask"); err != nil {
		return badRequest("%v", err)
	}
	var patch createPersonalClientRequest
	err := readPatch("client", in.Client, &patch, in.UpdateMask, "displayName", "scopedRoles", "allowSourceCidr")
	if err != nil {
		return badRequest("%v", err)
	}
	c := t.personalClientOf(rq)
	if c == nil {
		return notFound("personal client")
	}
	form := ownForm{displayName: c.displayName, scopedRoles: c.scopedRoles, sourceCIDRs: c.sourceCIDRs}
	mask := strings.Split(in.UpdateMask, ",")
	if slices.Contains(mask, "displayName") {
		form.displayName = patch.DisplayName
	}
	if slices.Contains(mask, "scopedRoles") {
		form.scopedRoles = patch.ScopedRoles
	}
	if slices.Contains(mask, "allowSourceCidr") {
		form.sourceCIDRs = patch.AllowSourceCIDR
	}
	if err := form.check(c.login.principal); err != nil {
		return badRequest("%v", err)
	}
	c.displayName, c.scopedRoles, c.sourceCIDRs, c.updatedAt = form.displayName, form.scopedRoles, form.sourceCIDRs, rq.now
	t.recordOwn(OpUpdatePersonalClient, c, in.UpdateMask)
	return ok200(&personalClientAnswer{Client: c.personalJSON()})
}

// handleDeletePersonalClient is DELETE /api/v1/iam/personal_clients/{id}.
func (t *Tenant) handleDeletePersonalClient(rq *request) answer {
	if err := decode(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	c := t.personalClientOf(rq)
	if c == nil {
		return notFound("personal client")
	}
	t.deleteOwn(c, rq.now, "")
	return ok200(struct{}{})
}
