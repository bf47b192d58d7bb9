// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMermaidReadsTheDiagramsOfTheDocs: what shows the pages draws them by Mermaid, and
// shows an error in a diagram's place if it cannot.
func TestMermaidReadsTheDiagramsOfTheDocs(t *testing.T) {
	t.Parallel()
	requireNode(t)
	dir, err := installPackages(filepath.Join("..", "..", "tools", "mermaid"))
	require.NoError(t, err)
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	diagrams := 0
	args := []string{"parse.mjs"}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		diagrams += strings.Count(string(text), "\n```mermaid\n")
		absolute, err := filepath.Abs(page)
		require.NoError(t, err)
		args = append(args, absolute)
	}
	node := exec.CommandContext(t.Context(), "node", args...)
	node.Dir = dir
	out, err := node.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, diagrams, strings.Count(string(out), "\n"), "%s", out)
	require.Positive(t, diagrams)
}
