// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// vend hands a binding's material out: what is stored, or what it rotates for
// this caller.
func (b *backend) vend(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind, reason string) (*logical.Response, error) {
	asked, err := askedOf(req, d, reason)
	if err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	writable := b.WriteSafeReplicationState()
	bind, err := b.bindingToVend(ctx, k, name, reason)
	plainRead := err == nil && bind.scheduled() && reason == target.ReasonRead
	switch {
	case plainRead && writable:
		return b.vendStored(ctx, bind, name)
	case !writable:
		if plainRead && !bind.wraps(req) {
			// What fails here may be there on the active node: stored a moment ago, or by
			// a newer version of the plugin than this node runs.
			if resp, err := b.vendStored(ctx, bind, name); err == nil {
				return resp, nil
			}
		}
		return nil, logical.ErrReadOnly // bare: Vault and OpenBao then forward it
	case err != nil:
		return nil, err
	case bind.scheduled():
		r, err := b.rotateKept(ctx, bind.Ref, name, asked)
		if err != nil {
			return nil, err
		}
		resp := storedResponse(r.bind, r.t, b.now())
		r.explain(resp)
		return resp, nil
	default:
		return b.vendLeased(ctx, k, name, bind.Ref, asked)
	}
}

// vendLeased rotates a binding's target for one owner and hands the new
// material out with a lease.
func (b *backend) vendLeased(ctx context.Context, k target.Kind, name string, ref target.Ref, asked target.Origin) (*logical.Response, error) {
	t, err := b.takeTurn(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer t.release()
	// The binding may have changed while this caller waited for its turn.
	bind, err := b.bindingToVend(ctx, k, name, asked.Reason)
	if err != nil {
		return nil, err
	}
	if bind.Ref != ref || bind.scheduled() {
		return nil, refuse("the binding %s changed in the meantime: try again", name)
	}
	s, err := b.session(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.claimedBy(s, name); err != nil {
		return nil, err
	}
	if !b.work.Enter() {
		return nil, errStopping()
	}
	defer b.work.Leave()
	m, err := t.rotate(ctx, &order{session: s, origin: asked, bind: bind, cooldown: bind.Cooldown, outcome: target.OutcomeIssued})
	if err != nil {
		return nil, err
	}
	return b.vended(bind, t.state, m, m.lease.capped(b.now(), m.ExpiresAt))
}

// bindingToVend reads the binding and refuses what its rotate_on does not allow.
func (b *backend) bindingToVend(ctx context.Context, k target.Kind, name, reason string) (*binding, error) {
	bind, err := b.existingBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	bindings, creds := pathsOf(k)
	switch {
	case reason == target.ReasonRead && bind.RotateOn == rotateOnWrite:
		return nil, refuse("%s/%s has rotate_on=write, so a read changes and returns nothing: write %s/%s to rotate", bindings, name, creds, name)
	case reason == target.ReasonRotate && !bind.scheduled():
		return nil, refuse("%s/%s has rotate_on=%s, so whoever rotates it owns the new credential: write %s/%s", bindings, name, bind.RotateOn, creds, name)
	default:
		return bind, nil
	}
}

// vended answers with the material and its lease.
func (b *backend) vended(bind *binding, t *target.State, m *material, times leaseTimes) (*logical.Response, error) {
	l := &lease{
		Ref: t.Ref, Tenant: t.Tenant, Version: t.Version, CredentialID: m.CredentialID, OnLeaseEnd: bind.OnLeaseEnd,
		TTL: seconds(times.ttl), MaxTTL: seconds(times.maxTTL), ExpiresAt: b.now().Add(times.ttl),
	}
	internal, err := l.internalData()
	if err != nil {
		return nil, err
	}
	data := maps.Clone(m.Data)
	data["version"] = t.Version
	resp := b.Secret(secretTypes[t.Ref.Kind]).Response(data, internal)
	resp.Secret.TTL, resp.Secret.MaxTTL = times.ttl, times.maxTTL
	resp.Warnings = slices.Concat(times.warnings, m.Warnings)
	resp.WrapInfo = bind.wrapInfo()
	return resp, nil
}
