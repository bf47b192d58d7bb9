// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// fields is a JSON object.
type fields = map[string]any

// providerVariable names the binary of the Vault provider, which `tofu init` fetches.
// It is no Go module that could be pinned.
const providerVariable = "C1_CLIENTS_VAULT_PROVIDER"

// terraform is examples/terraform on a server of its own, on which nothing is there yet
// but the plugin's binary and a mount of KV.
type terraform struct {
	*vaulttest.Server
	t         *testing.T
	emulator  *c1test.Emulator
	tenant    *c1test.Tenant
	connector c1test.ConnectorRef
	decoy     string
	dir       string // the example's copy; all that comes to lie in it is searched for secrets
	token     string // which may do what the example's policy says
	requests  *requestLog
	planned   string // what the last plan printed
	variables fields
	identity  c1test.Identity
	command   string
	sha256    string
}

func newTerraform(t *testing.T) *terraform {
	t.Helper()
	s := vaulttest.Start(t, vaulttest.Options{})
	emulator := s.Emulator(c1test.Options{})
	tenant := emulator.Default()
	f := &terraform{
		Server: s, t: t, emulator: emulator, tenant: tenant, identity: tenant.Identity(),
		connector: tenant.Connector(), decoy: tenant.Decoy(c1test.KindConnectorClient),
		dir: filepath.Join(s.Dir(), "terraform"),
	}
	f.command, f.sha256 = s.InstallPlugin(vaulttest.PluginVersion)
	require.NoError(t, s.Root.Sys().Mount("secret", &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	vaulttest.Eventually(t, patience, func() error { // KV refuses everything while it upgrades itself
		_, err := s.Root.Logical().Read("secret/config")
		return err
	})
	f.copyExample()
	f.save("c1-ca.pem", emulator.CACertPEM())
	rules, err := os.ReadFile(filepath.Join(f.dir, "policy.hcl"))
	require.NoError(t, err)
	require.NoError(t, s.Root.Sys().PutPolicy("terraform", string(rules)))
	secret, err := s.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"terraform"}, Period: "1h"})
	require.NoError(t, err)
	f.token = secret.Auth.ClientToken
	f.requests = record(t, s.Addr(), f.names())
	f.variables = fields{
		"plugin_version": vaulttest.PluginVersion, "plugin_command": f.command, "plugin_sha256": f.sha256,
		"c1_client_id": f.identity.ClientID, "c1_url": tenant.URL(), "c1_ca_file": filepath.Join(f.dir, "c1-ca.pem"),
		"okta": fields{"app_id": f.connector.AppID, "connector_id": f.connector.ConnectorID},
		"bait": fields{"decoy_id": f.decoy},
	}
	return f
}

// copyExample takes nothing that somebody who tried the example has left there.
func (f *terraform) copyExample() {
	f.t.Helper()
	require.NoError(f.t, os.Mkdir(f.dir, 0o700))
	for _, name := range []string{"main.tf", "variables.tf", "policy.hcl"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "examples", "terraform", name))
		require.NoError(f.t, err)
		f.save(name, string(raw))
	}
}

// names are what a recorded request has in the place of what differs in each run.
func (f *terraform) names() *names {
	f.t.Helper()
	return &names{values: map[string]string{
		"$APP_ID": f.connector.AppID, "$CONNECTOR_ID": f.connector.ConnectorID, "$DECOY_ID": f.decoy,
		"$C1_CLIENT_ID": f.identity.ClientID, "$C1_CLIENT_SECRET": f.identity.ClientSecret,
		"$C1_URL": f.tenant.URL(), "$C1_CA": f.ca(), "$SHA256": f.sha256, "$COMMAND": f.command,
	}}
}

func (f *terraform) ca() string {
	f.t.Helper()
	ca, err := os.ReadFile(filepath.Join(f.dir, "c1-ca.pem"))
	require.NoError(f.t, err)
	return string(ca)
}

func (f *terraform) save(name, content string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600))
}

// rotations counts what was rotated at C1.
func (f *terraform) rotations() int {
	return f.tenant.Requests(c1test.OpRotateConnector) + f.tenant.Requests(c1test.OpRotateDecoy)
}

// tofuBinary is the pinned OpenTofu.
func tofuBinary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "tofu"))
	require.NoError(t, err)
	require.FileExists(t, path, "run make bin/tofu")
	return path
}

