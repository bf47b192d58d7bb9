// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathDecoy() *framework.Path {
	const leaseEnd = "What the end of a lease does to the vended copy: `keep` it as bait (default) or `rotate` the decoy, so that the copy goes dead."
	return pathBinding(target.Decoy, decoyTargetFields(), leaseEnd, &framework.Path{
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "decoy", ItemType: "Decoy",
		},
		HelpSynopsis:    "Bind a name to a decoy (honey-credential) at C1.",
		HelpDescription: decoyHelp,
	})
}

func decoyTargetFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"decoy_id":     {Type: framework.TypeString, Required: true, Description: "C1's ID for the decoy. Fixed for the binding's life."},
		"check_period": {Type: framework.TypeDurationSecond, Description: "How often the engine asks C1 whether the decoy was used, disabled, deleted or rotated without this mount, 1m to a year. Default, and 0: the mount's drift_check_period."},
		"annotate":     {Type: framework.TypeBool, Description: "Write the placement of each vend to the decoy's annotations at C1, so that the finding itself says where the copy was. Default: no."},
	}
}

const decoyHelp = `
Each binding points at one decoy, named by C1's decoy_id, and says when it
rotates: rotate_on=read, write or schedule.

Rotating a decoy makes the copies planted earlier stale, so plant from a pipeline
that owns the binding, and write placement=... with each vend: the record keeps
it, and lookup finds it by the fingerprint that a finding names.
Never give a token for this mount to the host that holds the bait.

Decoys are in early access at C1 and need the Super Administrator role; without
them C1 answers 403 or 404.
`
