// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package monitoring proves what examples/monitoring says, with Prometheus' own
// configuration, parser, rules and query engine, on figures of a real Vault. It is a
// module of its own for the sake of what Prometheus depends on.
package monitoring