// useProvider has OpenTofu take a provider's binary from where it lies, so that nothing
// is to be fetched.
func (f *terraform) useProvider(binary string) {
	f.t.Helper()
	binary, err := filepath.Abs(binary)
	require.NoError(f.t, err)
	dir := f.t.TempDir()
	require.NoError(f.t, os.Symlink(binary, filepath.Join(dir, "terraform-provider-vault")))
	f.save("tofu.rc", fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = %q\n  }\n}\n", dir))
}

// tofu runs a command of OpenTofu in the example's copy.
func (f *terraform) tofu(env []string, args ...string) (output string, code int) {
	f.t.Helper()
	variables, err := json.Marshal(f.variables)
	require.NoError(f.t, err)
	f.save("terraform.tfvars.json", string(variables))
	var out bytes.Buffer
	cmd := exec.CommandContext(f.t.Context(), tofuBinary(f.t), args...)
	cmd.Dir = f.dir
	cmd.Env = append([]string{
		"HOME=" + f.dir, "PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + f.requests.url, "VAULT_TOKEN=" + f.token,
		"TF_CLI_CONFIG_FILE=" + filepath.Join(f.dir, "tofu.rc"), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"TF_LOG=TRACE", "TF_LOG_PATH=" + filepath.Join(f.dir, "tofu.log"),
	}, env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("running tofu: %v", err)
	}
	f.Collect("what tofu "+args[0]+" printed", out.Bytes())
	return out.String(), cmd.ProcessState.ExitCode()
}

func (f *terraform) mustTofu(env []string, args ...string) string {
	f.t.Helper()
	output, code := f.tofu(env, args...)
	require.Zero(f.t, code, "tofu %s:\n%s", args[0], output)
	return output
}

// withIdentity gives a run the secret of the mount's identity.
func (f *terraform) withIdentity() []string {
	return []string{"TF_VAR_write_identity=true", "TF_VAR_c1_client_secret=" + f.identity.ClientSecret}
}

// plan returns what a plan would do to which resources, and has the plan's file
// searched for secrets.
func (f *terraform) plan(env ...string) map[string]string {
	f.t.Helper()
	output, code := f.tofu(env, "plan", "-detailed-exitcode", "-parallelism=1", "-out=tfplan")
	require.Contains(f.t, []int{0, 2}, code, output)
	file, err := zip.OpenReader(filepath.Join(f.dir, "tfplan"))
	require.NoError(f.t, err)
	defer func() { _ = file.Close() }()
	for _, entry := range file.File {
		r, err := entry.Open()
		require.NoError(f.t, err)
		content, err := io.ReadAll(r)
		require.NoError(f.t, err)
		f.Collect(entry.Name+" in the plan's file", content)
	}
	var shown struct {
		ResourceChanges []struct {
			Address string
			Change  struct{ Actions []string }
		} `json:"resource_changes"`
	}
	require.NoError(f.t, json.Unmarshal([]byte(f.mustTofu(env, "show", "-json", "tfplan")), &shown))
	changes := map[string]string{}
	for _, change := range shown.ResourceChanges {
		if actions := strings.Join(change.Change.Actions, ","); actions != "no-op" && actions != "read" {
			changes[change.Address] = actions
		}
	}
	require.Equal(f.t, len(changes) > 0, code == 2, output)
	f.planned = output
	return changes
}

func TestTheTerraformExampleIsFormatted(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), tofuBinary(t), "fmt", "-check", "-diff")
	cmd.Env = []string{"HOME=" + t.TempDir()}
	cmd.Dir = filepath.Join("..", "..", "examples", "terraform")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// tofuStep is one run of OpenTofu in the story of the example.
type tofuStep struct {
	name     string
	before   func(*terraform)  // what happens first, without OpenTofu
	command  string            // plan, apply or destroy
	identity bool              // with the secret of the mount's identity
	changes  map[string]string // of a plan: what would be done to which resource
	then     func(*terraform)  // what must hold afterwards, whoever asked Vault for it
}

