// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// connectorCredentialJSON is C1's ConnectorCredential. Like all answers it
// shows fields that are not set: "", false, null.
type connectorCredentialJSON struct {
	ID           string     `json:"id"`
	AppID        string     `json:"appId"`
	ConnectorID  string     `json:"connectorId"`
	DisplayName  string     `json:"displayName"`
	ClientID     string     `json:"clientId"`
	ClientSecret string     `json:"clientSecret"` // only when it is minted
	CreatedAt    time.Time  `json:"createdAt"`
	UpdatedAt    time.Time  `json:"updatedAt"`
	DeletedAt    *time.Time `json:"deletedAt"`
	ExpiresTime  *time.Time `json:"expiresTime"`
	LastUsedAt   *time.Time `json:"lastUsedAt"`
}

func (c *credential) json(displayName string) *connectorCredentialJSON {
	updated := c.createdAt
	if !c.endedAt.IsZero() {
		updated = c.endedAt
	}
	return &connectorCredentialJSON{
		ID: c.id, AppID: c.ref.AppID, ConnectorID: c.ref.ConnectorID, DisplayName: displayName,
		ClientID: c.login.clientID, CreatedAt: c.createdAt.UTC(), UpdatedAt: updated.UTC(),
		DeletedAt: timeOrNull(c.endedAt), ExpiresTime: timeOrNull(c.expiresAt), LastUsedAt: timeOrNull(c.lastUsedAt),
	}
}

