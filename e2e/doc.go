// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package e2e proves the engine's promises on real Vault servers, with the
// plugin as a process of its own and an emulated C1. It has tests only; package
// vaulttest holds what they share.
//
// Each test searches all that it caused to be written or printed for secrets.
package e2e