var tofuStory = []tofuStep{
	{
		name: "plan, with nothing there", command: "plan", identity: true,
		changes: map[string]string{
			"vault_plugin.c1": "create", "vault_mount.c1": "create", "vault_generic_endpoint.config": "create",
			"vault_generic_endpoint.okta": "create", "vault_generic_endpoint.bait": "create", "vault_kv_secret_v2.okta": "create",
			"vault_policy.okta_reader": "create", "vault_policy.bait_planter": "create",
		},
		then: func(f *terraform) { require.Zero(f.t, f.tenant.Requests("")) },
	},
	{
		name: "apply", command: "apply", identity: true,
		then: func(f *terraform) {
			require.Equal(f.t, 1, f.rotations(), "a scheduled binding is rotated once when it is created")
			f.requireConsumer(1)
		},
	},
	{
		name: "plan, with nothing changed", command: "plan", changes: map[string]string{},
		then: func(f *terraform) { require.Equal(f.t, 1, f.rotations()) },
	},
	{
		name: "plan with the identity, with nothing changed", command: "plan", identity: true, changes: map[string]string{},
		then: func(f *terraform) { require.Equal(f.t, 1, f.rotations()) },
	},
	{
		name: "plan after a rotation", command: "plan",
		before: func(f *terraform) {
			_, err := f.Root.Logical().Write("c1/connectors/okta/rotate", nil)
			require.NoError(f.t, err)
		},
		changes: map[string]string{"vault_kv_secret_v2.okta": "update"},
		then:    func(f *terraform) { require.Equal(f.t, 2, f.rotations(), "the one by hand") },
	},
	{
		name: "apply after a rotation", command: "apply",
		then: func(f *terraform) {
			require.Equal(f.t, 2, f.rotations())
			f.requireConsumer(2)
		},
	},
	{
		name: "apply, with nothing changed", command: "apply",
		then: func(f *terraform) {
			require.Equal(f.t, 2, f.rotations())
			f.requireConsumer(2)
		},
	},
	{
		name: "plan of another period", command: "plan",
		before:  func(f *terraform) { f.variables["rotation_period"] = 43200 },
		changes: map[string]string{"vault_generic_endpoint.okta": "update"},
	},
	{
		name: "apply of another period", command: "apply",
		then: func(f *terraform) {
			require.Equal(f.t, 2, f.rotations())
			f.requireConsumer(2)
			binding, err := f.Root.Logical().Read("c1/connectors/okta")
			require.NoError(f.t, err)
			require.Equal(f.t, json.Number("43200"), binding.Data["rotation_period"])
		},
	},
	{
		name: "destroy", command: "destroy",
		before: func(f *terraform) {
			require.Len(f.t, f.tenant.AliveCredentials(f.connector), 2, "the previous one is in its grace period")
		},
		then: (*terraform).requireDestroyed,
	},
}

// requireConsumer checks that KV holds the newest credential, and how often it was
// written there.
func (f *terraform) requireConsumer(version int) {
	f.t.Helper()
	metadata, err := f.Root.KVv2("secret").GetMetadata(f.t.Context(), "connectors/okta")
	require.NoError(f.t, err)
	require.Equal(f.t, version, metadata.CurrentVersion)
	held := f.read("secret/data/connectors/okta")["data"].(fields)
	id, _ := held["BATON_CLIENT_ID"].(string)
	secret, _ := held["BATON_CLIENT_SECRET"].(string)
	require.NoError(f.t, f.tenant.Login(f.t.Context(), id, secret))
	current := f.read("c1/connector-creds/okta")
	require.True(f.t, id == current["client_id"] && secret == current["client_secret"], "it is the current one")
}

// read reads a secret that is meant to be where it is, so that its answer must not be
// searched.
func (f *terraform) read(path string) fields {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.Addr()+"/v1/"+path, nil)
	require.NoError(f.t, err)
	req.Header.Set("X-Vault-Token", f.Root.Token())
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(f.t, http.StatusOK, resp.StatusCode)
	var answer struct{ Data fields }
	require.NoError(f.t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.Data
}

