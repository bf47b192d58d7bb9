// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// operations lists "METHOD path operation-ID" of every operation of the engine,
// as Vault's own OpenAPI document has them.
func operations(t *testing.T, e *vaulttest.Engine) []string {
	t.Helper()
	doc, err := e.Root.Logical().Read("sys/internal/specs/openapi")
	require.NoError(t, err)
	paths, _ := doc.Data["paths"].(object)
	var list []string
	for path, item := range paths {
		short, found := strings.CutPrefix(path, "/"+e.Mount+"/")
		if !found {
			continue
		}
		for method, operation := range item.(object) {
			op, ok := operation.(object)
			if !ok || op["operationId"] == nil {
				continue
			}
			require.NotEmpty(t, op["summary"], "%s %s", method, path)
			list = append(list, fmt.Sprintf("%s %s %s", strings.ToUpper(method), short, op["operationId"]))
		}
	}
	slices.Sort(list)
	return list
}

func TestVaultsOpenAPIListsEveryOperationByAReadableName(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{}) // its IDs must not depend on other mounts
	list := operations(t, e)
	golden := filepath.Join("testdata", "operations.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(strings.Join(list, "\n")+"\n"), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(want)), strings.Join(list, "\n"), "if this is meant: go test ./e2e -run OpenAPI -update")

	readable := regexp.MustCompile(`^c1-[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, line := range list {
		id := line[strings.LastIndexByte(line, ' ')+1:]
		require.Regexp(t, readable, id)
		require.False(t, seen[id], "%s is there twice", id)
		seen[id] = true
	}
}

func TestEveryPathHasHelp(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	paths := map[string]bool{"": true}
	for _, line := range operations(t, e) {
		paths[strings.ReplaceAll(strings.Fields(line)[1], "{name}", "github")] = true
	}
	require.Greater(t, len(paths), 8)
	for path := range paths {
		help, err := e.Root.Help(e.Path(path))
		require.NoError(t, err, path)
		require.Greater(t, len(help.Help), 100, path)
		require.NotContains(t, help.Help, "<no description>", path)
	}
}
