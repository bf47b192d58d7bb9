// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// mostMatches bounds how many records a prefix may list.
const mostMatches = 100

// lookupKeys are what an incident may start with; a call names exactly one.
var lookupKeys = []string{"fingerprint_sha256", "fingerprint_prefix", "decoy_id", "client_id", "credential_id"}

func pathLookup() *framework.Path {
	return &framework.Path{
		Pattern:      "lookup$",
		DisplayAttrs: display("look-up", "record"),
		Fields: map[string]*framework.FieldSchema{
			"fingerprint_sha256": {Type: framework.TypeString, Description: "The whole hex SHA-256 of the secret, 64 digits."},
			"fingerprint_prefix": {Type: framework.TypeString, Description: "Its first 12 digits or more, as a finding shows them of a secret that was found published."},
			"decoy_id":           {Type: framework.TypeString, Description: "C1's ID for the decoy, as each finding of a decoy names it."},
			"client_id":          {Type: framework.TypeString, Description: "The client ID that was used, as C1's audit log names it."},
			"credential_id":      {Type: framework.TypeString, Description: "C1's ID for a connector's credential."},
			"at":                 {Type: framework.TypeString, Description: "With decoy_id or client_id: when it was used, RFC 3339, for the record that was current then. Default: now."},
		},
		Operations: only(logical.UpdateOperation, &framework.PathOperation{
			Summary:   "Find out whose copy a secret was.",
			Callback:  handle((*backend).lookUp),
			Responses: answer("The record of the rotation that vended it, and what is planted still.", lookupFields()),
		}),
		HelpSynopsis: "Find out whose copy a secret was.",
		HelpDescription: `
For the moment when a finding fires: give exactly one of
(` + strings.Join(lookupKeys, ", ") + `), and the answer says which
binding vended the secret, to whom, when, and where it was to be placed. A finding
of a used decoy names the decoy: the answer then holds the record that was current
(at=... for a time in the past) and, in planted, every copy on record.

It changes nothing. Give it to incident responders only.
`,
	}
}

func lookupFields() map[string]*framework.FieldSchema {
	text := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Description: description}
	}
	return map[string]*framework.FieldSchema{
		"kind":               text("connector, decoy, or identity: the mount's own credential."),
		"app_id":             text("C1's ID for the app (connectors)."),
		"connector_id":       text("C1's ID for the connector (connectors)."),
		"decoy_id":           text("C1's ID for the decoy (decoys)."),
		"current":            {Type: framework.TypeBool, Description: "Whether this is the version that was vended last."},
		"version":            {Type: framework.TypeInt, Description: "1, 2, 3… per target."},
		"outcome":            text("issued (to one caller), stored (for the readers of a scheduled binding), undelivered or discarded."),
		"reason":             text("read, write, lease_end, rotate (an operator), initial, schedule, recovery (after an unknown outcome), adopt (a running credential) or config (the mount's own identity was written)."),
		"valid_from":         text("Since when Vault handed it out, RFC 3339."),
		"valid_until":        text("Until when: the next rotation, or its end at C1 if that was sooner, RFC 3339; empty while it is current. C1 may accept it for longer."),
		"binding":            text("Name of the binding at that time."),
		"attempt_id":         text("ID of the attempt, as in the logs."),
		"request_id":         text("Vault's request ID, as in the audit log."),
		"entity_id":          text("Vault identity entity of who asked."),
		"display_name":       text("Display name of the token that asked."),
		"remote_address":     text("Client address, where Vault gives it."),
		"placement":          text("Where the copy was to go, in the words of who asked."),
		"credential_id":      text("C1's ID for the credential (connectors)."),
		"client_id":          text("Client ID of the vended credential."),
		"fingerprint_sha256": text("Hex SHA-256 of the vended secret."),
		"started_at":         text("RFC 3339."),
		"finished_at":        text("RFC 3339."),
		"expires_at":         text("End of the credential at C1, RFC 3339."),
		"ends_at":            text("When the engine ends it at the latest, RFC 3339."),
		"ended_at":           text("When the engine ended it at C1, RFC 3339."),
		"error":              text("Why it failed."),
		"warning":            text("What was odd."),
		"repeats":            {Type: framework.TypeInt, Description: "Equal failures that followed."},
		"planted": {Type: framework.TypeSlice, Description: "Of a decoy: each copy that was handed out and not made dead by the engine, newest first: " +
			"version, placement, issued_at, to whom (binding, display_name, entity_id, remote_address, request_id), fingerprint_sha256, and current."},
		"matches": {Type: framework.TypeSlice, Description: "If a prefix matches several records: one object each, with the fields above, which are then absent; at most 100."},
	}
}