// requireDestroyed checks what is gone, what is left at C1, and that somebody was told.
func (f *terraform) requireDestroyed() {
	f.t.Helper()
	require.Equal(f.t, 2, f.rotations())
	mounts, err := f.Root.Sys().ListMounts()
	require.NoError(f.t, err)
	require.NotContains(f.t, mounts, "c1/")
	_, err = f.Root.Sys().GetPlugin(&api.GetPluginInput{Name: vaulttest.PluginName, Type: api.PluginTypeSecrets, Version: vaulttest.PluginVersion})
	require.ErrorContains(f.t, err, "404")
	for _, name := range []string{"okta-reader", "bait-planter"} {
		policy, err := f.Root.Sys().GetPolicy(name)
		require.NoError(f.t, err)
		require.Empty(f.t, policy)
	}
	metadata, err := f.Root.KVv2("secret").GetMetadata(f.t.Context(), "connectors/okta")
	require.NoError(f.t, err)
	require.False(f.t, metadata.Versions["2"].DeletionTime.IsZero(), "KV keeps it as deleted")

	left := f.tenant.AliveCredentials(f.connector)
	require.Len(f.t, left, 1, "the newest stays, as readers may hold it; the previous one, in its grace period, was ended")
	var told string
	for line := range strings.Lines(f.ServerLog()) {
		if strings.Contains(line, "a deleted binding leaves something at C1") && strings.Contains(line, "binding=okta") {
			told = line
		}
	}
	require.Contains(f.t, told, left[0].ID, "the server's log names it: OpenTofu does not show the warning")
}

// newOpenTofu is newTerraform with the real provider, or skips the test without one.
func newOpenTofu(t *testing.T) *terraform {
	t.Helper()
	provider := os.Getenv(providerVariable)
	if provider == "" {
		t.Skipf("%s names no Vault provider: set it to the binary that `tofu init` puts below examples/terraform/.terraform/providers", providerVariable)
	}
	f := newTerraform(t)
	f.useProvider(provider)
	return f
}

func TestOpenTofuAppliesTheExample(t *testing.T) {
	t.Parallel()
	f := newOpenTofu(t)
	f.mustTofu(nil, "validate")
	for _, s := range tofuStory {
		if s.before != nil {
			s.before(f)
		}
		if s.command == "destroy" {
			f.importTheBinding()
			f.requireSearched()
		}
		var env []string
		if s.identity {
			env = f.withIdentity()
		}
		f.requests.step(s.name)
		if s.command == "plan" {
			require.Equal(t, s.changes, f.plan(env...), "%s: %s", s.name, f.planned)
		} else {
			started := time.Now()
			output := f.mustTofu(env, s.command, "-auto-approve", "-parallelism=1")
			t.Logf("%s took %.1f s", s.name, time.Since(started).Seconds())
			if s.name == "apply, with nothing changed" {
				require.Contains(t, output, "0 added, 0 changed, 0 destroyed")
			}
		}
		if s.then != nil {
			s.then(f)
		}
	}
	f.requests.requireRecorded(t)
}

func TestTheVaultProvidersRequestsReplayed(t *testing.T) {
	t.Parallel()
	f := newTerraform(t)
	r := newReplay(f)
	for _, s := range tofuStory {
		if s.before != nil {
			s.before(f)
		}
		r.play(s.name)
		if s.then != nil {
			s.then(f)
		}
	}
	require.Empty(t, r.steps, "all steps are played")
}

// importTheBinding forgets a binding and takes it back, which rotates nothing.
func (f *terraform) importTheBinding() {
	f.t.Helper()
	rotations := f.rotations()
	f.requests.step("")
	f.mustTofu(nil, "state", "rm", "vault_generic_endpoint.okta")
	f.mustTofu(nil, "import", "vault_generic_endpoint.okta", "c1/connectors/okta")
	require.Equal(f.t, map[string]string{"vault_generic_endpoint.okta": "update"}, f.plan(), "what the example does not declare is dropped from the state")
	f.mustTofu(nil, "apply", "-auto-approve")
	require.Empty(f.t, f.plan())
	require.Equal(f.t, rotations, f.rotations())
	f.requests.forget()
}

// requireSearched checks that the search for secrets sees what OpenTofu writes: it
// finds something that is in all of it.
func (f *terraform) requireSearched() {
	f.t.Helper()
	var found []string
	for _, leak := range f.Leaks([]string{f.connector.ConnectorID}) {
		found = append(found, filepath.Base(leak.Where))
	}
	for _, where := range []string{"terraform.tfstate", "tofu.log", "tfplan in the plan's file", "tfstate in the plan's file", "what tofu show printed"} {
		require.Contains(f.t, found, where)
	}
	secrets := f.emulator.Secrets()
	require.True(f.t, slices.Contains(secrets, f.identity.ClientSecret), "the identity's secret is searched for")
}

