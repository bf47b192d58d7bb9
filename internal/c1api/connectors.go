// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// GetConnector returns a connector
// (GET /api/v1/apps/{app_id}/connectors/{id}); ReasonNotFound when there is
// none. C1 does not document the shape of the answer beyond "exists or 404", so
// the connector may stand in it bare, or below connector or connectorView.
func (c *Client) GetConnector(ctx context.Context, appID, connectorID string) (*Connector, error) {
	k := call{op: "get connector", effect: reading, method: http.MethodGet}
	var err error
	if k.path, err = pathOf("/api/v1/apps/%s/connectors/%s", appID, connectorID); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	var found struct {
		Connector

		Below *Connector `json:"connector"`
		View  *struct {
			Connector *Connector `json:"connector"`
		} `json:"connectorView"`
	}
	if err := k.decode(body, &found); err != nil {
		return nil, err
	}
	connector := &found.Connector
	switch {
	case found.View != nil && found.View.Connector != nil:
		connector = found.View.Connector
	case found.Below != nil:
		connector = found.Below
	}
	if other(connector.ID, connectorID) || other(connector.AppID, appID) {
		return nil, k.unusable("the answer is about another connector")
	}
	connector.ID, connector.AppID = connectorID, appID
	return connector, nil
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
// somebody can log in with now.
func (k call) decodeRotated(body []byte, appID, connectorID string, now time.Time) (*ConnectorCredential, error) {
	cred, err := k.decodeCredential(body)
	if err != nil {
		return nil, err
	}
	var lack string
	switch {
	case cred.ID == "":
		lack = "has no id"
	case other(cred.AppID, appID) || other(cred.ConnectorID, connectorID):
		lack = "is for another connector than the one asked for"
	case blank(cred.ClientID):
		lack = "has no clientId"
	case blank(cred.ClientSecret):
		lack = "has no clientSecret"
	case !cred.DeletedAt.IsZero():
		lack = "is already deleted"
	case !cred.ExpiresAt.IsZero() && !cred.ExpiresAt.After(now):
		lack = "has already expired (" + cred.ExpiresAt.UTC().Format(time.RFC3339) + ")"
	default:
		cred.AppID, cred.ConnectorID = appID, connectorID
		return cred, nil
	}
	return nil, k.unusable(fmt.Sprintf("C1 rotated, but the credential in its answer (id %q) %s", clean(cred.ID, nil), lack))
}

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
	cred, err := k.decodeCredential(body)
	if err != nil {
		return nil, err
	}
	if other(cred.ID, credentialID) || other(cred.AppID, appID) || other(cred.ConnectorID, connectorID) {
		return nil, k.unusable("the answer is about another credential")
	}
	cred.ID, cred.AppID, cred.ConnectorID = credentialID, appID, connectorID
	return cred, nil
}

// RevokeConnectorCredential ends one credential
// (DELETE /api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}).
// ReasonNotFound with FromC1 means that C1 itself no longer knows it.
func (c *Client) RevokeConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) error {
	k := call{op: "revoke connector credential", effect: repeatable, method: http.MethodDelete, body: emptyObject()}
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

const credentialPath = "/api/v1/apps/%s/connectors/%s/credentials/%s"

// decodeCredential reads {"credential": {...}}.
func (k call) decodeCredential(body []byte) (*ConnectorCredential, error) {
	var found struct {
		Credential *ConnectorCredential `json:"credential"`
	}
	if err := k.decode(body, &found); err != nil {
		return nil, err
	}
	if found.Credential == nil {
		return nil, k.unusable("the answer holds no credential")
	}
	return found.Credential, nil
}

// decodeDone reads the answer of a call that returns nothing. Only nothing or a
// JSON object will do: a proxy's page is no proof that C1 acted.
func (k call) decodeDone(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	return k.decode(body, &struct{}{})
}

// emptyObject is the body of calls that take no arguments.
func emptyObject() []byte { return []byte("{}") }

// other reports whether an optional field of an answer contradicts the request.
func other(got, want string) bool { return got != "" && got != want }

func blank(s string) bool { return strings.TrimSpace(s) == "" }
