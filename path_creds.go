// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// pathCreds completes the path of a kind's vends. The read carries no forwarding flag,
// since that of a scheduled binding changes nothing and any node can answer it: vend
// itself sends the others on from a standby.
func pathCreds(k target.Kind, answers map[string]*framework.FieldSchema, path *framework.Path) *framework.Path {
	_, creds := pathsOf(k)
	path.Pattern = creds + "/" + anyName + "$"
	path.Fields = map[string]*framework.FieldSchema{"name": nameField(), "placement": placementField()}
	maps.Copy(answers, storedFields())
	vended := answer("The material: new and shown this once, with a lease, or what Vault stores (rotate_on=schedule).", answers)
	path.Operations = map[logical.Operation]framework.OperationHandler{
		logical.ReadOperation: &framework.PathOperation{
			Summary:   "Vend the " + string(k) + "'s material: what is stored (rotate_on=schedule), or new (rotate_on=read).",
			Responses: vended,
			Callback:  handleFor(k, (*backend).vendByRead),
		},
		logical.UpdateOperation: forwarded(&framework.PathOperation{
			Summary:      "Rotate the " + string(k) + " and vend the new material.",
			Responses:    vended,
			DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "rotate"},
			Callback:     handleFor(k, (*backend).vendByWrite),
		}),
	}
	return path
}

func placementField() *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: "Where this copy goes, in your words; kept in the record. Only with a write."}
}

func (b *backend) vendByRead(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	return b.vend(ctx, req, d, k, target.ReasonRead)
}

func (b *backend) vendByWrite(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	return b.vend(ctx, req, d, k, target.ReasonWrite)
}

// secretCreds is the lease of what a kind's vend hands out.
func secretCreds(k target.Kind, fields map[string]*framework.FieldSchema) *framework.Secret {
	return &framework.Secret{
		Type:   secretTypes[k],
		Fields: fields,
		Renew:  inMount((*backend).renewLease),
		Revoke: inMount((*backend).revokeLease),
	}
}
