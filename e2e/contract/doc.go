// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package contract holds the client (internal/c1api) and the emulator
// (internal/c1test) to one description of C1's API, internal/c1test/openapi.yaml:
// every request that the client sends and every answer that the emulator gives
// is validated against it. It has tests only.
package contract
