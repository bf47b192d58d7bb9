// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"github.com/hashicorp/vault/sdk/framework"
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
