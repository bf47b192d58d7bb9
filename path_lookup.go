// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// isFingerprint reports whether this is a SHA-256 in lower-case hex.
func isFingerprint(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && s == strings.ToLower(s)
}

func (b *backend) pathsLookup() []*framework.Path {
	return []*framework.Path{{
		Pattern: "lookup$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: "look-up", OperationSuffix: "fingerprint",
		},
		Fields: map[string]*framework.FieldSchema{
			"fingerprint_sha256": {Type: framework.TypeString, Required: true, Description: "The whole hex SHA-256 of the secret, as a finding names it."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Summary:   "Find out whose copy a secret was, by its fingerprint.",
				Callback:  b.handle(lookUp),
				Responses: map[int][]framework.Response{http.StatusOK: {{Description: "The record of the rotation that vended it.", Fields: lookupFields()}}},
			},
		},
		HelpSynopsis: "Find out whose copy a secret was, by its fingerprint.",
		HelpDescription: `
For the moment in which a finding fires: C1 names the fingerprint, and this says
which binding vended the secret, to whom, when, and where it was to be placed.
It changes nothing. Give it to incident responders only.
`,
	}}
}

func lookupFields() map[string]*framework.FieldSchema {
	text := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: description}
	}
	return map[string]*framework.FieldSchema{
		"kind":               text("connector or decoy."),
		"app_id":             text("C1's ID of the app (connectors)."),
		"connector_id":       text("C1's ID of the connector (connectors)."),
		"decoy_id":           text("C1's ID of the decoy (decoys)."),
		"current":            {Type: framework.TypeBool, Required: true, Description: "Whether this is the version that was vended last."},
		"version":            {Type: framework.TypeInt, Required: true, Description: "1, 2, 3… per target; 0 of an attempt that did not succeed."},
		"outcome":            text("issued (to one caller), stored (for the readers of a scheduled binding), undelivered, failed, superseded or discarded."),
		"reason":             text("read, write, lease_end, rotate (an operator), initial, schedule or recovery (after an unknown outcome)."),
		"valid_from":         text("Since when Vault handed it out, RFC 3339."),
		"valid_until":        text("Until when: the next rotation, or its end at C1 if that was sooner, RFC 3339; empty while it is current. C1 may take it for longer."),
		"binding":            text("Name of the binding at that time."),
		"attempt_id":         text("ID of the attempt, as in the logs."),
		"request_id":         text("Vault's request ID, as in the audit log."),
		"entity_id":          text("Vault identity entity of who asked."),
		"display_name":       text("Display name of the token that asked."),
		"remote_address":     text("Client address, where Vault gives it."),
		"placement":          text("Where the copy was to go, in the words of who asked."),
		"credential_id":      text("C1's ID of the credential (connectors)."),
		"client_id":          text("Client ID of the vended credential."),
		"fingerprint_sha256": text("Hex SHA-256 of the vended secret."),
		"started_at":         text("RFC 3339."),
		"finished_at":        text("RFC 3339."),
		"expires_at":         text("End of the credential at C1, RFC 3339."),
		"ends_at":            text("When the engine ends it at the latest, RFC 3339."),
		"ended_at":           text("When the engine ended it at C1, RFC 3339."),
		"error":              text("Why it failed."),
		"warning":            text("What was odd."),
		"repeats":            {Type: framework.TypeInt, Required: true, Description: "Equal failures that followed."},
	}
}

func lookUp(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	fingerprint := strings.ToLower(strings.TrimSpace(d.Get("fingerprint_sha256").(string)))
	if !isFingerprint(fingerprint) {
		return nil, refuse("fingerprint_sha256: must be the whole SHA-256 in 64 hex digits (never the secret itself)")
	}
	unknown := failWith(http.StatusNotFound, "no record of that fingerprint: it was not vended by this mount, or its record was pruned (history_limit in config)")
	entry, err := req.Storage.Get(ctx, fingerprintPrefix+fingerprint)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, unknown
	}
	var pointer fingerprintPointer
	if err := entry.DecodeJSON(&pointer); err != nil {
		return nil, err
	}
	t, err := readTarget(ctx, req.Storage, pointer.Ref)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, unknown
	}
	rec := t.recordOf(pointer.Version)
	if rec == nil || rec.Fingerprint != fingerprint {
		return nil, unknown
	}
	data := recordFields(*rec)
	maps.Copy(data, map[string]any{
		"kind":         string(t.Ref.Kind),
		"app_id":       t.Ref.AppID,
		"connector_id": t.Ref.ConnectorID,
		"decoy_id":     t.Ref.DecoyID,
		"current":      t.Version == rec.Version,
		"valid_from":   rfc3339(rec.FinishedAt),
		"valid_until":  rfc3339(t.validUntil(rec)),
	})
	return &logical.Response{Data: data}, nil
}

// validUntil is when a version stopped being what Vault hands out, or zero.
func (t *target) validUntil(rec *record) time.Time {
	until := rec.EndedAt
	if next := t.recordOf(rec.Version + 1); next != nil && (until.IsZero() || next.FinishedAt.Before(until)) {
		until = next.FinishedAt
	}
	return until
}
