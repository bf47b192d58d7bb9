// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// The index leads from what an incident starts with to the target and version
// that it belongs to, so that no lookup walks all targets. A decoy's ID needs no
// entry: the target is named by it.
const (
	fingerprintPrefix = "fingerprint/" // + 12 hex digits + / + the rest
	clientPrefix      = "client/"      // + SHA-256 of the client ID
	credentialPrefix  = "credential/"  // + SHA-256 of the credential ID

	// fingerprintFolder is how many hex digits of a fingerprint are enough to
	// look for: C1 shows a prefix where it found a secret published.
	fingerprintFolder = 12
)

// pointer is what an entry of the index holds.
type pointer struct {
	Ref     targetRef `json:"ref"`
	Version int       `json:"version"`
}

func fingerprintKey(fingerprint string) string {
	return fingerprintPrefix + fingerprint[:fingerprintFolder] + "/" + fingerprint[fingerprintFolder:]
}

func clientKey(clientID string) string { return clientPrefix + hexSHA256(clientID) }

func credentialKey(credentialID string) string { return credentialPrefix + hexSHA256(credentialID) }

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// indexKeys are the entries that lead to a record, the fingerprint's first.
func (r *record) indexKeys() []string {
	var keys []string
	if r.Fingerprint != "" {
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
func (b *backend) writeIndex(ctx context.Context, t *target, keys []string) error {
	writes := make([]func() error, len(keys))
	for i, key := range keys {
		writes[i] = func() error {
			entry, err := logical.StorageEntryJSON(key, pointer{Ref: t.Ref, Version: t.Version})
			if err != nil {
				return err
			}
			return b.storage.Put(ctx, entry)
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
	var missing []string
	for _, key := range rec.indexKeys() {
		entry, err := b.storage.Get(ctx, key)
		if err != nil {
			return err
		}
		if entry == nil {
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
			_ = b.storage.Delete(ctx, key)
		}
	}()
}

// errNoRecord: the index leads nowhere.
var errNoRecord = errors.New("no record")

// followIndex returns the target that an entry of the index leads to, and the
// version's record; errNoRecord when there is none.
func followIndex(ctx context.Context, s logical.Storage, key string) (*target, *record, error) {
	entry, err := s.Get(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if entry == nil {
		return nil, nil, errNoRecord
	}
	var p pointer
	if err := entry.DecodeJSON(&p); err != nil {
		return nil, nil, err
	}
	t, err := readTarget(ctx, s, p.Ref)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, errNoRecord
	}
	rec := t.recordOf(p.Version)
	if rec == nil || !slices.Contains(rec.indexKeys(), key) {
		return t, nil, errNoRecord
	}
	return t, rec, nil
}

// fingerprintKeys are the entries of all fingerprints that begin with a prefix of
// at least fingerprintFolder hex digits, sorted.
func fingerprintKeys(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	folder := fingerprintPrefix + prefix[:fingerprintFolder] + "/"
	rests, err := s.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, rest := range rests {
		if strings.HasPrefix(rest, prefix[fingerprintFolder:]) {
			keys = append(keys, folder+rest)
		}
	}
	slices.Sort(keys)
	return keys, nil
}
