// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package vaulttest runs real Vault servers for tests: it starts the pinned
// server with a freshly built plugin, mounts the engine against an emulated C1,
// kills and restarts what a test wants dead, and finally searches all that was
// written or printed for secrets.
//
// With the race detector on, the plugin is built with it too, and a race that it
// reports fails the test.
//
// It needs Linux, since it finds processes under /proc.
package vaulttest
