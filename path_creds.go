// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
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
func credsOperations(k target.Kind, fields map[string]*framework.FieldSchema) map[logical.Operation]framework.OperationHandler {
	fields = maps.Clone(fields)
	maps.Copy(fields, storedFields())
	vended := map[int][]framework.Response{http.StatusOK: {{Description: "The material: new and shown this once, with a lease, or what Vault stores (rotate_on=schedule).", Fields: fields}}}
	return map[logical.Operation]framework.OperationHandler{
		logical.ReadOperation: &framework.PathOperation{
			Summary:   "Vend the " + string(k) + "'s material: what is stored (rotate_on=schedule), or new (rotate_on=read).",
			Responses: vended,
			Callback: handle(func(b *backend, ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.vend(ctx, req, d, k, target.ReasonRead)
			}),
		},
		logical.UpdateOperation: &framework.PathOperation{
			Summary:      "Rotate the " + string(k) + " and vend the new material.",
			Responses:    vended,
			DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "rotate"},
			Callback: handle(func(b *backend, ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.vend(ctx, req, d, k, target.ReasonWrite)
			}),
			ForwardPerformanceStandby:   true,
			ForwardPerformanceSecondary: true,
		},
	}
}
