// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"
)

// deleteBinding removes a binding and the material that Vault stores for it.
// Credentials that were vended stay as they are, unless the caller wants them
// ended. The target's records stay: they answer whose copy it was.
func (b *backend) deleteBinding(ctx context.Context, s logical.Storage, k kind, name string, revoke bool) (*logical.Response, error) {
	unlock, err := b.lockBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bind, err := readBinding(ctx, s, k, name)
	if err != nil || bind == nil {
		return nil, err
	}
	t, err := b.releaseTarget(ctx, bind, name, revoke)
	if err != nil || t == nil {
		return nil, err
	}
	if revoke {
		if err := b.endTarget(ctx, bind.Ref); err != nil {
			b.Logger().Warn("could not end what a deleted binding leaves alive; it is tried again", "target", t.Ref.String(), "error", err)
		}
		if t, err = readTarget(ctx, b.storage, bind.Ref); err != nil || t == nil {
			return nil, err
		}
	}
	resp := &logical.Response{}
	for _, warning := range t.leftovers(revoke) {
		resp.AddWarning(warning)
	}
	if len(resp.Warnings) == 0 {
		return nil, nil
	}
	return resp, nil
}

// releaseTarget deletes the binding and takes it from its target, which it
// returns, or nil when there is no state.
func (b *backend) releaseTarget(ctx context.Context, bind *binding, name string, revoke bool) (*target, error) {
	unlock, err := b.lockTarget(ctx, bind.Ref)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t, err := readTarget(ctx, b.storage, bind.Ref)
	if err != nil {
		return nil, err
	}
	if err := b.storage.Delete(ctx, bindingKey(bind.Ref.Kind, name)); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, nil
	}
	t.Binding = ""
	t.unschedule()
	if revoke && t.currentAlive() && t.retirementOf(t.Version) < 0 {
		t.Retire = append(t.Retire, retirement{Version: t.Version, CredentialID: t.Current.CredentialID, At: b.now()})
	}
	return t, b.storeWithNextLook(ctx, t)
}

// currentAlive reports whether the newest credential is alive at C1 as far as
// is known.
func (t *target) currentAlive() bool {
	if t.Current == nil {
		return false
	}
	rec := t.recordOf(t.Version)
	return rec == nil || rec.EndedAt.IsZero()
}

// leftovers says what a deleted binding leaves alive at C1.
func (t *target) leftovers(revoked bool) []string {
	var left []string
	switch n := len(t.Retire); {
	case n > 0 && revoked:
		left = append(left, fmt.Sprintf("%d credential(s) of %s could not be ended yet: it is tried again, see status", n, t.Ref))
	case n > 0:
		left = append(left, fmt.Sprintf("%d vended credential(s) of %s stay alive until their planned end; `vault lease revoke -prefix` ends those with leases now", n, t.Ref))
	}
	if !revoked && t.currentAlive() && t.retirementOf(t.Version) < 0 {
		what := fmt.Sprintf("version %d of %s", t.Version, t.Ref)
		if id := t.Current.CredentialID; id != "" {
			what += " (credential " + id + ")"
		}
		left = append(left, what+" stays at C1 as it is; deleting with revoke=true ends it")
	}
	if t.Attempt != nil {
		left = append(left, fmt.Sprintf("a rotation of %s has no known outcome: C1 may hold a credential that nobody knows of", t.Ref))
	}
	return left
}
