// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
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

// recently is how long after a rotation it may not have been looked at yet.
const recently = 2*longestRequestTimeout + 2*time.Minute

// pointer is what an entry of the index holds.
type pointer struct {
	Ref     target.Ref `json:"ref"`
	Version int        `json:"version"`
}

// storedPointer is how a pointer is stored.
var storedPointer = store.Type[pointer]{
	What: "pointer to a record", Format: 1,
	Check: func(p *pointer) error { return p.Ref.Check() },
}

func fingerprintKey(fingerprint string) store.Key {
	return store.HashedIn(fingerprintPrefix, fingerprint[:fingerprintFolder], fingerprint)
}

func clientKey(clientID string) store.Key { return store.Hashed(idPrefix, "client "+clientID) }

func credentialKey(credentialID string) store.Key {
	return store.Hashed(idPrefix, "credential "+credentialID)
}

// indexKeys are the entries that lead to a version, the fingerprint's first.
func indexKeys(fingerprint, clientID, credentialID string) []store.Key {
	var keys []store.Key
	if len(fingerprint) > fingerprintFolder {
		keys = append(keys, fingerprintKey(fingerprint))
	}
	if clientID != "" {
		keys = append(keys, clientKey(clientID))
	}
	if credentialID != "" {
		keys = append(keys, credentialKey(credentialID))
	}
	return keys
}

func indexKeysOf(r *target.Record) []store.Key {
	return indexKeys(r.Fingerprint, r.ClientID, r.CredentialID)
}

// currentKeys are the entries that lead to the newest version.
func currentKeys(t *target.State) []store.Key {
	return indexKeys(t.Current.Fingerprint, t.Current.ClientID, t.Current.CredentialID)
}

// writeIndex stores entries that lead to a target's newest version.
func (b *backend) writeIndex(ctx context.Context, t *target.State, keys []store.Key) error {
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
func (b *backend) restoreIndex(ctx context.Context, t *target.State) error {
	if t.Current == nil || b.now().Sub(t.Current.RotatedAt) > recently {
		return nil
	}
	var missing []store.Key
	for _, key := range currentKeys(t) {
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

// leftover is what nobody waits for once an outcome is stored: entries of the index
// that settle would restore, and what is kept no longer, which is only untidy if it
// stays.
type leftover struct {
	unindexed []store.Key     // of the state's newest version
	dropped   []target.Record // whose entries of the index are to go
	pruned    []target.Place  // of records that are to go, with their entries
}

// behind carries that out behind the answer.
func (b *backend) behind(ctx context.Context, t *target.State, l leftover) {
	if len(l.unindexed)+len(l.dropped)+len(l.pruned) == 0 || !b.work.Enter() {
		return
	}
	go func() {
		defer b.work.Leave()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		if err := b.writeIndex(ctx, t, l.unindexed); err != nil {
			b.Logger().Warn("could not index a rotation; it is done when its outcome is settled", "target", t.Ref.String(), "error", err)
		}
		h, err := historyOf(ctx, b.store, t)
		if err != nil {
			return
		}
		for _, place := range l.pruned {
			if r, err := h.at(ctx, place); err == nil && r != nil {
				l.dropped = append(l.dropped, *r)
			}
			_ = b.store.Remove(ctx, recordKey(h.name, place))
		}
		for i := range l.dropped {
			b.dropIndex(ctx, t.Ref, &l.dropped[i])
		}
	}()
}

// dropIndex removes the entries that lead to a record. A decoy keeps its client ID,
// whose entry leads to a newer one.
func (b *backend) dropIndex(ctx context.Context, ref target.Ref, r *target.Record) {
	for _, key := range indexKeysOf(r) {
		p, err := storedPointer.Read(ctx, b.store, key)
		if err == nil && p != nil && *p == (pointer{ref, r.Version}) {
			_ = b.store.Remove(ctx, key)
		}
	}
}

// errNoRecord: the index leads nowhere.
var errNoRecord = errors.New("no record")

// followIndex returns the target that an entry of the index leads to, and the
// version's record; errNoRecord when there is none.
func followIndex(ctx context.Context, s *store.Store, key store.Key) (*target.State, *target.Record, error) {
	t, rec, err := followPointer(ctx, s, key)
	if err == nil && !slices.Contains(indexKeysOf(rec), key) {
		return t, nil, errNoRecord
	}
	return t, rec, err
}

// followPointer is followIndex for a key that comes from a listing; the record
// may be another one's, whose pointer was replaced.
func followPointer(ctx context.Context, s *store.Store, key store.Key) (*target.State, *target.Record, error) {
	p, err := storedPointer.Read(ctx, s, key)
	if err != nil {
		return nil, nil, err
	}
	if p == nil {
		return nil, nil, errNoRecord
	}
	t, err := readState(ctx, s, p.Ref)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, errNoRecord
	}
	h, err := historyOf(ctx, s, t)
	if err != nil {
		return nil, nil, err
	}
	rec, _, err := h.version(ctx, p.Version)
	if err == nil && rec == nil {
		err = errNoRecord
	}
	return t, rec, err
}
