// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// credsFields are the inputs of a vend, of either kind.
func credsFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":      nameField(),
		"placement": placementField(),
	}
}

func placementField() *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: "Where this copy goes, in your words; kept in the record. Only with a write."}
}

// credsOperations are reading and writing a vend, of either kind. The read
// carries no forwarding flag, since that of a scheduled binding changes nothing
// and any node can answer it: vend itself sends the others on from a standby.
func (b *backend) credsOperations(k target.Kind, fields map[string]*framework.FieldSchema) map[logical.Operation]framework.OperationHandler {
	fields = maps.Clone(fields)
	maps.Copy(fields, storedFields())
	vended := map[int][]framework.Response{http.StatusOK: {{Description: "The material: new and shown this once, with a lease, or what Vault stores (rotate_on=schedule).", Fields: fields}}}
	return map[logical.Operation]framework.OperationHandler{
		logical.ReadOperation: &framework.PathOperation{
			Summary:   "Vend the " + string(k) + "'s material: what is stored (rotate_on=schedule), or new (rotate_on=read).",
			Responses: vended,
			Callback: b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.vend(ctx, req, d, k, target.ReasonRead)
			}),
		},
		logical.UpdateOperation: &framework.PathOperation{
			Summary:      "Rotate the " + string(k) + " and vend the new material.",
			Responses:    vended,
			DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "rotate"},
			Callback: b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.vend(ctx, req, d, k, target.ReasonWrite)
			}),
			ForwardPerformanceStandby:   true,
			ForwardPerformanceSecondary: true,
		},
	}
}

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
	wrapped := plainRead && (bind.WrapTTL > 0 || req.WrapInfo != nil) // makes a token, so it writes
	switch {
	case plainRead && (writable || !wrapped):
		return b.vendStored(ctx, bind, name)
	case !writable:
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

// askedOf checks who asks for what.
func askedOf(req *logical.Request, d *framework.FieldData, reason string) (target.Origin, error) {
	asked := originOf(req)
	asked.Reason, asked.Placement = reason, d.Get("placement").(string)
	if asked.Placement != "" && reason == target.ReasonRead {
		return asked, refuse("placement goes with a write, which keeps it in the record")
	}
	return asked, validLabel("placement", asked.Placement)
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
		return nil, refuse("%s was bound in another way in the meantime: try again", name)
	}
	s, err := b.session(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.claimedBy(s, name); err != nil {
		return nil, err
	}
	if !b.work.enter() {
		return nil, errStopping()
	}
	defer b.work.leave()
	m, err := t.rotate(ctx, &order{session: s, origin: asked, bind: bind, cooldown: bind.Cooldown, outcome: target.OutcomeIssued})
	if err != nil {
		return nil, err
	}
	return b.vended(bind, t.state, m, m.lease.capped(b.now(), m.ExpiresAt))
}

// claimedBy checks that a binding's target belongs to the configured tenant. One that
// was never rotated may have no state yet.
func (t *turn) claimedBy(s *session, name string) error {
	if t.state == nil {
		t.state = newState(t.ref).Claimed(name, s.config.tenant(), "")
	}
	if err := s.serves(t.state.Tenant); err != nil {
		return refuse("%s: %s; write the binding again", name, err)
	}
	return nil
}

func errStopping() error {
	return failWith(http.StatusBadGateway, "nothing was sent to C1: the plugin is stopping; try again")
}

// bindingToVend reads the binding and refuses what its rotate_on does not allow.
func (b *backend) bindingToVend(ctx context.Context, k target.Kind, name, reason string) (*binding, error) {
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil {
		return nil, err
	}
	bindings, creds := pathsOf(k)
	switch {
	case bind == nil:
		return nil, refuse("no %s is bound as %q: write %s/%s first", k, name, bindings, name)
	case reason == target.ReasonRead && bind.RotateOn == rotateOnWrite:
		return nil, refuse("%s/%s has rotate_on=write, so a read changes and returns nothing: write %s/%s to rotate", bindings, name, creds, name)
	case reason == target.ReasonRotate && !bind.scheduled():
		return nil, refuse("%s/%s has rotate_on=%s, so whoever rotates it owns the new credential: write %s/%s", bindings, name, bind.RotateOn, creds, name)
	default:
		return bind, nil
	}
}

// vended answers with the material and its lease.
func (b *backend) vended(bind *binding, t *target.State, m *material, l leaseTimes) (*logical.Response, error) {
	data := maps.Clone(m.Data)
	data["version"] = t.Version
	resp := &logical.Response{Data: data}
	for _, warning := range l.warnings {
		resp.AddWarning(warning)
	}
	for _, warning := range m.Warnings {
		resp.AddWarning(warning)
	}
	if bind.WrapTTL > 0 {
		resp.WrapInfo = &wrapping.ResponseWrapInfo{TTL: bind.WrapTTL}
	}
	secret := b.Secret(secretTypeConnectorCreds)
	if t.Ref.Kind == target.Decoy {
		secret = b.Secret(secretTypeDecoyCreds)
	}
	return attachLease(secret, resp, &lease{
		Ref: t.Ref, Tenant: t.Tenant, Version: t.Version, CredentialID: m.CredentialID, OnLeaseEnd: bind.OnLeaseEnd,
		TTL: seconds(l.ttl), MaxTTL: seconds(l.maxTTL), ExpiresAt: b.now().Add(l.ttl),
	}, l)
}
