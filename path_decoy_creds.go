// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathDecoyCreds() *framework.Path {
	return pathCreds(target.Decoy, decoyCredsFields(), &framework.Path{
		DisplayAttrs:    display("", "decoy-material"),
		HelpSynopsis:    "Vend a decoy's material: new bait, or what is stored.",
		HelpDescription: decoyCredsHelp,
	})
}

func decoyCredsFields() map[string]*framework.FieldSchema {
	sensitive := &framework.DisplayAttributes{Sensitive: true}
	return map[string]*framework.FieldSchema{
		"decoy_id":                     {Type: framework.TypeString, Required: true, Description: "C1's ID for the decoy."},
		"kind":                         {Type: framework.TypeString, Required: true, Description: "What the decoy pretends to be, in C1's words; empty when C1 does not say."},
		"display_name":                 {Type: framework.TypeString, Required: true, Description: "C1's display name of the decoy."},
		"annotations":                  {Type: framework.TypeKVPairs, Required: true, Description: "C1 copies them onto the finding that the decoy raises."},
		"material_type":                {Type: framework.TypeString, Required: true, Description: "client_credential, access_token or workload_federation: which of the fields below are there."},
		"client_id":                    {Type: framework.TypeString, Description: "With client_credential."},
		"client_secret":                {Type: framework.TypeString, DisplayAttrs: sensitive, Description: "With client_credential; shown this once."},
		"access_token":                 {Type: framework.TypeString, DisplayAttrs: sensitive, Description: "With access_token; shown this once."},
		"workload_federation_trust_id": {Type: framework.TypeString, Description: "With workload_federation; no secret."},
		"fingerprint_sha256":           {Type: framework.TypeString, Required: true, Description: "Hex SHA-256 of the secret, as C1's findings name it; empty with workload_federation."},
		"version":                      {Type: framework.TypeInt, Required: true, Description: "1, 2, 3… per target."},
	}
}

const decoyCredsHelp = `
IRREVERSIBLE: a write rotates the decoy at C1, and with rotate_on=read so does a
read. Copies planted earlier then no longer match the decoy. Write
placement=... to keep in the record where this copy goes. With rotate_on=schedule
Vault keeps the material: a read changes nothing and has no lease.

The end of the lease leaves the bait planted, unless the binding says
on_lease_end=rotate: then the vended copy goes dead, if it is still the current
one.
`
