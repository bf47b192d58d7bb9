// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathHistory(k target.Kind) *framework.Path {
	bindings, _ := pathsOf(k)
	return &framework.Path{
		Pattern:      bindings + "/" + anyName + "/history$",
		DisplayAttrs: display("", string(k)+"-history"),
		Fields: map[string]*framework.FieldSchema{
			"name":  nameField(),
			"limit": {Type: framework.TypeInt, Query: true, Description: "Return at most this many records. Default: all."},
		},
		Operations: only(logical.ReadOperation, &framework.PathOperation{
			Summary:  "Read the rotation records of a " + string(k) + " binding, newest first.",
			Callback: handleFor(k, (*backend).readHistory),
			Responses: answer("The records, newest first. `issued` means that the engine answered: nobody can know whether the answer arrived.", map[string]*framework.FieldSchema{
				"records": {Type: framework.TypeSlice, Required: true, Description: "One object per attempt to rotate: the fields of lookup's answer that concern the attempt."},
			}),
		}),
		HelpSynopsis: "Who rotated this binding's target, when, why and with which outcome.",
		HelpDescription: `
Newest first: at most history_limit records of what was handed out (see config),
and of attempts that handed out nothing the last ten, or half of history_limit if
that is more. What happened under a binding of another name is not shown, though
lookup finds it. If several attempts in a row fail in the same way, or their
callers hang up, one record counts them (repeats). Records never hold a secret;
the fingerprint is the SHA-256 that C1's findings name.
`,
	}
}

func (b *backend) readHistory(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	limit := 0
	if err := setInt(d, "limit", &limit, 1, longestPage); err != nil {
		return nil, err
	}
	name := d.Get("name").(string)
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return nil, err
	}
	t, err := readState(ctx, b.store, bind.Ref)
	if err != nil {
		return nil, err
	}
	records := []any{}
	if t != nil {
		h, err := historyOf(ctx, b.store, t)
		if err != nil {
			return nil, err
		}
		for rec, err := range h.all(ctx) {
			if err != nil {
				return nil, err
			}
			if rec.Binding == name {
				records = append(records, recordFields(t, rec))
			}
			if limit > 0 && len(records) == limit {
				break
			}
		}
	}
	return &logical.Response{Data: map[string]any{"records": records}}, nil
}
