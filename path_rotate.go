// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathRotate(k target.Kind) *framework.Path {
	bindings, _ := pathsOf(k)
	fields := map[string]*framework.FieldSchema{
		"version":            {Type: framework.TypeInt, Required: true, Description: "Version that the rotation made."},
		"fingerprint_sha256": {Type: framework.TypeString, Required: true, Description: "Hex SHA-256 of the new secret; empty when there is none."},
		"last_rotation":      {Type: framework.TypeString, Required: true, Description: "Time of the rotation, RFC 3339."},
		"next_rotation":      {Type: framework.TypeString, Required: true, Description: "Time of the next rotation, RFC 3339; empty when only callers rotate."},
		"shared":             {Type: framework.TypeBool, Required: true, Description: "Whether somebody else had begun the rotation."},
	}
	if k == target.Connector {
		fields["credential_id"] = &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: "C1's ID for the new credential."}
	}
	return &framework.Path{
		Pattern:      bindings + "/" + anyName + "/rotate$",
		DisplayAttrs: display("rotate", string(k)),
		Fields: map[string]*framework.FieldSchema{
			"name":      nameField(),
			"placement": placementField(),
		},
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:   "Rotate a scheduled " + string(k) + " now, without seeing the material.",
			Callback:  handleFor(k, (*backend).rotateUnseen),
			Responses: answer("What was rotated, without the material.", fields),
		})),
		HelpSynopsis: "Rotate a scheduled binding now, without seeing the material.",
		HelpDescription: `
IRREVERSIBLE, for operators: rotates a binding with rotate_on=schedule at C1 and
stores the new material for its readers. The next scheduled rotation moves, and
the answer says to when. Callers that ask while the target is being rotated
share that rotation.
`,
	}
}

func (b *backend) rotateUnseen(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	asked, err := askedOf(req, d, target.ReasonRotate)
	if err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	bind, err := b.bindingToVend(ctx, k, name, target.ReasonRotate)
	if err != nil {
		return nil, err
	}
	r, err := b.rotateKept(ctx, bind.Ref, name, asked)
	if err != nil {
		return nil, err
	}
	cur := r.t.Current
	resp := &logical.Response{Data: map[string]any{
		"version":            r.t.Version,
		"fingerprint_sha256": cur.Fingerprint,
		"last_rotation":      rfc3339(cur.RotatedAt),
		"next_rotation":      rfc3339(r.t.RotationAt()),
		"shared":             r.shared,
	}}
	if k == target.Connector {
		resp.Data["credential_id"] = cur.CredentialID
	}
	r.explain(resp)
	if pause := r.t.Problems()[target.AttentionPaused]; pause != "" {
		resp.AddWarning("paused: " + pause)
	}
	return resp, nil
}
