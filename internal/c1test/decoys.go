// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto/subtle"
	"maps"
	"time"
)

// Kind is C1's DecoyKind.
type Kind string

// The kinds of decoys that C1 documents.
const (
	KindUserClientCredential Kind = "DECOY_KIND_USER_CLIENT_CREDENTIAL"
	KindConnectorClient      Kind = "DECOY_KIND_CONNECTOR_CLIENT"
	KindAccessToken          Kind = "DECOY_KIND_ACCESS_TOKEN"
	KindWorkloadFederation   Kind = "DECOY_KIND_WORKLOAD_FEDERATION"
)

// Kinds lists them all.
func Kinds() []Kind {
	return []Kind{KindUserClientCredential, KindConnectorClient, KindAccessToken, KindWorkloadFederation}
}

type decoy struct {
	id          string
	displayName string
	description string
	kind        Kind
	disabled    bool
	deleted     bool
	annotations map[string]string
	createdAt   time.Time
	updatedAt   time.Time
	lastUsedAt  time.Time

	clientID string   // of the client credential kinds
	trustID  string   // of workload federation
	secrets  []secret // every secret ever vended, the last is current
}

// live reports whether using the decoy raises a finding.
func (d *decoy) live() bool { return !d.deleted && !d.disabled }

// current returns the fingerprint of the current secret, "" for kinds without one.
func (d *decoy) current() string {
	if len(d.secrets) == 0 {
		return ""
	}
	return d.secrets[len(d.secrets)-1].fingerprint
}

// find returns the current or previous secret with this value, or nil.
func (d *decoy) find(value string) *secret {
	for i := range d.secrets {
		if subtle.ConstantTimeCompare([]byte(d.secrets[i].value), []byte(value)) == 1 {
			return &d.secrets[i]
		}
	}
	return nil
}

// signer returns the current or previous secret that signed the assertion, or nil.
func (d *decoy) signer(a *assertion) *secret {
	for i := range d.secrets {
		if a.by(d.secrets[i]) {
			return &d.secrets[i]
		}
	}
	return nil
}

// decoyByClientID finds the decoy that a login names; t.mu is held.
func (t *Tenant) decoyByClientID(clientID string) *decoy {
	for _, d := range t.decoys {
		if d.clientID != "" && d.clientID == clientID {
			return d
		}
	}
	return nil
}

// mintDecoy gives the decoy new material; t.mu is held. The client ID and the
// decoy's ID stay, a trust gets a new ID.
func (t *Tenant) mintDecoy(d *decoy, now time.Time) {
	switch d.kind {
	case KindAccessToken:
		value := newAccessToken()
		t.emulator.remember(value)
		d.secrets = append(d.secrets, secret{value: value, fingerprint: fingerprint(value)})
	case KindWorkloadFederation:
		d.trustID = newID(now)
	case KindUserClientCredential, KindConnectorClient:
		if d.clientID == "" {
			use := map[Kind]string{KindUserClientCredential: usePersonal, KindConnectorClient: useConnector}[d.kind]
			d.clientID = t.freshClientID(use) // bait must look like the real thing
		}
		d.secrets = append(d.secrets, t.emulator.newKeySecret())
	}
	d.updatedAt = now
}

// Decoy returns the ID of the seeded decoy of this kind.
func (t *Tenant) Decoy(kind Kind) string { return t.seeds.decoys[kind] }

// NewDecoy adds a decoy, as somebody else would, and returns its ID.
func (t *Tenant) NewDecoy(kind Kind, displayName string, annotations map[string]string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.newDecoy(kind, displayName, annotations, t.now())
	t.record(Entry{Op: OpCreateDecoy, Object: d.id, Fingerprint: d.current(), Detail: outside})
	return d.id
}

// newDecoy is NewDecoy with t.mu held and no journal.
func (t *Tenant) newDecoy(kind Kind, displayName string, annotations map[string]string, now time.Time) *decoy {
	d := &decoy{
		id: newID(now), displayName: displayName, kind: kind,
		annotations: maps.Clone(annotations), createdAt: now,
	}
	if d.annotations == nil {
		d.annotations = map[string]string{}
	}
	t.mintDecoy(d, now)
	t.decoys[d.id] = d
	return d
}

// DeleteDecoy deletes a decoy, as somebody else would.
func (t *Tenant) DeleteDecoy(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.liveDecoy(id); d != nil {
		d.deleted = true
		t.record(Entry{Op: OpDeleteDecoy, Object: id, Detail: outside})
	}
}

// liveDecoy returns a decoy that is not deleted, or nil; t.mu is held.
func (t *Tenant) liveDecoy(id string) *decoy {
	d := t.decoys[id]
	if d == nil || d.deleted {
		return nil
	}
	return d
}

// RotateDecoy rotates as somebody else would, and returns the new fingerprint,
// which is "" for kinds without a secret and for unknown decoys.
func (t *Tenant) RotateDecoy(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.liveDecoy(id)
	if d == nil {
		return ""
	}
	t.rotateDecoy(d, t.now(), outside)
	return d.current()
}

func (t *Tenant) rotateDecoy(d *decoy, now time.Time, detail string) {
	t.mintDecoy(d, now)
	t.record(Entry{Op: OpRotateDecoy, Object: d.id, Fingerprint: d.current(), Detail: detail})
}

// DecoyFingerprint returns the fingerprint of a decoy's current secret.
func (t *Tenant) DecoyFingerprint(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.decoys[id]; d != nil {
		return d.current()
	}
	return ""
}
