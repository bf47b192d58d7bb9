// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"maps"
	"slices"
	"time"
)

// Finding is what C1 raises when somebody uses a decoy.
type Finding struct {
	DecoyID     string            `json:"decoy_id"`
	DisplayName string            `json:"display_name"`
	Kind        Kind              `json:"kind"`
	Severity    string            `json:"severity"`
	Fingerprint string            `json:"fingerprint"` // hex SHA-256 of the secret that was used
	Time        time.Time         `json:"time"`
	SourceIP    string            `json:"source_ip"`
	UserAgent   string            `json:"user_agent"`
	Endpoint    string            `json:"endpoint"` // method and path
	Annotations map[string]string `json:"annotations"`
}

// Findings returns every use of a decoy so far, oldest first. The fingerprint
// is of the very secret that was used, which need not be the current one.
// Disabled and deleted decoys raise none.
func (t *Tenant) Findings() []Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.findings)
}

// raise records the use of a decoy; t.mu is held.
func (t *Tenant) raise(rq *request, d *decoy, usedFingerprint string) {
	d.lastUsedAt = rq.now
	t.findings = append(t.findings, Finding{
		DecoyID: d.id, DisplayName: d.displayName, Kind: d.kind, Severity: "CRITICAL",
		Fingerprint: usedFingerprint, Time: rq.now, SourceIP: rq.sourceIP(), UserAgent: rq.UserAgent(),
		Endpoint: rq.Method + " " + rq.URL.Path, Annotations: maps.Clone(d.annotations),
	})
	t.record(Entry{Op: OpFinding, Object: d.id, Fingerprint: usedFingerprint})
}
