// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package proof breaks one rule that only this project's .golangci.yml knows:
// `make lint` fails unless golangci-lint reports it.
package proof

import "time"

// Wait sleeps, which the project forbids.
func Wait() { time.Sleep(time.Second) }
