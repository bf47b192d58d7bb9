// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathConnector() *framework.Path {
	const leaseEnd = "What the end of a lease does to the credential: `revoke` it at C1 (default) or `keep` it."
	return pathBinding(target.Connector, connectorTargetFields(), leaseEnd, &framework.Path{
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "connector", ItemType: "Connector",
		},
		HelpSynopsis:    "Bind a name to a connector at C1.",
		HelpDescription: connectorHelp,
	})
}

func connectorTargetFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"app_id":       {Type: framework.TypeString, Required: true, Description: "C1's ID for the app that the connector belongs to. Fixed for the binding's life."},
		"connector_id": {Type: framework.TypeString, Required: true, Description: "C1's ID for the connector. Fixed for the binding's life."},
		"grace_period": {Type: framework.TypeDurationSecond, Description: "With schedule: revoke the previous credential this long after a rotation, in seconds. Default, and 0: C1 decides what becomes of it."},
	}
}

const connectorHelp = `
Each binding points at one connector, named by C1's app_id and connector_id,
and says what rotates it: rotate_on=read, write or schedule.

With rotate_on=read EVERY read of connector-creds/:name rotates the connector's
credential. Clients that read twice (the External Secrets Operator, Terraform
on each plan) rotate twice: give such a binding one owner, or use
rotate_on=schedule, with which Vault keeps the credential, any number of
readers get the same one, and rotation_period or rotation_schedule replaces it.

Writing a binding looks the connector up at C1. It rotates nothing, except
when the binding becomes scheduled (unless skip_initial_rotation=true). A target
has at most one binding in a mount. Deleting a binding ends nothing at
C1 unless revoke=true: leases stay revocable, and records stay for lookup.
`
