// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

const (
	appsPath       = "/api/v1/apps"
	connectorPath  = "/api/v1/apps/%s/connectors/%s"
	connectorsPath = "/api/v1/apps/%s/connectors"
	credentialPath = "/api/v1/apps/%s/connectors/%s/credentials/%s"
)

// GetConnector returns a connector
// (GET /api/v1/apps/{app_id}/connectors/{id}); ReasonNotFound when there is
// none.
func (c *Client) GetConnector(ctx context.Context, appID, connectorID string) (*Connector, error) {
	k := call{op: "get connector", effect: reading, method: http.MethodGet}
	var err error
	if k.path, err = pathOf(connectorPath, appID, connectorID); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	found, err := k.decode(body)
	if err != nil {
		return nil, err
	}
	connector := connectorIn(found)
	switch {
	case connector == nil:
		return nil, k.unusable("the answer holds no connector")
	case other(connector.ID, connectorID) || other(connector.AppID, appID):
		return nil, k.unusable("the answer is about another connector")
	}
	connector.ID, connector.AppID = connectorID, appID
	return connector, nil
}

// connectorIn reads {"connectorView": {"connector": {...}}}, nil when there is
// no connector.
func connectorIn(answer object) *Connector {
	view, _ := answer.below("connectorView")
	return viewedConnector(view)
}

// viewedConnector reads {"connector": {...}}, nil when there is none.
func viewedConnector(view object) *Connector {
	found, ok := view.below("connector")
	if !ok {
		return nil
	}
	connector := &Connector{
		ID:          found.text("id", maxIDLength),
		AppID:       found.text("appId", maxIDLength),
		DisplayName: found.text("displayName", maxDisplayName),
		DeletedAt:   found.moment("deletedAt"),
	}
	connector.Warnings = *found.warnings
	return connector
}

// listsConnector reports whether C1's list of an app's connectors shows this
// one, and not as deleted (GET /api/v1/apps/{app_id}/connectors).
func (c *Client) listsConnector(ctx context.Context, appID, connectorID string) (bool, error) {
	k := call{op: "list connectors", effect: reading, method: http.MethodGet}
	var err error
	if k.path, err = pathOf(connectorsPath, appID); err != nil {
		return false, unsendable(k.op, err)
	}
	return c.lists(ctx, k, func(view object) (found, deleted bool) {
		connector := viewedConnector(view)
		return connector != nil && connector.ID == connectorID, connector != nil && !connector.DeletedAt.IsZero()
	})
}

// listsApp is the same of an app, and C1's list of all apps (GET /api/v1/apps).
func (c *Client) listsApp(ctx context.Context, appID string) (bool, error) {
	k := call{op: "list apps", effect: reading, method: http.MethodGet, path: appsPath}
	return c.lists(ctx, k, func(app object) (found, deleted bool) {
		return app.text("id", maxIDLength) == appID, !app.moment("deletedAt").IsZero()
	})
}

// RotateConnectorCredential mints a new credential for a connector
// (POST /api/v1/apps/connectors/credentials). The answer holds the only copy of
// its secret; whatever falls short of a usable credential is a ReasonUnknown
// error, since C1 has rotated by then.
func (c *Client) RotateConnectorCredential(ctx context.Context, appID, connectorID string) (*ConnectorCredential, error) {
	k := call{
		op: "rotate connector credential", effect: onceOnly,
		method: http.MethodPost, path: "/api/v1/apps/connectors/credentials",
	}
	if err := errors.Join(checkID(appID), checkID(connectorID)); err != nil {
		return nil, unsendable(k.op, err)
	}
	var err error
	if k.body, err = json.Marshal(map[string]string{"appId": appID, "connectorId": connectorID}); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	return k.decodeRotated(body, appID, connectorID, c.clock.c1Now())
}

