// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package clients proves with the programs that people run what docs/clients.md says
// of them. Each client follows one scheduled binding while it is rotated, and hands
// the credential to a process that reads it once, as a baton-* connector does. It is a
// module of its own for the sake of what the clients depend on.
package clients