func (b *backend) lookUp(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	key, value, err := lookupKey(d)
	if err != nil {
		return nil, err
	}
	at, err := b.lookupTime(d, key)
	if err != nil {
		return nil, err
	}
	var t *target.State
	var rec *target.Record
	switch key {
	case "fingerprint_prefix":
		return lookUpPrefix(ctx, b.store, value)
	case "fingerprint_sha256":
		t, rec, err = followIndex(ctx, b.store, fingerprintKey(value))
	case "credential_id":
		t, rec, err = followIndex(ctx, b.store, credentialKey(value))
	case "client_id":
		t, rec, err = recordOfClient(ctx, b.store, value, at)
	case "decoy_id":
		t, rec, err = recordOfDecoy(ctx, b.store, target.Ref{Kind: target.Decoy, DecoyID: value}, at)
	}
	if errors.Is(err, errNoRecord) {
		return nil, noRecord(key, t, at)
	}
	if err != nil {
		return nil, err
	}
	return found(ctx, b.store, t, rec)
}

// lookupKey returns the one thing that is given to look for.
func lookupKey(d *framework.FieldData) (key, value string, err error) {
	for _, field := range lookupKeys {
		given := strings.TrimSpace(d.Get(field).(string))
		switch {
		case given == "":
		case key != "":
			return "", "", refuse("%s and %s: give exactly one of %s", key, field, strings.Join(lookupKeys, ", "))
		default:
			key, value = field, given
		}
	}
	switch key {
	case "":
		return "", "", refuse("give exactly one of %s", strings.Join(lookupKeys, ", "))
	case "fingerprint_sha256", "fingerprint_prefix":
		value = strings.ToLower(value)
		return key, value, validFingerprint(key, value)
	case "decoy_id":
		return key, value, validID(key, value)
	default:
		return key, value, validLookupText(key, value)
	}
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]*$`)

func validFingerprint(field, value string) error {
	const whole = 64
	switch hex := hexDigits.MatchString(value); {
	case field == "fingerprint_sha256" && hex && len(value) >= fingerprintFolder && len(value) < whole:
		return refuse("fingerprint_sha256: has %d hex digits of 64; give what you have as fingerprint_prefix", len(value))
	case field == "fingerprint_sha256" && (!hex || len(value) != whole):
		return refuse("fingerprint_sha256: must be the whole SHA-256 in 64 hex digits (never the secret itself)")
	case field == "fingerprint_prefix" && (!hex || len(value) < fingerprintFolder || len(value) > whole):
		return refuse("fingerprint_prefix: must be the first %d to 64 hex digits of the SHA-256 (never the secret itself)", fingerprintFolder)
	default:
		return nil
	}
}

// validLookupText checks an ID whose form is C1's own; it is only compared.
func validLookupText(field, value string) error {
	if len(value) > maxLookupText || strings.ContainsFunc(value, unseen) {
		return refuse("%s: must be as C1 shows it, one line of at most %d characters (never the secret itself)", field, maxLookupText)
	}
	return nil
}

const maxLookupText = 1024

// lookupTime is the time whose record is looked for.
func (b *backend) lookupTime(d *framework.FieldData, key string) (time.Time, error) {
	given := strings.TrimSpace(d.Get("at").(string))
	switch {
	case given == "":
		return b.now(), nil
	case key != "decoy_id" && key != "client_id":
		return time.Time{}, refuse("at goes with decoy_id or client_id; %s names one version", key)
	}
	at, err := time.Parse(time.RFC3339, given)
	if err != nil {
		return time.Time{}, refuse("at %q: must be a time as in 2026-01-31T15:04:05Z (RFC 3339)", clip(given, 40))
	}
	return at, nil
}

// recordOfClient finds what a client ID stands for. That of a connector changes
// with each rotation, that of a decoy may not.
func recordOfClient(ctx context.Context, s *store.Store, clientID string, at time.Time) (*target.State, *target.Record, error) {
	t, rec, err := followIndex(ctx, s, clientKey(clientID))
	if err != nil || t.Ref.Kind == target.Connector {
		return t, rec, err
	}
	return recordAt(ctx, s, t, at, func(r *target.Record) bool { return r.ClientID == clientID })
}

func recordOfDecoy(ctx context.Context, s *store.Store, ref target.Ref, at time.Time) (*target.State, *target.Record, error) {
	t, err := readState(ctx, s, ref)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, errNoRecord
	}
	return recordAt(ctx, s, t, at, func(*target.Record) bool { return true })
}

// recordAt returns a target with the record of the version that was current at a
// time, of those that are meant; errNoRecord when there is none.
func recordAt(ctx context.Context, s *store.Store, t *target.State, at time.Time, meant func(*target.Record) bool) (*target.State, *target.Record, error) {
	h, err := historyOf(ctx, s, t)
	if err != nil {
		return nil, nil, err
	}
	for rec, err := range h.all(ctx) {
		if err != nil {
			return nil, nil, err
		}
		if rec.Version > 0 && meant(rec) && !rec.FinishedAt.Truncate(time.Second).After(at) {
			return t, rec, nil
		}
	}
	return t, nil, errNoRecord
}

// noRecord is the answer where nothing was found; t is the target, if it is known.
func noRecord(key string, t *target.State, at time.Time) error {
	why := "it was not vended by this mount, or its record was pruned (history_limit in config)"
	switch {
	case t == nil:
	case t.Version == 0:
		why = fmt.Sprintf("%s is bound as %s, and this mount has never rotated it: the copy comes from elsewhere", t.Ref, t.Binding)
	case key == "decoy_id" || key == "client_id":
		why = fmt.Sprintf("no record of %s is as old as %s (records are kept up to history_limit in config)", t.Ref, rfc3339(at))
	}
	return failWith(http.StatusNotFound, "no record of that %s: %s", key, why)
}

// lookUpPrefix answers with the record that a prefix means, or lists them.
func lookUpPrefix(ctx context.Context, s *store.Store, prefix string) (*logical.Response, error) {
	keys, err := s.Group(ctx, fingerprintPrefix, prefix[:fingerprintFolder])
	if err != nil {
		return nil, err
	}
	var answers []*logical.Response
	var unreadable error
	for _, key := range keys {
		if len(answers) == mostMatches {
			break
		}
		t, rec, err := followPointer(ctx, s, key)
		switch {
		case errors.Is(err, errNoRecord):
		case store.Unreadable(err):
			unreadable = err
		case err != nil:
			return nil, err
		case strings.HasPrefix(rec.Fingerprint, prefix): // the folder tells its first digits only
			answer, err := found(ctx, s, t, rec)
			if err != nil {
				return nil, err
			}
			answers = append(answers, answer)
		}
	}
	if len(answers) == 0 {
		return nil, cmp.Or(unreadable, noRecord("fingerprint_prefix", nil, time.Time{}))
	}
	resp := oneOf(answers)
	if unreadable != nil {
		resp.AddWarning("another record may match: " + unreadable.Error())
	}
	return resp, nil
}

// oneOf is the answer where at least one record was found.
func oneOf(answers []*logical.Response) *logical.Response {
	if len(answers) == 1 {
		return answers[0]
	}
	slices.SortFunc(answers, func(a, b *logical.Response) int {
		return cmp.Compare(a.Data["fingerprint_sha256"].(string), b.Data["fingerprint_sha256"].(string))
	})
	matches := make([]any, len(answers))
	for i, answer := range answers {
		matches[i] = answer.Data
	}
	resp := &logical.Response{Data: map[string]any{"matches": matches}}
	count := fmt.Sprint(len(answers))
	if len(answers) == mostMatches {
		count += " or more"
	}
	resp.AddWarning(count + " records match the prefix")
	return resp
}

// found is the answer for one record.
func found(ctx context.Context, s *store.Store, t *target.State, rec *target.Record) (*logical.Response, error) {
	h, err := historyOf(ctx, s, t)
	if err != nil {
		return nil, err
	}
	until, err := h.validUntil(ctx, rec)
	if err != nil {
		return nil, err
	}
	data := recordFields(t, rec)
	maps.Copy(data, map[string]any{
		"kind":         string(t.Ref.Kind),
		"app_id":       t.Ref.AppID,
		"connector_id": t.Ref.ConnectorID,
		"decoy_id":     t.Ref.DecoyID,
		"current":      t.Version == rec.Version,
		"valid_from":   rfc3339(rec.FinishedAt),
		"valid_until":  rfc3339(until),
	})
	resp := &logical.Response{Data: data}
	if t.Ref.Kind != target.Decoy {
		return resp, nil
	}
	if data["planted"], err = h.planted(ctx); err != nil {
		return nil, err
	}
	if gone := t.Issued.First; gone > 0 {
		resp.AddWarning(fmt.Sprintf("planted lacks %d older version(s), whose records are no longer kept (history_limit in config)", gone))
	}
	return resp, nil
}

// validUntil is when a version stopped being what Vault hands out, or zero.
func (h *history) validUntil(ctx context.Context, rec *target.Record) (time.Time, error) {
	until := rec.EndedAt
	next, _, err := h.version(ctx, rec.Version+1)
	if err == nil && next != nil && (until.IsZero() || next.FinishedAt.Before(until)) {
		until = next.FinishedAt
	}
	return until, err
}

// planted are the copies of a decoy that were handed out and that the engine has
// not made dead, newest first. C1 has replaced all but the current one, but they
// lie where they were put, and whoever uses one has been there.
func (h *history) planted(ctx context.Context) ([]any, error) {
	copies := []any{}
	for rec, err := range h.all(ctx) {
		if err != nil {
			return nil, err
		}
		if !rec.HandedOut() || !rec.EndedAt.IsZero() {
			continue
		}
		copies = append(copies, map[string]any{
			"version": rec.Version, "placement": rec.Placement, "issued_at": rfc3339(rec.FinishedAt),
			"binding": rec.Binding, "display_name": rec.DisplayName, "entity_id": rec.EntityID,
			"remote_address": rec.RemoteAddr, "request_id": rec.RequestID,
			"fingerprint_sha256": rec.Fingerprint, "current": rec.Version == h.state.Version,
		})
	}
	return copies, nil
}
