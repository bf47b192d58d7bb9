// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheServerIsWhatItsBinarySaysAndNotWhatItsFileIsCalled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  string
		product Product
		cli     string
		refused string
	}{
		"Vault":           {script: `echo "Vault v1.21.1 (2453aac2638a6ae2), built 2025-11-18T13:04:32Z"`, product: Product{Name: "Vault", Version: "v1.21.1"}, cli: "vault"},
		"OpenBao":         {script: `echo "OpenBao v2.6.2 (dd9c19c37a87), committed 2026-08-18"`, product: Product{Name: "OpenBao", Version: "v2.6.2", openBao: true}, cli: "bao"},
		"with a warning":  {script: `echo "WARNING: no home"; echo "OpenBao v2.6.2+own, committed"`, product: Product{Name: "OpenBao", Version: "v2.6.2+own", openBao: true}, cli: "bao"},
		"another program": {script: `echo "Bao cookbook v1.0"`, refused: "neither Vault nor OpenBao"},
		"one that fails":  {script: "exit 1", refused: "for its version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "server")
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n[ \"$1\" = version ] || exit 2\n"+c.script+"\n"), 0o700))
			got, err := productAt(path)
			if c.refused != "" {
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			c.product.Path = path
			require.Equal(t, c.product, *got)
			require.Equal(t, c.cli, got.CLI())
			require.Equal(t, c.cli+" read x\nok=$("+c.cli+" list y) &&\n  "+c.cli+" kv get z # https://vault.example c1/vault",
				got.Commands("vault read x\nok=$(vault list y) &&\n  vault kv get z # https://vault.example c1/vault"))
		})
	}
}
