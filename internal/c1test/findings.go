// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"maps"
	"slices"
	"time"
)

// Finding is one use of a decoy, as C1's audit log has it. The API shows the
// uses of one decoy as one finding that recurs.
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
	return slices.Clone(t.uses)
}

// raise records the use of a decoy; t.mu is held.
func (t *Tenant) raise(rq *request, d *decoy, usedFingerprint string) {
	d.lastUsedAt = rq.now
	t.uses = append(t.uses, Finding{
		DecoyID: d.id, DisplayName: d.displayName, Kind: d.kind, Severity: "CRITICAL",
		Fingerprint: usedFingerprint, Time: rq.now, SourceIP: rq.sourceIP(), UserAgent: rq.UserAgent(),
		Endpoint: rq.Method + " " + rq.URL.Path, Annotations: maps.Clone(d.annotations),
	})
	t.record(Entry{Op: OpFinding, Object: d.id, Fingerprint: usedFingerprint})
	t.observe(findingDecoyUsed, d, rq.now)
}

// exposedPrefix is how much of a fingerprint a finding about a public exposure
// names.
const exposedPrefix = 12

// ExposeDecoy raises the finding that a scanner saw one of a decoy's secrets in
// public: the one with this fingerprint, or the current one for "". It returns
// the finding's ID, or "" when there is no such decoy or secret.
func (t *Tenant) ExposeDecoy(id, fingerprint string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.liveDecoy(id)
	if d == nil {
		return ""
	}
	if fingerprint == "" {
		fingerprint = d.current()
	}
	if !slices.ContainsFunc(d.secrets, func(s secret) bool { return s.fingerprint == fingerprint }) {
		return ""
	}
	f := t.observe(findingDecoyExposed, d, t.now())
	f.exposedPrefix = fingerprint[:exposedPrefix]
	t.record(Entry{Op: OpExposure, Object: d.id, Fingerprint: fingerprint, Detail: outside})
	return f.id
}

// findingType is C1's FindingType, as far as decoys have one.
type findingType string

const (
	findingDecoyUsed    findingType = "FINDING_TYPE_DECOY_CREDENTIAL_USED"
	findingDecoyExposed findingType = "FINDING_TYPE_DECOY_PUBLICLY_EXPOSED"
)

// findingRecord is a finding as C1 keeps it: one for each type and decoy.
type findingRecord struct {
	id            string
	kind          findingType
	decoy         *decoy
	annotations   map[string]string // the decoy's when it was seen last
	first, last   time.Time
	recurrences   int // how often it was seen after the first time
	exposedPrefix string
}

// observe raises the finding, or counts a recurrence of it; t.mu is held.
func (t *Tenant) observe(kind findingType, d *decoy, now time.Time) *findingRecord {
	at := slices.IndexFunc(t.findings, func(f *findingRecord) bool { return f.kind == kind && f.decoy == d })
	if at < 0 {
		t.findings = append(t.findings, &findingRecord{id: newID(now), kind: kind, decoy: d, first: now})
		at = len(t.findings) - 1
	} else {
		t.findings[at].recurrences++
	}
	f := t.findings[at]
	f.last, f.annotations = now, maps.Clone(d.annotations)
	return f
}
