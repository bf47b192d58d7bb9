// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/store"
)

// What became of a rotation.
const (
	outcomeIssued      = "issued"      // answered; whether it arrived nobody can know
	outcomeStored      = "stored"      // kept for the readers of a scheduled binding
	outcomeUndelivered = "undelivered" // the caller had gone, so nobody holds it
	outcomeFailed      = "failed"      // C1 did not rotate
	outcomeSuperseded  = "superseded"  // unknown, and a later rotation took its place
	outcomeDiscarded   = "discarded"   // rotated to end a vended copy, given to nobody
)

// Why a rotation was asked for.
const (
	reasonRead     = "read"
	reasonWrite    = "write"
	reasonLeaseEnd = "lease_end"
	reasonRotate   = "rotate"   // an operator, without seeing the material
	reasonInitial  = "initial"  // the binding came to be scheduled
	reasonSchedule = "schedule" // its time had come
	reasonRecovery = "recovery" // the one before was of unknown outcome
)

// origin says who asked for a rotation, when and why.
type origin struct {
	ID          string    `json:"id"`
	Binding     string    `json:"binding,omitempty"`
	Reason      string    `json:"reason"`
	RequestID   string    `json:"request_id,omitempty"`
	EntityID    string    `json:"entity_id,omitempty"`
	DisplayName string    `json:"display_name,omitempty"`
	RemoteAddr  string    `json:"remote_address,omitempty"`
	Placement   string    `json:"placement,omitempty"`
	StartedAt   time.Time `json:"started_at"`
}

// originOf reads who asked from Vault's request.
func originOf(req *logical.Request) origin {
	o := origin{RequestID: req.ID, EntityID: req.EntityID, DisplayName: req.DisplayName}
	if req.Connection != nil {
		o.RemoteAddr = req.Connection.RemoteAddr
	}
	return o
}

// record is one attempt to rotate and what became of it, never the secret.
type record struct {
	origin
	Version      int       `json:"version,omitempty"` // 0 unless it succeeded
	Outcome      string    `json:"outcome"`
	FinishedAt   time.Time `json:"finished_at"`
	CredentialID string    `json:"credential_id,omitempty"`
	ClientID     string    `json:"client_id,omitempty"`
	Fingerprint  string    `json:"fingerprint_sha256,omitempty"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // at C1
	EndsAt       time.Time `json:"ends_at,omitzero"`    // when the engine ends it at the latest
	EndedAt      time.Time `json:"ended_at,omitzero"`   // when the engine ended it at C1
	Error        string    `json:"error,omitempty"`
	Warning      string    `json:"warning,omitempty"`
	Repeats      int       `json:"repeats,omitempty"` // equal failures that followed
}

// addRecord appends a record. A failure that repeats the one before is counted
// in it, so that a caller in a retry loop cannot push out who was issued what.
func (t *target) addRecord(r record) {
	if n := len(t.Records); n > 0 && r.Outcome == outcomeFailed {
		last := &t.Records[n-1]
		if last.Outcome == outcomeFailed && last.Error == r.Error && last.Reason == r.Reason {
			last.Repeats++
			last.FinishedAt = r.FinishedAt
			last.RequestID = r.RequestID
			return
		}
	}
	t.Records = append(t.Records, r)
}

// recordOf returns the record of a version, or nil.
func (t *target) recordOf(version int) *record {
	for i := range t.Records {
		if t.Records[i].Version == version {
			return &t.Records[i]
		}
	}
	return nil
}

// recordOfRequest returns the newest record of a Vault request, or nil.
func (t *target) recordOfRequest(requestID string) *record {
	for i := len(t.Records) - 1; i >= 0 && requestID != ""; i-- {
		if t.Records[i].RequestID == requestID {
			return &t.Records[i]
		}
	}
	return nil
}

// pruneRecords keeps the newest records up to the limit and returns the entries
// of the index that lead to none of them any more.
func (t *target) pruneRecords() (gone []store.Key) {
	if t.historyLimit <= 0 || len(t.Records) <= t.historyLimit {
		return nil
	}
	n := len(t.Records) - t.historyLimit
	dropped := t.Records[:n]
	t.Records = t.Records[n:]
	kept := map[store.Key]bool{} // a decoy keeps its client ID
	for i := range t.Records {
		for _, key := range t.Records[i].indexKeys() {
			kept[key] = true
		}
	}
	for i := range dropped {
		if dropped[i].Version > 0 {
			t.Forgotten++
		}
		for _, key := range dropped[i].indexKeys() {
			if !kept[key] {
				gone = append(gone, key)
			}
		}
	}
	return gone
}

// recordFields are a record as history and lookup show it.
func recordFields(r record) map[string]any {
	return map[string]any{
		"version":            r.Version,
		"outcome":            r.Outcome,
		"reason":             r.Reason,
		"binding":            r.Binding,
		"attempt_id":         r.ID,
		"request_id":         r.RequestID,
		"entity_id":          r.EntityID,
		"display_name":       r.DisplayName,
		"remote_address":     r.RemoteAddr,
		"placement":          r.Placement,
		"credential_id":      r.CredentialID,
		"client_id":          r.ClientID,
		"fingerprint_sha256": r.Fingerprint,
		"started_at":         rfc3339(r.StartedAt),
		"finished_at":        rfc3339(r.FinishedAt),
		"expires_at":         rfc3339(r.ExpiresAt),
		"ends_at":            rfc3339(r.EndsAt),
		"ended_at":           rfc3339(r.EndedAt),
		"error":              r.Error,
		"warning":            r.Warning,
		"repeats":            r.Repeats,
	}
}

// rfc3339 prints a time, and "" for none.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
