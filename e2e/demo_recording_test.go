// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireRecorded fails unless docs/demo.svg is the recording of what the demo printed.
func requireRecorded(t *testing.T, printed string) {
	t.Helper()
	recorded, err := os.ReadFile("../docs/demo.svg")
	require.NoError(t, err)
	var errs strings.Builder
	record := exec.CommandContext(t.Context(), "go", "run", "-C", "../tools/record", ".")
	record.Stdin, record.Stderr = strings.NewReader(printed), &errs
	drawn, err := record.Output()
	require.NoError(t, err, errs.String())
	require.Equal(t, string(recorded), string(drawn), "docs/demo.svg is not what the demo prints today: run make recording")
}
