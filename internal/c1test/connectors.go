// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"time"
)

// ConnectorRef names a connector: C1 wants the app's ID beside its own.
type ConnectorRef struct {
	AppID       string `json:"app_id"`
	ConnectorID string `json:"connector_id"`
}

// Credential is a connector's credential as the emulator shows it.
type Credential struct {
	ID           string    `json:"id"`
	ClientID     string    `json:"client_id"`
	Fingerprint  string    `json:"fingerprint"` // hex SHA-256 of the secret
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"` // zero: never
	ClientSecret string    `json:"-"`          // only from RotateConnector
}

type connector struct {
	ref         ConnectorRef
	displayName string
	createdAt   time.Time
	credentials []*credential // in the order of their creation, ended ones included
}

type credential struct {
	id         string
	ref        ConnectorRef
	login      *identity
	createdAt  time.Time
	expiresAt  time.Time // zero: never
	endedAt    time.Time // zero: neither revoked nor ended by a rotation
	lastUsedAt time.Time
}

func (c *credential) alive(now time.Time) bool {
	return c.endedAt.IsZero() && (c.expiresAt.IsZero() || now.Before(c.expiresAt))
}

func (c *credential) public() Credential {
	return Credential{
		ID: c.id, ClientID: c.login.clientID, Fingerprint: c.login.secret.fingerprint,
		CreatedAt: c.createdAt, ExpiresAt: c.expiresAt,
	}
}

// connectorCredentialJSON is C1's ConnectorCredential.
type connectorCredentialJSON struct {
	ID           string     `json:"id"`
	AppID        string     `json:"appId"`
	ConnectorID  string     `json:"connectorId"`
	DisplayName  string     `json:"displayName"`
	ClientID     string     `json:"clientId"`
	ClientSecret string     `json:"clientSecret,omitempty"`
	CreatedAt    time.Time  `json:"createdAt"`
	UpdatedAt    time.Time  `json:"updatedAt"`
	DeletedAt    *time.Time `json:"deletedAt"`
	ExpiresTime  *time.Time `json:"expiresTime"`
	LastUsedAt   *time.Time `json:"lastUsedAt"`
}

