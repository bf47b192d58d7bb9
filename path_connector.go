// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

var connectorLeaseEnds = []string{leaseEndRevoke, leaseEndKeep}

func connectorTargetFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"app_id":       {Type: framework.TypeString, Required: true, Description: "C1's ID of the app that the connector belongs to. Fixed for the binding's life."},
		"connector_id": {Type: framework.TypeString, Required: true, Description: "C1's ID of the connector. Fixed for the binding's life."},
	}
}

func (b *backend) pathsConnectors() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: "connectors/" + anyName + "$",
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationSuffix: "connector", ItemType: "Connector",
			},
			Fields: bindingFields(connectorTargetFields(),
				"What the end of a lease does to the credential: `revoke` it at C1 (default) or `keep` it."),
			ExistenceCheck:  b.bindingExists(kindConnector),
			Operations:      b.bindingOperations(kindConnector, connectorTargetFields(), connectorLeaseEnds),
			HelpSynopsis:    "Bind a name to a connector at C1.",
			HelpDescription: connectorHelp,
		},
		b.pathListBindings(kindConnector),
	}
}

// bindingOperations are the same for both kinds.
func (b *backend) bindingOperations(k kind, targetFields map[string]*framework.FieldSchema, leaseEnds []string) map[logical.Operation]framework.OperationHandler {
	write := b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		return b.writeBinding(ctx, req, d, k, leaseEnds)
	})
	written := map[int][]framework.Response{
		http.StatusOK:        {{Description: "Stored, with warnings."}},
		http.StatusNoContent: {{Description: "Stored."}},
	}
	return map[logical.Operation]framework.OperationHandler{
		logical.ReadOperation: &framework.PathOperation{
			Summary:   "Read a " + string(k) + " binding and its state. Rotates nothing.",
			Responses: bindingResponse(targetFields),
			Callback: b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				data, bind, err := b.describeBinding(ctx, req.Storage, k, d.Get("name").(string))
				if err != nil || bind == nil {
					return nil, err
				}
				for field, id := range map[string]string{"app_id": bind.Ref.AppID, "connector_id": bind.Ref.ConnectorID, "decoy_id": bind.Ref.DecoyID} {
					if targetFields[field] != nil {
						data[field] = id
					}
				}
				return &logical.Response{Data: data}, nil
			}),
		},
		logical.CreateOperation: &framework.PathOperation{
			Summary: "Bind a name to a " + string(k) + ". Rotates nothing.", Callback: write, Responses: written,
			ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
		},
		logical.UpdateOperation: &framework.PathOperation{
			Summary: "Change a " + string(k) + " binding; fields not given stay. Rotates nothing.", Callback: write, Responses: written,
			ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
		},
		logical.DeleteOperation: &framework.PathOperation{
			Summary:   "Delete a " + string(k) + " binding. Ends nothing at C1; leases stay revocable.",
			Responses: map[int][]framework.Response{http.StatusOK: {{Description: "Deleted, with what stays alive as a warning."}}, http.StatusNoContent: {{Description: "Deleted."}}},
			Callback: b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.deleteBinding(ctx, req.Storage, k, d.Get("name").(string))
			}),
			ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
		},
	}
}

// pathListBindings lists the names of a kind's bindings.
func (b *backend) pathListBindings(k kind) *framework.Path {
	bindings, _ := k.paths()
	return &framework.Path{
		Pattern: bindings + "/?$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: bindings, Navigation: true,
		},
		Fields: map[string]*framework.FieldSchema{
			"after": {Type: framework.TypeString, Query: true, Description: "List the names after this one."},
			"limit": {Type: framework.TypeInt, Query: true, Description: "List at most this many names. Default: all."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: &framework.PathOperation{
				Summary: "List the " + string(k) + " bindings.",
				Responses: map[int][]framework.Response{http.StatusOK: {{
					Description: "The names, sorted.",
					Fields:      map[string]*framework.FieldSchema{"keys": {Type: framework.TypeStringSlice, Description: "Names of bindings."}},
				}}},
				Callback: b.handle(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
					return listBindings(ctx, req.Storage, k, d)
				}),
			},
		},
		HelpSynopsis:    "List the " + string(k) + " bindings.",
		HelpDescription: "Returns names in order. `after` and `limit` page through long lists.",
	}
}

func listBindings(ctx context.Context, s logical.Storage, k kind, d *framework.FieldData) (*logical.Response, error) {
	limit := 0
	if err := setInt(d, "limit", &limit, 1, 1_000_000); err != nil {
		return nil, err
	}
	names, err := s.List(ctx, bindingKey(k, ""))
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(page(names, d.Get("after").(string), limit)), nil
}

const connectorHelp = `
Each binding points at one connector, named by C1's app_id and connector_id,
and says when it rotates: rotate_on=read or rotate_on=write.

With rotate_on=read EVERY read of connector-creds/:name rotates the connector's
credential. Clients that read twice (the External Secrets Operator, Terraform
on each plan) rotate twice: give such a binding one owner, or use
rotate_on=write.

Writing a binding looks the connector up at C1 and rotates nothing. One target
has at most one binding in a mount. Deleting a binding ends nothing at C1:
leases stay revocable, and records stay for lookup.
`