// decodeRotated reads the answer to a rotate and takes only a credential that
// somebody can log in with now and that can be revoked later.
func (k call) decodeRotated(body []byte, appID, connectorID string, now time.Time) (*ConnectorCredential, error) {
	found, err := k.decodeCredential(body)
	if err != nil {
		return nil, err
	}
	cred := found.credential()
	refuse := func(fault string) (*ConnectorCredential, error) {
		about := ""
		if cred.ID != "" {
			about = " (id " + clean(cred.ID, nil) + ")"
		}
		return nil, k.unusable("C1 rotated, but the credential in its answer" + about + " cannot be used: " + fault)
	}
	var bad error
	if cred.ID, bad = found.id("id"); bad != nil {
		return refuse("its id " + bad.Error())
	}
	if cred.ClientID, bad = found.name("clientId", maxClientIDLength); bad != nil {
		return refuse("its clientId " + bad.Error())
	}
	if cred.ClientSecret, bad = found.secret("clientSecret", maxSecretLength); bad != nil {
		return refuse("its clientSecret " + bad.Error())
	}
	switch {
	case other(cred.AppID, appID) || other(cred.ConnectorID, connectorID):
		return refuse("it is for a different connector from the one asked for")
	case !cred.DeletedAt.IsZero():
		return refuse("it is already deleted")
	case over(cred.ExpiresAt, now):
		return refuse("it has already expired (" + cred.ExpiresAt.UTC().Format(time.RFC3339) + ")")
	}
	cred.AppID, cred.ConnectorID = appID, connectorID
	return cred, nil
}

// over reports whether an end, zero for none, has been reached.
func over(end, now time.Time) bool { return !end.IsZero() && !end.After(now) }

// GetConnectorCredential returns one credential without its secret, also when
// it is deleted or has expired: DeletedAt and ExpiresAt tell
// (GET /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}).
func (c *Client) GetConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) (*ConnectorCredential, error) {
	k := call{op: "get connector credential", effect: reading, method: http.MethodGet}
	var err error
	if k.path, err = pathOf(credentialPath, appID, connectorID, credentialID); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	found, err := k.decodeCredential(body)
	if err != nil {
		return nil, err
	}
	cred := found.credential()
	if other(cred.ID, credentialID) || other(cred.AppID, appID) || other(cred.ConnectorID, connectorID) {
		return nil, k.unusable("the answer is about another credential")
	}
	cred.ID, cred.AppID, cred.ConnectorID = credentialID, appID, connectorID
	return cred, nil
}

// RevokeConnectorCredential ends one credential
// (POST /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}). Nil
// means that C1 said so. No error means that the credential is gone, not even
// ReasonNotFound: EndConnectorCredential finds that out.
func (c *Client) RevokeConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) error {
	k := call{op: "revoke connector credential", effect: repeatable, method: http.MethodPost, body: emptyObject()}
	var err error
	if k.path, err = pathOf(credentialPath, appID, connectorID, credentialID); err != nil {
		return unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	return k.decodeDone(body)
}

// decodeCredential reads {"credential": {...}}.
func (k call) decodeCredential(body []byte) (object, error) {
	answer, err := k.decode(body)
	if err != nil {
		return object{}, err
	}
	found, ok := answer.below("credential")
	if !ok {
		return object{}, k.unusable("the answer holds no credential")
	}
	return found, nil
}

// credential reads all of a credential but its secret.
func (o object) credential() *ConnectorCredential {
	cred := &ConnectorCredential{
		ID:          o.text("id", maxIDLength),
		AppID:       o.text("appId", maxIDLength),
		ConnectorID: o.text("connectorId", maxIDLength),
		DisplayName: o.text("displayName", maxDisplayName),
		ClientID:    o.text("clientId", maxClientIDLength),
		CreatedAt:   o.moment("createdAt"),
		UpdatedAt:   o.moment("updatedAt"),
		DeletedAt:   o.moment("deletedAt"),
		ExpiresAt:   o.moment("expiresTime"),
		LastUsedAt:  o.moment("lastUsedAt"),
	}
	cred.Warnings = *o.warnings
	return cred
}

// decodeDone reads the answer of a call that returns nothing. Only nothing or a
// JSON object will do: a proxy's page is no proof that C1 acted.
func (k call) decodeDone(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	_, err := k.decode(body)
	return err
}

// emptyObject is the body of calls that take no arguments.
func emptyObject() []byte { return []byte("{}") }

// other reports whether an optional field of an answer contradicts the request.
func other(got, want string) bool { return got != "" && got != want }
