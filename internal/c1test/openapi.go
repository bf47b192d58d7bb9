// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	_ "embed"
	"slices"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the OpenAPI 3.1 description of the API that the emulator
// serves, in YAML: the contract between it and the client.
func OpenAPI() []byte { return slices.Clone(openAPI) }