func timeOrNull(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

type rotateConnectorRequest struct {
	AppID       string `json:"appId"`
	ConnectorID string `json:"connectorId"`
}

func readRotateConnector(body []byte) (ConnectorRef, error) {
	var in rotateConnectorRequest
	err := decode(body, &in, "appId", "connectorId")
	return ConnectorRef(in), err
}

type connectorCredentialAnswer struct {
	Credential *connectorCredentialJSON `json:"credential"`
}

// handleRotateConnector is POST /api/v1/apps/connectors/credentials.
func (t *Tenant) handleRotateConnector(rq *request) answer {
	ref, err := readRotateConnector(rq.body)
	if err != nil {
		return badRequest("%v", err)
	}
	if ref.AppID == "" || ref.ConnectorID == "" {
		return badRequest("appId and connectorId are required")
	}
	c := t.connectors[ref]
	if c == nil {
		return notFound("connector")
	}
	minted := t.rotateConnector(c, rq.now, "")
	out := minted.json(c.displayName)
	out.ClientSecret = minted.login.secret.value
	return ok200(&connectorCredentialAnswer{Credential: out})
}

// connectorJSON is the part of C1's Connector that the emulator has.
type connectorJSON struct {
	ID                   string     `json:"id"`
	AppID                string     `json:"appId"`
	CatalogID            string     `json:"catalogId"`
	DisplayName          string     `json:"displayName"`
	Description          string     `json:"description"`
	UserIDs              []string   `json:"userIds"`
	ProfileAllowList     []string   `json:"profileAllowList"`
	ProfileIgnoreList    []string   `json:"profileIgnoreList"`
	CanResumeSync        bool       `json:"canResumeSync"`
	DisableCheckBadSync  bool       `json:"disableCheckBadSync"`
	DownloadURL          string     `json:"downloadUrl"`
	SyncDisabledCategory string     `json:"syncDisabledCategory"`
	SyncDisabledReason   string     `json:"syncDisabledReason"`
	CreatedAt            time.Time  `json:"createdAt"`
	UpdatedAt            time.Time  `json:"updatedAt"`
	DeletedAt            *time.Time `json:"deletedAt"`
	ConfigUpdatedAt      *time.Time `json:"configUpdatedAt"`
	SyncDisabledAt       *time.Time `json:"syncDisabledAt"`
}

// connectorViewJSON is C1's ConnectorView.
type connectorViewJSON struct {
	Connector        connectorJSON `json:"connector"`
	AppPath          string        `json:"appPath"`
	CapabilitiesPath string        `json:"capabilitiesPath"`
	UsersPath        string        `json:"usersPath"`
}

func (c *connector) view() connectorViewJSON {
	return connectorViewJSON{Connector: connectorJSON{
		ID: c.ref.ConnectorID, AppID: c.ref.AppID, DisplayName: c.displayName,
		UserIDs: []string{}, ProfileAllowList: []string{}, ProfileIgnoreList: []string{},
		CreatedAt: c.createdAt.UTC(), UpdatedAt: c.createdAt.UTC(),
	}}
}

type connectorAnswer struct {
	ConnectorView connectorViewJSON `json:"connectorView"`
	Expanded      []any             `json:"expanded"`
}

// handleGetConnector is GET /api/v1/apps/{app_id}/connectors/{id}.
func (t *Tenant) handleGetConnector(rq *request) answer {
	c := t.connectors[ConnectorRef{AppID: rq.ids["app_id"], ConnectorID: rq.ids["id"]}]
	if c == nil {
		return notFound("connector")
	}
	return ok200(connectorAnswer{ConnectorView: c.view(), Expanded: []any{}})
}

type connectorList struct {
	List          []connectorViewJSON `json:"list"`
	NextPageToken string              `json:"nextPageToken"`
	Expanded      []any               `json:"expanded"`
}

// handleListConnectors is GET /api/v1/apps/{app_id}/connectors, ordered by ID.
func (t *Tenant) handleListConnectors(rq *request) answer {
	page, err := pageOfQuery(rq.URL.Query())
	if err != nil {
		return badRequest("%v", err)
	}
	if !t.apps[rq.ids["app_id"]] {
		return notFound("app")
	}
	var all []*connector
	for ref, c := range t.connectors {
		if ref.AppID == rq.ids["app_id"] {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *connector) int { return cmp.Compare(a.ref.ConnectorID, b.ref.ConnectorID) })
	shown, next := cut(page, all, func(c *connector) string { return c.ref.ConnectorID })
	out := connectorList{List: []connectorViewJSON{}, NextPageToken: next, Expanded: []any{}}
	for _, c := range shown {
		out.List = append(out.List, c.view())
	}
	return ok200(out)
}

// appJSON is the part of C1's App that the emulator knows.
type appJSON struct {
	ID string `json:"id"`
}

type appList struct {
	List          []appJSON `json:"list"`
	NextPageToken string    `json:"nextPageToken"`
}

// handleListApps is GET /api/v1/apps, ordered by ID.
func (t *Tenant) handleListApps(rq *request) answer {
	page, err := pageOfQuery(rq.URL.Query())
	if err != nil {
		return badRequest("%v", err)
	}
	shown, next := cut(page, slices.Sorted(maps.Keys(t.apps)), func(id string) string { return id })
	out := appList{List: []appJSON{}, NextPageToken: next}
	for _, id := range shown {
		out.List = append(out.List, appJSON{ID: id})
	}
	return ok200(out)
}

// credentialOf returns the credential that the path names, with its
// connector, or why there is none to show; t.mu is held.
func (t *Tenant) credentialOf(rq *request) (*connector, *credential, answer) {
	c := t.connectors[ConnectorRef{AppID: rq.ids["app_id"], ConnectorID: rq.ids["connector_id"]}]
	if c == nil {
		return nil, nil, notFound("connector")
	}
	for _, candidate := range c.credentials {
		if candidate.id == rq.ids["id"] && (candidate.endedAt.IsZero() || t.revoked == RevokedShown) {
			return c, candidate, answer{}
		}
	}
	return nil, nil, notFound("connector credential")
}

// handleGetConnectorCredential is
// GET /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}.
func (t *Tenant) handleGetConnectorCredential(rq *request) answer {
	c, found, refusal := t.credentialOf(rq)
	if found == nil {
		return refusal
	}
	return ok200(&connectorCredentialAnswer{Credential: found.json(c.displayName)})
}

// handleRevokeConnectorCredential is
// POST /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}; there
// is no DELETE.
func (t *Tenant) handleRevokeConnectorCredential(rq *request) answer {
	if err := decode(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	_, found, refusal := t.credentialOf(rq)
	if found == nil {
		return refusal
	}
	if found.endedAt.IsZero() {
		found.endedAt = rq.now
		t.recordCredential(OpRevokeConnectorCredential, found, "")
	}
	return ok200(struct{}{})
}