func TestOpenTofuUpgradesThePluginAndEndsWhatItMade(t *testing.T) {
	t.Parallel()
	f := newOpenTofu(t)
	f.mustTofu(f.withIdentity(), "apply", "-auto-approve")

	const version = "v0.2.0-test"
	command, sum := f.InstallPlugin(version)
	f.variables["plugin_version"], f.variables["plugin_command"], f.variables["plugin_sha256"] = version, command, sum
	require.Equal(t, map[string]string{"vault_plugin.c1": "create,delete", "vault_mount.c1": "update"}, f.plan())
	f.mustTofu(nil, "apply", "-auto-approve")
	_, stderr, code := f.CLI("", "plugin", "reload", "-type=secret", "-plugin="+vaulttest.PluginName, "-scope=global")
	require.Zero(t, code, stderr)
	vaulttest.Eventually(t, patience, func() error {
		status, err := f.Root.Logical().Read("c1/status")
		if err != nil {
			return err
		}
		if running := status.Data["version"]; running != version {
			return fmt.Errorf("%v runs", running)
		}
		return nil
	})
	require.Empty(t, f.plan())
	require.Equal(t, 1, f.rotations())

	_, stderr, code = f.CLI("", "delete", "c1/connectors/okta", "revoke=true")
	require.Zero(t, code, stderr)
	f.mustTofu(nil, "destroy", "-auto-approve")
	require.Empty(t, f.tenant.AliveCredentials(f.connector))
}

// A read binding rotates with each plan; and the provider takes a mount that says it has
// version 2 of the KV API for KV.
func TestOpenTofuDoesWhatTheExampleWarnsOf(t *testing.T) {
	t.Parallel()
	f := newOpenTofu(t)
	owned := f.tenant.NewConnector("owned")
	f.variables["owned"] = fields{"app_id": owned.AppID, "connector_id": owned.ConnectorID}
	rules, err := f.Root.Sys().GetPolicy("terraform")
	require.NoError(t, err)
	require.NoError(t, f.Root.Sys().PutPolicy("terraform", rules+`
path "c1/connectors/owned" { capabilities = ["create", "read", "update", "delete"] }
path "c1/connector-creds/owned" { capabilities = ["read"] }
path "secret/+/connectors/owned" { capabilities = ["create", "read", "update", "delete"] }
`))
	f.save("owned.tf", `
variable "owned" { type = object({ app_id = string, connector_id = string }) }

variable "owned_version" { type = number }

resource "vault_generic_endpoint" "owned" {
  depends_on           = [vault_generic_endpoint.config]
  path                 = "c1/connectors/owned"
  ignore_absent_fields = true
  data_json            = jsonencode(merge(var.owned, { rotate_on = "read" }))
}

locals { owned = vault_generic_endpoint.owned.id }

ephemeral "vault_generic_secret" "owned" {
  mount_id = local.owned
  path     = "c1/connector-creds/owned"
}

resource "vault_kv_secret_v2" "owned" {
  mount                = "secret"
  name                 = "connectors/owned"
  data_json_wo_version = var.owned_version
  data_json_wo         = ephemeral.vault_generic_secret.owned.data_json
}
`)
	rotations := 0
	requireRotated := func(more int, what string) {
		t.Helper()
		now := f.tenant.Requests(c1test.OpRotateConnector) - 1 // less that of okta
		require.Equal(t, rotations+more, now, what)
		rotations = now
	}
	f.variables["owned_version"] = 1
	f.mustTofu(f.withIdentity(), "apply", "-auto-approve")
	requireRotated(1, "the first apply, which reads it once it is there")
	require.Empty(t, f.plan())
	requireRotated(1, "a plan that shows no change")
	f.mustTofu(nil, "apply", "-auto-approve")
	requireRotated(1, "an apply that changes nothing")
	f.variables["owned_version"] = 2
	f.mustTofu(nil, "apply", "-auto-approve")
	requireRotated(2, "an apply that hands it on: in its plan, and once more")
	require.Len(t, f.tenant.AliveCredentials(owned), 5, "until the leases end with the provider's tokens")

	require.NoError(t, f.Root.Sys().TuneMountAllowNil("c1", api.TuneMountConfigInput{Options: &map[string]string{"version": "2"}}))
	output, code := f.tofu(nil, "plan")
	require.Equal(t, 1, code)
	require.Contains(t, output, `no secret found at "c1/connectors/okta"`)
}
