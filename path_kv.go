// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Reads through the KV API carry no forwarding flag: any node can answer them.

func pathKVData(k target.Kind) *framework.Path {
	_, creds := pathsOf(k)
	return &framework.Path{
		Pattern:      kvData + creds + "/" + anyName + "$",
		DisplayAttrs: display("", "kv-"+string(k)+"-secret"),
		Fields: map[string]*framework.FieldSchema{
			"name":    nameField(),
			"version": {Type: framework.TypeInt, Query: true, Description: "The version to read. Only the current one is kept. Default, and 0: the current one."},
		},
		Operations: only(logical.ReadOperation, &framework.PathOperation{
			Summary:  "Read a scheduled " + string(k) + "'s stored material in the form of KV version 2. Rotates nothing.",
			Callback: handleFor(k, (*backend).readKVData),
			Responses: answer("The stored material, which no lease ends.", map[string]*framework.FieldSchema{
				"data":     {Type: framework.TypeMap, Required: true, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true}, Description: "The material's fields that are text, or those that the binding's keys name."},
				"metadata": {Type: framework.TypeMap, Required: true, Description: "created_time, custom_metadata (the binding's metadata), deletion_time, destroyed and version."},
			}),
		}),
		HelpSynopsis:    "Read a scheduled " + string(k) + "'s stored material through the KV API, version 2.",
		HelpDescription: kvHelp,
	}
}

func (b *backend) readKVData(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	return b.readKV(ctx, req, d, k, func(bind *binding, t *target.State) (*logical.Response, error) {
		if v := d.Get("version").(int); v > 0 && v != t.Version {
			return nil, nil // as KV answers for a version that is not there
		}
		b.hurryIfPlannedTooFar(bind, t)
		return kvSecret(bind, t)
	})
}

func pathKVMetadata(k target.Kind) *framework.Path {
	_, creds := pathsOf(k)
	return &framework.Path{
		Pattern:      kvMetadata + creds + "/" + anyName + "$",
		DisplayAttrs: display("", "kv-"+string(k)+"-metadata"),
		Fields:       map[string]*framework.FieldSchema{"name": nameField()},
		Operations: only(logical.ReadOperation, &framework.PathOperation{
			Summary:   "Read the KV version 2 metadata of a scheduled " + string(k) + ". No secret.",
			Responses: answer("The one version that is kept.", kvMetadataFields()),
			Callback:  handleFor(k, (*backend).readKVMetadata),
		}),
		HelpSynopsis:    "Read a scheduled " + string(k) + "'s metadata through the KV API, version 2.",
		HelpDescription: kvHelp,
	}
}

func (b *backend) readKVMetadata(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	return b.readKV(ctx, req, d, k, func(bind *binding, t *target.State) (*logical.Response, error) {
		return kvSecretMetadata(bind, t), nil
	})
}

func kvMetadataFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"current_version":      {Type: framework.TypeInt, Required: true, Description: "Version of the last rotation."},
		"oldest_version":       {Type: framework.TypeInt, Required: true, Description: "The same: only the current version is kept."},
		"max_versions":         {Type: framework.TypeInt, Required: true, Description: "1."},
		"created_time":         {Type: framework.TypeString, Required: true, Description: "Time of the last rotation, RFC 3339."},
		"updated_time":         {Type: framework.TypeString, Required: true, Description: "The same."},
		"versions":             {Type: framework.TypeMap, Required: true, Description: "The current version: created_time, deletion_time (empty) and destroyed (false)."},
		"custom_metadata":      {Type: framework.TypeMap, Required: true, Description: "The binding's metadata; null when it has none."},
		"cas_required":         {Type: framework.TypeBool, Required: true, Description: "false."},
		"delete_version_after": {Type: framework.TypeString, Required: true, Description: "0s."},
	}
}

