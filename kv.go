// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// The folders of KV version 2 in which a path below them names a secret.
const (
	kvData     = "data/"
	kvMetadata = "metadata/"
)

// kvWrites are the folders of KV version 2 that take writes.
var kvWrites = []string{kvData, kvMetadata, "delete/", "undelete/", "destroy/"}

// refuseKVWrite refuses what KV clients do to change a secret. The fields are KV's,
// so this comes before they are checked, and the paths that only take writes are
// nowhere declared.
func refuseKVWrite(req *logical.Request) error {
	switch req.Operation {
	case logical.CreateOperation, logical.UpdateOperation, logical.PatchOperation, logical.DeleteOperation:
	default:
		return nil
	}
	for _, folder := range kvWrites {
		path, ok := strings.CutPrefix(req.Path, folder)
		if !ok {
			continue
		}
		creds, name, _ := strings.Cut(path, "/")
		if k, ok := kindOfCreds[creds]; ok && isName(name) {
			bindings, _ := pathsOf(k)
			return refuse("the KV API is read-only here, since the engine owns what it shows: rotate it with %s/%s/rotate, change or delete it with %s/%s",
				bindings, name, bindings, name)
		}
		return refuse("the KV API is read-only here, and shows what connectors/ and decoys/ bind with rotate_on=schedule")
	}
	return nil
}

// kvSecret answers as KV version 2 answers a read of the current version. Nothing of
// it changes before the next rotation, and it carries no warning: KV clients show
// none, and one of a decoy would say what it is.
func kvSecret(bind *binding, t *target.State) (*logical.Response, error) {
	data, err := bind.shown(t.Current.Material)
	if err != nil {
		return nil, err
	}
	metadata := kvVersion(t)
	metadata["version"], metadata["custom_metadata"] = t.Version, kvCustomMetadata(bind)
	return &logical.Response{Data: map[string]any{"data": data, "metadata": metadata}, WrapInfo: bind.wrapInfo()}, nil
}

// kvSecretMetadata answers as KV version 2 answers for a secret of which it keeps one
// version.
func kvSecretMetadata(bind *binding, t *target.State) *logical.Response {
	created := kvTime(t.Current.RotatedAt)
	return &logical.Response{Data: map[string]any{
		"current_version":      t.Version,
		"oldest_version":       t.Version,
		"max_versions":         1,
		"created_time":         created,
		"updated_time":         created,
		"versions":             map[string]any{strconv.Itoa(t.Version): kvVersion(t)},
		"custom_metadata":      kvCustomMetadata(bind),
		"cas_required":         false,
		"delete_version_after": "0s",
	}}
}

// kvVersion is what KV says of a version that is there.
func kvVersion(t *target.State) map[string]any {
	return map[string]any{"created_time": kvTime(t.Current.RotatedAt), "deletion_time": "", "destroyed": false}
}

// kvCustomMetadata is null where KV has none.
func kvCustomMetadata(bind *binding) any {
	if len(bind.Metadata) == 0 {
		return nil
	}
	return maps.Clone(bind.Metadata)
}

// kvTime prints a time as KV does.
func kvTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
