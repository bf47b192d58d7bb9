// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"testing"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

func TestMain(m *testing.M) { vaulttest.Main(m) }