func (c *credential) json(displayName string) *connectorCredentialJSON {
	return &connectorCredentialJSON{
		ID: c.id, AppID: c.ref.AppID, ConnectorID: c.ref.ConnectorID, DisplayName: displayName,
		ClientID: c.login.clientID, CreatedAt: c.createdAt.UTC(), UpdatedAt: c.createdAt.UTC(),
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

type connectorCredentialAnswer struct {
	Credential *connectorCredentialJSON `json:"credential"`
}

// handleRotateConnector is POST /api/v1/apps/connectors/credentials.
func (t *Tenant) handleRotateConnector(rq *request) answer {
	var in rotateConnectorRequest
	if err := decodeStrict(rq.body, &in, "appId", "connectorId"); err != nil {
		return badRequest("%v", err)
	}
	if in.AppID == "" || in.ConnectorID == "" {
		return badRequest("appId and connectorId are required")
	}
	c := t.connectors[ConnectorRef(in)]
	if c == nil {
		return notFound("connector")
	}
	minted := t.rotateConnector(c, rq.now, "")
	out := minted.json(c.displayName)
	out.ClientSecret = minted.login.secret.value
	return ok200(&connectorCredentialAnswer{Credential: out})
}

// rotateConnector mints a credential, and under exclusive semantics ends the
// ones before it; t.mu is held.
func (t *Tenant) rotateConnector(c *connector, now time.Time, detail string) *credential {
	minted := &credential{id: newID(now), ref: c.ref, createdAt: now}
	if t.credentialTTL > 0 {
		minted.expiresAt = now.Add(t.credentialTTL)
	}
	minted.login = &identity{
		clientID:    t.freshClientID("spc"),
		principalID: c.ref.ConnectorID,
		secret:      t.emulator.newKeySecret(),
		mayNothing:  true,
		credential:  minted,
	}
	if t.semantics == Exclusive {
		for _, previous := range c.credentials {
			if previous.endedAt.IsZero() {
				previous.endedAt = now
				t.recordCredential(OpEndCredential, previous, detail)
			}
		}
	}
	c.credentials = append(c.credentials, minted)
	t.identities[minted.login.clientID] = minted.login
	t.recordCredential(OpRotateConnector, minted, detail)
	return minted
}

func (t *Tenant) recordCredential(op string, c *credential, detail string) {
	t.record(Entry{
		Op: op, Object: c.ref.ConnectorID, CredentialID: c.id,
		Fingerprint: c.login.secret.fingerprint, Detail: detail,
	})
}

type connectorJSON struct {
	ID          string    `json:"id"`
	AppID       string    `json:"appId"`
	DisplayName string    `json:"displayName"`
	CreatedAt   time.Time `json:"createdAt"`
}

type connectorAnswer struct {
	ConnectorView connectorViewJSON `json:"connectorView"`
	Expanded      []any             `json:"expanded"`
}

type connectorViewJSON struct {
	Connector connectorJSON `json:"connector"`
}

// handleGetConnector is GET /api/v1/apps/{app_id}/connectors/{id}.
func (t *Tenant) handleGetConnector(rq *request) answer {
	c := t.connectors[rq.connectorRef()]
	if c == nil {
		return notFound("connector")
	}
	return ok200(connectorAnswer{
		ConnectorView: connectorViewJSON{Connector: connectorJSON{
			ID: c.ref.ConnectorID, AppID: c.ref.AppID, DisplayName: c.displayName, CreatedAt: c.createdAt.UTC(),
		}},
		Expanded: []any{},
	})
}

func (rq *request) connectorRef() ConnectorRef {
	return ConnectorRef{AppID: rq.ids["app"], ConnectorID: rq.ids["connector"]}
}

// credentialOf returns the credential that the path names, with its
// connector, or why there is none; t.mu is held.
func (t *Tenant) credentialOf(rq *request) (*connector, *credential, answer) {
	c := t.connectors[rq.connectorRef()]
	if c == nil {
		return nil, nil, notFound("connector")
	}
	for _, candidate := range c.credentials {
		if candidate.id == rq.ids["credential"] && candidate.endedAt.IsZero() {
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
// DELETE /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}.
func (t *Tenant) handleRevokeConnectorCredential(rq *request) answer {
	if err := decodeStrict(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	_, found, refusal := t.credentialOf(rq)
	if found == nil {
		return refusal
	}
	found.endedAt = rq.now
	t.recordCredential(OpRevokeConnectorCredential, found, "")
	return answer{status: http.StatusOK, body: struct{}{}}
}

// Connector returns the seeded connector. It has no credential until the first
// rotation.
func (t *Tenant) Connector() ConnectorRef { return t.seeds.connector }

// NewConnector adds an app with a connector that has no credential.
func (t *Tenant) NewConnector(displayName string) ConnectorRef {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref := t.newConnector(displayName)
	t.record(Entry{Op: "createConnector", Object: ref.ConnectorID, Detail: outside})
	return ref
}

// newConnector is NewConnector with t.mu held and no journal.
func (t *Tenant) newConnector(displayName string) ConnectorRef {
	ref := ConnectorRef{AppID: newID(t.now()), ConnectorID: newID(t.now())}
	t.connectors[ref] = &connector{ref: ref, displayName: displayName, createdAt: t.now()}
	return ref
}

// DeleteConnector removes a connector, and reports whether there was one; its
// credentials die with it.
func (t *Tenant) DeleteConnector(ref ConnectorRef) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.connectors[ref]
	if c == nil {
		return false
	}
	for _, held := range c.credentials {
		if held.endedAt.IsZero() {
			held.endedAt = t.now()
		}
	}
	delete(t.connectors, ref)
	t.record(Entry{Op: "deleteConnector", Object: ref.ConnectorID, Detail: outside})
	return true
}

// RotateConnector rotates as somebody else would, and returns the credential
// with its secret. It returns the zero Credential when there is no such
// connector.
func (t *Tenant) RotateConnector(ref ConnectorRef) Credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.connectors[ref]
	if c == nil {
		return Credential{}
	}
	minted := t.rotateConnector(c, t.now(), outside)
	out := minted.public()
	out.ClientSecret = minted.login.secret.value
	return out
}

// RevokeCredential ends a connector's credential as somebody else would, and
// reports whether there was one to end.
func (t *Tenant) RevokeCredential(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.connectors {
		for _, held := range c.credentials {
			if held.id == id && held.endedAt.IsZero() {
				held.endedAt = t.now()
				t.recordCredential(OpRevokeConnectorCredential, held, outside)
				return true
			}
		}
	}
	return false
}

// AliveCredentials returns the credentials that a connector could log in with
// now, oldest first.
func (t *Tenant) AliveCredentials(ref ConnectorRef) []Credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	var alive []Credential
	if c := t.connectors[ref]; c != nil {
		for _, held := range c.credentials {
			if held.alive(t.now()) {
				alive = append(alive, held.public())
			}
		}
	}
	return alive
}
