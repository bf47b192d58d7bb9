// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"slices"
	"time"
)

// Entry is one change of a tenant's state. It never holds a secret.
type Entry struct {
	Seq          int       `json:"seq"` // from 1, in the order of the changes
	Time         time.Time `json:"time"`
	Tenant       string    `json:"tenant"`
	Op           string    `json:"op"`                      // the operation's name, see Requests
	Object       string    `json:"object,omitempty"`        // connector, decoy or client ID
	CredentialID string    `json:"credential_id,omitempty"` // of connector credentials
	Fingerprint  string    `json:"fingerprint,omitempty"`   // hex SHA-256 of the secret concerned
	Detail       string    `json:"detail,omitempty"`
}

// Operations in the journal that are no operations of the API.
const (
	// OpEndCredential: an exclusive rotation ended the previous credential.
	OpEndCredential = "endConnectorCredential"
	// OpFinding: somebody used a decoy.
	OpFinding = "finding"
	// OpExposure: a scanner saw a decoy's secret in public.
	OpExposure = "exposure"
)

// outside marks changes that were made from Go or over the admin path.
const outside = "outside the API"

// Journal returns everything that changed since the tenant was seeded, in order.
func (t *Tenant) Journal() []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.journal)
}

// Changes counts the journal's entries of one operation.
func (t *Tenant) Changes(op string) int {
	n := 0
	for _, entry := range t.Journal() {
		if entry.Op == op {
			n++
		}
	}
	return n
}

// record appends to the journal; t.mu is held.
func (t *Tenant) record(entry Entry) {
	entry.Seq = len(t.journal) + 1
	entry.Time = t.now()
	entry.Tenant = t.name
	t.journal = append(t.journal, entry)
}

// Requests counts the HTTP requests that arrived for an operation, whatever
// became of them. Names are those of Operations; "unknown" for paths and
// methods that C1 does not have; "" for all. The admin path is not counted.
func (t *Tenant) Requests(op string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if op != "" {
		return t.requests[op]
	}
	n := 0
	for _, count := range t.requests {
		n += count
	}
	return n
}

// MaxConcurrent returns the highest number of rotations of one connector or
// decoy (by its ID) that were in flight at once.
func (t *Tenant) MaxConcurrent(object string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.maxInFlight[object]
}
