// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// deleteBinding removes a binding and the material that Vault stores for it.
// Credentials that were vended stay as they are, unless the caller wants them
// ended. The target's records stay: they answer whose copy it was.
func (b *backend) deleteBinding(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	name, revoke := d.Get("name").(string), d.Get("revoke").(bool)
	unlock, err := b.lockBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return nil, err
	}
	t, err := b.releaseTarget(ctx, bind, name, revoke)
	if err != nil || t == nil {
		return nil, err
	}
	if revoke {
		mine := func(r target.Retirement) bool { return r.Binding == name }
		if err := b.endTarget(ctx, bind.Ref, &settled{}, mine); err != nil {
			b.Logger().Warn("could not end what a deleted binding leaves alive; trying again", "target", t.Ref.String(), "error", err)
		}
		if t, err = readState(ctx, b.store, bind.Ref); err != nil || t == nil {
			return nil, err
		}
	}
	unplanned, err := b.unplannedEnds(ctx, t, name)
	if err != nil {
		b.Logger().Warn("could not read what a deleted binding leaves alive", "target", t.Ref.String(), "error", err)
	}
	left := leftovers(t, name, revoke, unplanned)
	for _, what := range left {
		// Terraform, for one, shows no warnings of a delete.
		b.Logger().Warn("a deleted binding leaves something at C1", "binding", name, "what", what)
	}
	return warned(left), nil
}

// releaseTarget deletes the binding and takes it from its target, which it
// returns, or nil when there is no state.
func (b *backend) releaseTarget(ctx context.Context, bind *binding, name string, revoke bool) (*target.State, error) {
	t, err := b.takeTurn(ctx, bind.Ref)
	if err != nil {
		return nil, err
	}
	defer t.release()
	var ends []target.Retirement
	if revoke && t.state != nil {
		if ends, err = b.unplannedEnds(ctx, t.state, name); err != nil {
			return nil, err
		}
	}
	if err := b.store.Remove(ctx, bindingKey(bind.Ref.Kind, name)); err != nil || t.state == nil {
		return nil, err
	}
	err = t.save(ctx, t.state.Released(b.now(), ends))
	return t.state, err
}

// unplannedEnds are retirements, without a time, for what a binding of this name
// vended that is alive at C1, as far as is known, and whose end nobody has planned;
// what an earlier binding vended is not the later one's to end. Of a decoy's copies
// only the current one is alive.
func (b *backend) unplannedEnds(ctx context.Context, t *target.State, name string) ([]target.Retirement, error) {
	h, err := historyOf(ctx, b.store, t)
	if err != nil {
		return nil, err
	}
	var ends []target.Retirement
	for rec, err := range h.all(ctx) {
		if err != nil {
			return nil, err
		}
		alive := rec.Version > 0 && rec.EndedAt.IsZero() && (rec.CredentialID != "" || rec.Version == t.Version)
		if alive && rec.Binding == name && t.PlannedEnd(rec.Version) < 0 {
			ends = append(ends, target.Retirement{Version: rec.Version, Binding: name, CredentialID: rec.CredentialID})
		}
	}
	slices.Reverse(ends)
	return ends, nil
}

// leftovers says what a deleted binding of this name leaves alive at C1.
func leftovers(t *target.State, name string, revoked bool, unplanned []target.Retirement) []string {
	var left []string
	planned := slices.DeleteFunc(slices.Clone(t.Retire), func(r target.Retirement) bool { return r.Binding != name })
	switch n := len(planned); {
	case n > 0 && revoked:
		left = append(left, fmt.Sprintf("%d credential(s) of %s could not be ended yet; the engine tries again, see status: %s", n, t.Ref, namesOf(planned)))
	case n > 0:
		left = append(left, fmt.Sprintf("%d vended credential(s) of %s stay alive until their planned end; `vault lease revoke -prefix` ends those with leases now", n, t.Ref))
	}
	if len(unplanned) > 0 {
		left = append(left, fmt.Sprintf("%d vended credential(s) of %s stay at C1 as they are: %s; to end them, bind the same name to it again and delete that binding with revoke=true (over HTTP in the query, ?revoke=true: Vault does not read the body of a DELETE)",
			len(unplanned), t.Ref, namesOf(unplanned)))
	}
	if t.Attempt != nil {
		left = append(left, fmt.Sprintf("a rotation of %s has no known outcome: C1 may hold a credential that nobody knows of", t.Ref))
	}
	return left
}

// namesOf lists credentials for a person, each with why it is still there.
func namesOf(list []target.Retirement) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = fmt.Sprintf("version %d", r.Version)
		if r.CredentialID != "" {
			names[i] += " (credential " + r.CredentialID + ")"
		}
		if r.LastError != "" {
			names[i] += ": " + r.LastError
		}
	}
	return strings.Join(names, ", ")
}
