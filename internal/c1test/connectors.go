// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "time"

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

// rotateConnector mints a credential, and under exclusive semantics ends the
// ones before it; t.mu is held.
func (t *Tenant) rotateConnector(c *connector, now time.Time, detail string) *credential {
	minted := &credential{id: newID(now), ref: c.ref, createdAt: now}
	if t.credentialTTL > 0 {
		minted.expiresAt = now.Add(t.credentialTTL)
	}
	minted.login = &identity{
		clientID:   t.freshClientID(useConnector),
		principal:  &principal{userID: t.seeds.userID, id: c.ref.ConnectorID},
		secret:     t.emulator.newKeySecret(),
		mayNothing: true,
		credential: minted,
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

// Connector returns the seeded connector. It has no credential until the first
// rotation.
func (t *Tenant) Connector() ConnectorRef { return t.seeds.connector }

// NewConnector adds an app with a connector that has no credential.
func (t *Tenant) NewConnector(displayName string) ConnectorRef {
	return t.NewConnectorOf(newID(t.now()), displayName)
}

// NewConnectorOf adds a connector without a credential to an app, which need
// not exist.
func (t *Tenant) NewConnectorOf(appID, displayName string) ConnectorRef {
	t.mu.Lock()
	defer t.mu.Unlock()
	ref := t.newConnector(appID, displayName)
	t.record(Entry{Op: "createConnector", Object: ref.ConnectorID, Detail: outside})
	return ref
}

// newConnector is NewConnectorOf with t.mu held and no journal.
func (t *Tenant) newConnector(appID, displayName string) ConnectorRef {
	ref := ConnectorRef{AppID: appID, ConnectorID: newID(t.now())}
	t.apps[appID] = true
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

// DeleteApp removes an app with its connectors, whose credentials die with it.
func (t *Tenant) DeleteApp(appID string) {
	t.mu.Lock()
	var refs []ConnectorRef
	for ref := range t.connectors {
		if ref.AppID == appID {
			refs = append(refs, ref)
		}
	}
	delete(t.apps, appID)
	t.record(Entry{Op: "deleteApp", Object: appID, Detail: outside})
	t.mu.Unlock()
	for _, ref := range refs {
		t.DeleteConnector(ref)
	}
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
