// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/c1-community/vault-plugin-c1/internal/store"
)

// The index leads from what an incident starts with to the target and version
// that it belongs to, so that no lookup walks all targets. A decoy's ID needs no
// entry: the target is named by it.
const (
	fingerprintPrefix = "fingerprint/" // + keyed hash of 12 hex digits + / + of all of them
	idPrefix          = "id/"          // + keyed hash of a client ID or a credential ID, which only connectors have

	// fingerprintFolder is how many hex digits of a fingerprint are enough to
	// look for: C1 shows a prefix where it found a secret published.
	fingerprintFolder = 12
)

// pointer is what an entry of the index holds.
type pointer struct {
	Ref     targetRef `json:"ref"`
	Version int       `json:"version"`
}

// storedPointer is how a pointer is stored.
var storedPointer = store.Type[pointer]{
	What: "pointer to a record", Format: 1,
	Check: func(p *pointer) error { return p.Ref.check() },
}

func fingerprintKey(fingerprint string) store.Key {
	return store.HashedIn(fingerprintPrefix, fingerprint[:fingerprintFolder], fingerprint)
}

func clientKey(clientID string) store.Key { return store.Hashed(idPrefix, "client "+clientID) }

func credentialKey(credentialID string) store.Key {
	return store.Hashed(idPrefix, "credential "+credentialID)
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// indexKeys are the entries that lead to a record, the fingerprint's first.
func (r *record) indexKeys() []store.Key {
	var keys []store.Key
	if len(r.Fingerprint) > fingerprintFolder {
		keys = append(keys, fingerprintKey(r.Fingerprint))
	}
	if r.ClientID != "" {
		keys = append(keys, clientKey(r.ClientID))
	}
	if r.CredentialID != "" {
		keys = append(keys, credentialKey(r.CredentialID))
	}
	return keys
}

// writeIndex stores entries that lead to a target's newest version.
func (b *backend) writeIndex(ctx context.Context, t *target, keys []store.Key) error {
	writes := make([]func() error, len(keys))
	for i, key := range keys {
		writes[i] = func() error {
			return storedPointer.Write(ctx, b.store, key, &pointer{Ref: t.Ref, Version: t.Version})
		}
	}
	return parallel(writes...)
}

// restoreIndex writes what is missing of the newest version's entries, because
// the process died beside or behind the write of an outcome. Each rotation is
// looked at once, after its settle time; later nothing can be missing.
func (b *backend) restoreIndex(ctx context.Context, t *target) error {
	if t.Current == nil || b.now().Sub(t.Current.RotatedAt) > recently {
		return nil
	}
	rec := t.recordOf(t.Version)
	if rec == nil {
		return nil
	}
	var missing []store.Key
	for _, key := range rec.indexKeys() {
		there, err := b.store.Has(ctx, key)
		if err != nil {
			return err
		}
		if !there {
			missing = append(missing, key)
		}
	}
	return b.writeIndex(ctx, t, missing)
}

// behind carries out, behind the answer, what nobody waits for: entries of the
// index that settle would restore, and dropping those of records that are gone,
// of which one that stays is only untidy.
func (b *backend) behind(ctx context.Context, t *target) {
	missing, gone := t.unindexed, t.pruned
	t.unindexed, t.pruned = nil, nil
	if len(missing)+len(gone) == 0 || !b.work.enter() {
		return
	}
	of := &target{Ref: t.Ref, Version: t.Version} // t goes on changing
	go func() {
		defer b.work.leave()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		if err := b.writeIndex(ctx, of, missing); err != nil {
			b.Logger().Warn("could not index a rotation; it is done when its outcome is settled", "target", of.Ref.String(), "error", err)
		}
		for _, key := range gone {
			_ = b.store.Remove(ctx, key)
		}
	}()
}

// errNoRecord: the index leads nowhere.
var errNoRecord = errors.New("no record")

// followIndex returns the target that an entry of the index leads to, and the
// version's record; errNoRecord when there is none.
func followIndex(ctx context.Context, s *store.Store, key store.Key) (*target, *record, error) {
	t, rec, err := followPointer(ctx, s, key)
	if err == nil && !slices.Contains(rec.indexKeys(), key) {
		return t, nil, errNoRecord
	}
	return t, rec, err
}

// followPointer is followIndex for a key that comes from a listing; the record
// may be another one's, whose pointer was replaced.
func followPointer(ctx context.Context, s *store.Store, key store.Key) (*target, *record, error) {
	p, err := storedPointer.Read(ctx, s, key)
	if err != nil {
		return nil, nil, err
	}
	if p == nil {
		return nil, nil, errNoRecord
	}
	t, err := readTarget(ctx, s, p.Ref)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, errNoRecord
	}
	rec := t.recordOf(p.Version)
	if rec == nil {
		return t, nil, errNoRecord
	}
	return t, rec, nil
}
