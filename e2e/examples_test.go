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

	"baton-runner/agent.hcl":   "TestBatonRunnerReadsByKVVersion2",
	"baton-runner/config.yaml": "TestBatonRunnerReadsByKVVersion2",

	"consul-template/consul-template.hcl": "TestConsulTemplate",

	"ecs/Dockerfile":           "TestVaultAgentInAnECSTask",
	"ecs/agent.hcl":            "TestVaultAgentInAnECSTask",
	"ecs/task-definition.json": "TestECSTakesTheTaskDefinition",

	"node/follow.js":         "TestNodeVaultReadsThePlainPath",
	"node/package-lock.json": "TestNodeVaultReadsThePlainPath",
	"node/package.json":      "TestNodeVaultReadsThePlainPath",

	"proxy/proxy.hcl": "TestVaultProxy",

	"kubernetes/README.md":                           "TestTheCommandsOfTheKubernetesExamplesDo",
	"kubernetes/agent-injector.yaml":                 "TestTheInjectorKnowsTheAnnotationsOfItsExample",
	"kubernetes/connector.yaml":                      "TestExternalSecretsByVersion1OfTheKVAPI",
	"kubernetes/external-secrets-generator.yaml":     "TestExternalSecretsByItsGenerator",
	"kubernetes/external-secrets-kv1.yaml":           "TestExternalSecretsByVersion1OfTheKVAPI",
	"kubernetes/external-secrets-kv2.yaml":           "TestExternalSecretsByVersion2OfTheKVAPI",
	"kubernetes/policy.hcl":                          "TestTheCommandsOfTheKubernetesExamplesDo",
	"kubernetes/vault-secrets-operator-dynamic.yaml": "TestTheReplayedVaultSecretsOperator",
	"kubernetes/vault-secrets-operator-kv1.yaml":     "TestTheReplayedVaultSecretsOperator",
	"kubernetes/vault-secrets-operator-kv2.yaml":     "TestTheReplayedVaultSecretsOperator",
	"kubernetes/vault.yaml":                          "TestTheCommandsOfTheKubernetesExamplesDo",

	"monitoring/agent.hcl":      "TestTheCommandsOfTheExamplesDo",
	"monitoring/dashboard.json": "TestTheAlertsFireOnWhatReallyHappens",
	"monitoring/policy.hcl":     "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"monitoring/prometheus.yml": "TestAScrapeNeedsNoMoreThanOneRightAndSaysWhatStatusAndC1Say",
	"monitoring/rules.yml":      "TestTheAlertsFireOnWhatReallyHappens",

	"policies/admin.hcl":              "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/app.hcl":                "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/incident-responder.hcl": "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/kv-reader.hcl":          "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/monitoring.hcl":         "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/operator.hcl":           "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/pipeline.hcl":           "TestExamplePoliciesAllowAndDenyWhatTheySay",
	"policies/team.hcl":               "TestATeamBindsItsOwnConnectorsAlone",

	"systemd/restart/agent.hcl":                  "TestSystemdRestartsTheConnectorWhenItsEnvironmentFileChanges",
	"systemd/restart/baton-okta-restart.path":    "TestSystemdTakesTheUnitsOfTheExamples",
	"systemd/restart/baton-okta-restart.service": "TestSystemdTakesTheUnitsOfTheExamples",
	"systemd/restart/baton-okta.service":         "TestSystemdTakesTheUnitsOfTheExamples",
	"systemd/restart/okta.env.tpl":               "TestSystemdRestartsTheConnectorWhenItsEnvironmentFileChanges",
	"systemd/restart/vault-agent-okta.service":   "TestSystemdTakesTheUnitsOfTheExamples",
	"systemd/supervisor/baton-okta.service":      "TestSystemdTakesTheUnitsOfTheExamples",

	"terraform/README.md":    "TestOpenTofuAppliesTheExample",
	"terraform/main.tf":      "TestOpenTofuAppliesTheExample",
	"terraform/policy.hcl":   "TestTheVaultProvidersRequestsReplayed",
	"terraform/variables.tf": "TestOpenTofuAppliesTheExample",
}

func TestEveryExampleIsRunByATest(t *testing.T) {
	t.Parallel()
	var tests strings.Builder
	sources, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, module := range []string{"clients", "monitoring"} {
		beside, err := filepath.Glob(module + "/*_test.go")
		require.NoError(t, err)
		sources = append(sources, beside...)
	}
	for _, source := range sources {
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
	okta := e.Tenant.NewConnector("okta")

	blocks := blocksOf(t, "../examples/README.md")
	require.Len(t, blocks, 10)
	for _, b := range blocks {
		require.True(t, b.areCommands(), b)
		typed, rest := typedHere(b.text)
		requireItsFiles(t, dir, b.text, rest)
		commands := strings.NewReplacer(
			"app_id=…", "app_id="+okta.AppID, "connector_id=…", "connector_id="+okta.ConnectorID,
			"vault agent -config=agent.hcl", "vault agent -config=agent.hcl -exit-after-auth",
		).Replace(typed)
		require.NotContains(t, commands, "…", "what is left out must be known to this test")
		out, err := e.Shell(dir, commands)
		e.Collect("what the README's commands printed", []byte(out))
		require.NoError(t, err, "%s\n%s", commands, out)
		require.NoError(t, e.Root.Sys().DisableAuth("approle")) // each block enables it
	}
	for _, file := range []string{"agent/out/connector.env", "agent/out/web-1.env", "agent-schedule/out/connector.env", "agent-exec/secret-id", "baton-runner/vaultcreds.yaml", "monitoring/vault-token", "node/secret-id", "systemd/secret-id"} {
		require.FileExists(t, filepath.Join(dir, file))
	}
}

// notHere is a command that needs a program or a plugin which is not here, or root, or
// that runs until it is stopped. The tests of e2e/clients do what these commands do.
var notHere = regexp.MustCompile(`(?m)^(sudo|npm|docker|aws|vault auth enable aws)\b`)

// typedHere divides a block into what is typed, and what begins with the first command
// that is not.
func typedHere(block string) (typed, rest string) {
	at := notHere.FindStringIndex(block)
	if strings.Contains(block, "cd agent-exec") || strings.Contains(block, "cd baton-runner") {
		at = []int{strings.Index(block, "vault agent")} // which starts the connector
	}
	if at == nil {
		return block, ""
	}
	return block[:at[0]], block[at[0]:]
}

// requireItsFiles checks that what a block installs or starts, where that is not typed,
// is a file of the examples.
func requireItsFiles(t *testing.T, dir, block, commands string) {
	t.Helper()
	in := ""
	if found := regexp.MustCompile(`(?m)^cd (\S+)$`).FindStringSubmatch(block); found != nil {
		in = found[1]
	}
	file := regexp.MustCompile(`(?:^|/)[\w-]+\.(?:hcl|json|js|path|service|tpl|env\.tpl)$`)
	for line := range strings.Lines(commands) {
		for word := range strings.FieldsSeq(line) {
			word = strings.TrimPrefix(word, "-config=")
			word = strings.TrimPrefix(word, "file://")
			if file.MatchString(word) && !strings.Contains(line, "systemctl") { // which takes units' names
				require.FileExists(t, filepath.Join(dir, in, word))
			}
		}
	}
}
