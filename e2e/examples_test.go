// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// exampleTests says of each file below examples/ which test runs it.
var exampleTests = map[string]string{
	"README.md": "TestTheCommandsOfTheExamplesDo",

	"agent/agent.hcl":         "TestVaultAgentRendersRenewsAndRendersAnew",
	"agent/connector.env.tpl": "TestVaultAgentRendersRenewsAndRendersAnew",
	"agent/decoy.env.tpl":     "TestVaultAgentRendersRenewsAndRendersAnew",
	"agent/policy.hcl":        "TestExamplePoliciesAllowAndDenyWhatTheySay",

	"agent-exec/agent.hcl":  "TestAProcessSupervisorRestartsTheConnectorAfterARotation",
	"agent-exec/policy.hcl": "TestExamplePoliciesAllowAndDenyWhatTheySay",

	"agent-schedule/agent.hcl":         "TestFiveVaultAgentsFollowOneScheduledBinding",
	"agent-schedule/connector.env.tpl": "TestFiveVaultAgentsFollowOneScheduledBinding",
	"agent-schedule/policy.hcl":        "TestExamplePoliciesAllowAndDenyWhatTheySay",

	"monitoring/agent.hcl":      "TestTheCommandsOfTheExamplesDo",
	"monitoring/dashboard.json": "TestTheAlertsFireOnWhatReallyHappens",
	"monitoring/policy.hcl":     "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"monitoring/prometheus.yml": "TestAScrapeNeedsNoMoreThanOneRightAndSaysWhatStatusAndC1Say",
	"monitoring/rules.yml":      "TestTheAlertsFireOnWhatReallyHappens",

	"policies/admin.hcl":              "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/app.hcl":                "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/incident-responder.hcl": "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/monitoring.hcl":         "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/operator.hcl":           "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/pipeline.hcl":           "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/team.hcl":               "TestATeamBindsItsOwnConnectorsAlone",
}

func TestEveryExampleIsRunByATest(t *testing.T) {
	t.Parallel()
	var tests strings.Builder
	sources, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	beside, err := filepath.Glob("monitoring/*_test.go") // a module of its own
	require.NoError(t, err)
	for _, source := range append(sources, beside...) {
		raw, err := os.ReadFile(source)
		require.NoError(t, err)
		tests.Write(raw)
	}
	readme, err := os.ReadFile("../examples/README.md")
	require.NoError(t, err)

	files := exampleFiles(t)
	for _, file := range files {
		name := exampleTests[file]
		require.NotEmpty(t, name, "no test runs examples/%s", file)
		require.Contains(t, tests.String(), "\nfunc "+name+"(t *testing.T) {\n", "which should run examples/%s", file)
		if strings.HasSuffix(name, "PoliciesAllowAndDenyWhatTheySay") {
			require.Contains(t, tests.String(), `"`+file+`":`, "%s should run it", name)
		}
		if example := strings.Split(file, "/"); len(example) > 1 {
			require.Contains(t, string(readme), "]("+example[0], "the README should tell of examples/%s", example[0])
		}
	}
	require.Len(t, files, len(exampleTests), "a file that is gone needs no test")
}

// exampleFiles are the files below examples/, without what somebody who tries them
// leaves there.
func exampleFiles(t *testing.T) []string {
	t.Helper()
	root := filepath.Join("..", "examples")
	ignore, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	require.NoError(t, err)
	left := append(strings.Fields(strings.ReplaceAll(string(ignore), "/", "")), ".gitignore")
	var files []string
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(left, entry.Name()) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(left, entry.Name()) || entry.IsDir():
			return nil
		}
		file, err := filepath.Rel(root, path)
		files = append(files, filepath.ToSlash(file))
		return err
	}))
	return files
}

// What the README tells people to type is typed here, block by block, on a server
// that has its engine where the README says.
func TestTheCommandsOfTheExamplesDo(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../examples")))
	readme, err := os.ReadFile("../examples/README.md")
	require.NoError(t, err)
	okta := e.Tenant.NewConnector("okta")

	blocks := regexp.MustCompile("(?s)\n```\n(.*?)\n```\n").FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 4)
	for _, block := range blocks {
		commands := strings.NewReplacer(
			"app_id=…", "app_id="+okta.AppID, "connector_id=…", "connector_id="+okta.ConnectorID,
			"vault agent -config=agent.hcl", "vault agent -config=agent.hcl -exit-after-auth",
		).Replace(block[1])
		require.NotContains(t, commands, "…", "what is left out must be known to this test")
		if strings.Contains(commands, "cd agent-exec") { // its Agent runs until it is stopped
			commands, _, _ = strings.Cut(commands, "vault agent")
		}
		out, err := e.Shell(dir, commands)
		e.Collect("what the README's commands printed", []byte(out))
		require.NoError(t, err, "%s\n%s", commands, out)
		require.NoError(t, e.Root.Sys().DisableAuth("approle")) // each block begins with enabling it
	}
	for _, file := range []string{"agent/out/connector.env", "agent/out/web-1.env", "agent-schedule/out/connector.env", "agent-exec/secret-id", "monitoring/vault-token"} {
		require.FileExists(t, filepath.Join(dir, file))
	}
}