func pathKVList(k target.Kind) *framework.Path {
	_, creds := pathsOf(k)
	return &framework.Path{
		Pattern:      kvMetadata + creds + "/?$",
		DisplayAttrs: display("", "kv-"+string(k)+"-secrets"),
		Fields:       pageFields(),
		Operations: lists("List the "+string(k)+" bindings that the KV API shows: those with rotate_on=schedule.",
			"Names of scheduled bindings.", handleFor(k, (*backend).listKV)),
		HelpSynopsis:    "List the " + string(k) + " bindings that the KV API shows.",
		HelpDescription: "Returns the names of those with rotate_on=schedule, in order. `after` and `limit` page through long lists.",
	}
}

func pathKVFolders() *framework.Path {
	return &framework.Path{
		Pattern:      kvMetadata + "?$",
		DisplayAttrs: display("", "kv-folders"),
		Operations: lists("List the folders that the KV API shows.", "connector-creds/ and decoy-creds/.",
			handle(func(*backend, context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
				return logical.ListResponse([]string{"connector-creds/", "decoy-creds/"}), nil
			})),
		HelpSynopsis:    "List the folders that the KV API shows.",
		HelpDescription: kvHelp,
	}
}

// readKV answers a read of a scheduled binding that has material. It takes no lock,
// writes nothing and never asks C1. A binding that is not there is answered as KV does.
func (b *backend) readKV(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind,
	answer func(*binding, *target.State) (*logical.Response, error),
) (*logical.Response, error) {
	bind, t, err := b.scheduledMaterial(ctx, k, d.Get("name").(string))
	switch {
	case !b.WriteSafeReplicationState() && (err != nil || bind == nil || bind.wraps(req)):
		return nil, logical.ErrReadOnly // bare: Vault and OpenBao then forward it
	case err != nil || bind == nil:
		return nil, err
	default:
		return answer(bind, t)
	}
}

// scheduledMaterial reads a binding and the state that holds its material, or refuses
// what the KV API cannot show. The binding is nil if there is none.
func (b *backend) scheduledMaterial(ctx context.Context, k target.Kind, name string) (*binding, *target.State, error) {
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return nil, nil, err
	}
	if !bind.scheduled() {
		bindings, creds := pathsOf(k)
		return nil, nil, refuse("%s/%s has rotate_on=%s, so there is nothing stored to show, and a read through the KV API never rotates: bind it with rotate_on=schedule, or use %s/%s",
			bindings, name, bind.RotateOn, creds, name)
	}
	t, err := b.storedMaterial(ctx, bind, name)
	return bind, t, err
}

// listKV lists the scheduled bindings. One that cannot be read is left out, so that it
// does not hide the others; status tells of it.
func (b *backend) listKV(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	limit := 0
	if err := setInt(d, "limit", &limit, 1, longestPage); err != nil {
		return nil, err
	}
	names, err := bindingNames(ctx, b.store, k)
	if err != nil {
		return nil, err
	}
	var scheduled []string
	for _, name := range page(names, d.Get("after").(string), 0) {
		bind, err := readBinding(ctx, b.store, k, name)
		if err != nil && !store.Unreadable(err) {
			return nil, err
		}
		if bind != nil && bind.scheduled() {
			scheduled = append(scheduled, name)
		}
		if len(scheduled) == limit && limit > 0 {
			break
		}
	}
	return logical.ListResponse(scheduled), nil
}

const kvHelp = `
Clients that know only Vault's KV API, version 2, can read what is bound with
rotate_on=schedule: data/connector-creds/:name, data/decoy-creds/:name, and
metadata/ next to them. (They can also read connector-creds/:name as KV version 1.)

A read here never rotates, has no lease, and answers the same until the next
rotation. The binding's keys or keys_preset say under which names the fields are
shown. Only the current version is kept. Every write is refused: rotate with
connectors/:name/rotate or decoys/:name/rotate.

A policy for data/connector-creds/:name allows nothing else, and a policy for
connector-creds/:name does not allow this path.
`
