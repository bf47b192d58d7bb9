// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"slices"
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

// addRecord appends a record. An attempt that failed like the one before, or whose
// caller had gone like that one's, is counted in it: a client in a retry loop must
// not push out who was issued what.
func (t *target) addRecord(r record) {
	t.Records = append(t.Records, r)
	t.foldNewest()
}

// foldNewest counts the newest record in the one before, if it says the same.
func (t *target) foldNewest() {
	n := len(t.Records)
	if n < 2 || !t.Records[n-2].folds(t.Records[n-1]) {
		return
	}
	before, newest := t.Records[n-2], t.Records[n-1]
	t.forget(before)
	newest.Repeats, newest.StartedAt = before.Repeats+1, before.StartedAt
	t.Records = append(slices.Clone(t.Records[:n-2]), newest)
}

// folds reports whether a newer record says nothing more than that the same
// happened again.
func (r record) folds(newer record) bool {
	switch {
	case r.Outcome != newer.Outcome || r.Reason != newer.Reason || r.Binding != newer.Binding:
		return false
	case r.Outcome == outcomeFailed:
		return r.Error == newer.Error
	default:
		return r.Outcome == outcomeUndelivered && r.EntityID == newer.EntityID && r.DisplayName == newer.DisplayName &&
			(r.CredentialID == "" || !r.EndedAt.IsZero())
	}
}

// handedOut reports whether somebody was given the material.
func (r record) handedOut() bool { return r.Outcome == outcomeIssued || r.Outcome == outcomeStored }

// forget marks what the index holds of a record that is kept no longer.
func (t *target) forget(r record) {
	if r.handedOut() {
		t.Forgotten++
	}
	t.pruned = append(t.pruned, r.indexKeys()...)
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

// otherRecords is how many records are kept of attempts that handed out nothing:
// ten, and half of history_limit where that is more.
func otherRecords(historyLimit int) int { return max(10, historyLimit/2) }

// pruneRecords keeps the newest records: up to the limit of what was handed out,
// which only what was handed out later pushes out, and some of the others.
func (t *target) pruneRecords() {
	if t.historyLimit <= 0 {
		return
	}
	kept := make([]record, 0, len(t.Records))
	handedOut, others := t.historyLimit, otherRecords(t.historyLimit)
	for _, r := range slices.Backward(t.Records) {
		left := &others
		if r.handedOut() {
			left = &handedOut
		}
		if *left--; *left >= 0 {
			kept = append(kept, r)
		} else {
			t.forget(r)
		}
	}
	slices.Reverse(kept)
	t.Records = kept
	inUse := map[store.Key]bool{} // a decoy keeps its client ID
	for _, r := range kept {
		for _, key := range r.indexKeys() {
			inUse[key] = true
		}
	}
	t.pruned = slices.DeleteFunc(t.pruned, func(key store.Key) bool { return inUse[key] })
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
