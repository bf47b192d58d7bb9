// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathConnectorCreds() *framework.Path {
	return pathCreds(target.Connector, connectorCredsFields(), &framework.Path{
		DisplayAttrs:    display("", "connector-credential"),
		HelpSynopsis:    "Vend a connector's credential: a new one, or what is stored.",
		HelpDescription: connectorCredsHelp,
	})
}

func connectorCredsFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"app_id":             {Type: framework.TypeString, Required: true, Description: "C1's ID for the app."},
		"connector_id":       {Type: framework.TypeString, Required: true, Description: "C1's ID for the connector."},
		"credential_id":      {Type: framework.TypeString, Required: true, Description: "C1's ID for the credential."},
		"client_id":          {Type: framework.TypeString, Required: true, Description: "Client ID to log in to C1 with."},
		"client_secret":      {Type: framework.TypeString, Required: true, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true}, Description: "Its secret, shown this once."},
		"display_name":       {Type: framework.TypeString, Required: true, Description: "C1's display name of the credential."},
		"created_at":         {Type: framework.TypeString, Required: true, Description: "RFC 3339; empty when C1 does not say."},
		"expires_at":         {Type: framework.TypeString, Required: true, Description: "RFC 3339; empty when C1 sets no end."},
		"fingerprint_sha256": {Type: framework.TypeString, Required: true, Description: "Hex SHA-256 of client_secret."},
		"version":            {Type: framework.TypeInt, Required: true, Description: "1, 2, 3… per target."},
	}
}

const connectorCredsHelp = `
IRREVERSIBLE: a write rotates the connector's credential at C1, and with
rotate_on=read so does a read. The previous credential may be dead at once.

The new credential is shown once and leased; when the lease ends, exactly this
credential is revoked at C1, unless the binding says on_lease_end=keep. With
rotate_on=schedule Vault keeps it instead: a read changes nothing, has no lease,
and says in ttl when to read again.

If C1's answer is lost, the call ends with "outcome unknown" and the binding is
ambiguous. Rotating again settles it; with rotate_on=schedule the engine does so
by itself.
`
