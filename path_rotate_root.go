// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathRotateRoot() *framework.Path {
	return &framework.Path{
		Pattern:      "config/rotate-root$",
		DisplayAttrs: display("rotate", "root-credential"),
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:  "Replace the mount's own credential at C1. Its secret is shown to nobody.",
			Callback: handle((*backend).rotateRoot),
			Responses: answer("Replaced: the new credential is stored and in use.", map[string]*framework.FieldSchema{
				"version":          {Type: framework.TypeInt, Required: true, Description: "How many credentials this mount has had."},
				"client_id":        {Type: framework.TypeString, Required: true, Description: "Client ID of the new credential."},
				"credential_id":    {Type: framework.TypeString, Required: true, Description: "C1's ID for the new credential."},
				"expires_at":       {Type: framework.TypeString, Required: true, Description: "When it expires at C1, RFC 3339; empty if it does not."},
				"next_rotation":    {Type: framework.TypeString, Required: true, Description: "When the engine next replaces it, RFC 3339; empty without root_rotation_period and root_rotation_schedule."},
				"previous_ends_at": {Type: framework.TypeString, Required: true, Description: "When the previous credential is ended at C1, RFC 3339; empty if it has ended."},
				"shared":           {Type: framework.TypeBool, Required: true, Description: "Whether somebody else had begun the rotation."},
			}),
		})),
		HelpSynopsis:    "Replace the mount's own credential at C1.",
		HelpDescription: rotateRootHelp,
	}
}

func (b *backend) rotateRoot(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	s, err := b.session(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.config.refuseUnlessOwn(); err != nil {
		return nil, err
	}
	asked := originOf(req)
	asked.Reason = target.ReasonRotate
	r, err := b.rotateKept(ctx, identityRef, identityName, asked)
	if err != nil {
		return nil, err
	}
	cur := r.t.Current
	resp := &logical.Response{Data: map[string]any{
		"version":          r.t.Version,
		"client_id":        cur.ClientID,
		"credential_id":    cur.CredentialID,
		"expires_at":       rfc3339(cur.ExpiresAt),
		"next_rotation":    rfc3339(r.t.RotationAt()),
		"previous_ends_at": "",
		"shared":           r.shared,
	}}
	if i := r.t.PlannedEnd(r.t.Version - 1); i >= 0 {
		resp.Data["previous_ends_at"] = rfc3339(r.t.Retire[i].At)
	}
	r.explain(resp)
	return resp, nil
}

const rotateRootHelp = `
C1 makes a new credential like the one in config: the same display name, scoped
roles, source CIDRs, DPoP flag and lifetime. The engine stores it once it has
logged in with it and has seen that it may do all that the previous one may. It
ends the previous one root_grace_period later. The credential in config works at
every moment.

For service principals' (/spc) and personal (/pcc) credentials that may list,
create and delete the credentials of their own principal or user. With
root_rotation_period or root_rotation_schedule in config the engine does this on a
schedule.
`
