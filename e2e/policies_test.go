// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// examplePolicy returns a policy of examples/ for the engine's own mount.
func examplePolicy(t *testing.T, e *vaulttest.Engine, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "examples", file))
	require.NoError(t, err)
	rules := strings.ReplaceAll(string(raw), `path "c1/`, `path "`+e.Mount+`/`)
	rules = strings.ReplaceAll(rules, `/c1/*"`, `/`+e.Mount+`/*"`)
	return strings.NewReplacer(`mounts/c1"`, `mounts/`+e.Mount+`"`, `mounts/c1/`, `mounts/`+e.Mount+`/`).Replace(rules)
}

// engineFor returns an engine with the bindings that the examples speak of.
func engineFor(t *testing.T) *vaulttest.Engine {
	t.Helper()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	return e
}

func bindExamples(e *vaulttest.Engine) {
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	e.BindDecoy(e.Mount, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), nil)
}

// probes are every path with every operation that a policy can tell apart. What
// is sent is refused by the engine, or changes nothing that a test needs, so
// that any answer but 403 means "allowed".
func probes() []string {
	paths := []string{
		"config", "config/rotate-root", "status", "check", "metrics", "lookup",
		"connectors/github", "connectors/github/history", "connectors/github/rotate",
		"connectors/github/adopt", "connectors/github/pause", "connectors/github/resume",
		"connector-creds/github", "connector-creds/okta", "connector-creds/other",
		"decoys/bait", "decoys/bait/history", "decoys/bait/rotate", "decoys/bait/pause", "decoys/bait/resume", "decoy-creds/bait", "decoy-creds/other",
		"data/connector-creds/okta", "metadata/connector-creds/okta", "delete/connector-creds/okta", "undelete/connector-creds/okta",
		"destroy/connector-creds/okta", "data/decoy-creds/bait", "metadata/decoy-creds/bait",
	}
	all := []string{"LIST connectors/", "LIST decoys/", "LIST metadata/", "LIST metadata/connector-creds/", "LIST metadata/decoy-creds/"}
	for _, path := range paths {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			all = append(all, method+" "+path)
		}
	}
	return all
}

func TestExamplePoliciesAllowAndDenyWhatTheySay(t *testing.T) {
	t.Parallel()
	bindings := []string{"LIST connectors/", "LIST decoys/"}
	for _, probe := range probes() {
		if _, path, _ := strings.Cut(probe, " "); strings.HasPrefix(path, "connectors/github") || strings.HasPrefix(path, "decoys/bait") {
			bindings = append(bindings, probe)
		}
	}
	for file, allowed := range map[string][]string{
		"policies/app.hcl":                {"GET connector-creds/github"},
		"policies/pipeline.hcl":           {"PUT decoy-creds/bait"},
		"policies/kv-reader.hcl":          {"GET data/connector-creds/okta"},
		"agent/policy.hcl":                {"GET connector-creds/github", "PUT decoy-creds/bait"},
		"agent-schedule/policy.hcl":       {"GET connector-creds/okta"},
		"agent-exec/policy.hcl":           {"GET connector-creds/okta"},
		"policies/operator.hcl":           append([]string{"GET config", "GET status", "PUT check"}, bindings...),
		"monitoring/policy.hcl":           {"GET metrics"},
		"policies/monitoring.hcl":         {"GET metrics", "GET status"},
		"policies/incident-responder.hcl": {"PUT lookup", "GET connectors/github/history", "GET decoys/bait/history"},
		"policies/admin.hcl":              append([]string{"GET config", "PUT config", "PATCH config", "DELETE config", "PUT config/rotate-root", "GET status", "PUT check", "PUT lookup"}, bindings...),
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			e := engineFor(t)
			name := e.Mount + "-" + strings.NewReplacer("/", "-", ".hcl", "").Replace(file)
			client := e.Client(tokenFor(t, e.Server, name, examplePolicy(t, e, file)))
			for _, probe := range probes() {
				method, path, _ := strings.Cut(probe, " ")
				status := ask(t, e, client, method, path)
				if slices.Contains(allowed, probe) {
					require.NotEqual(t, http.StatusForbidden, status, "%s should be allowed", probe)
				} else {
					require.Equal(t, http.StatusForbidden, status, "%s should be denied", probe)
				}
				if method == http.MethodDelete && status < 300 {
					bindExamples(e)
				}
			}
		})
	}
}

// ask sends one request and returns the status of the answer.
func ask(t *testing.T, e *vaulttest.Engine, client *api.Client, method, path string) int {
	t.Helper()
	var body any
	switch {
	case strings.HasPrefix(path, "decoy-creds/") && method == http.MethodPut:
		body = object{"placement": "web-1"} // the one field that the pipeline may write
	case method == http.MethodPut, method == http.MethodPatch:
		body = object{"no_such_field": true}
	}
	req := client.NewRequest(method, "/v1/"+e.Path(path))
	if body != nil {
		require.NoError(t, req.SetJSONBody(body))
	}
	if method == http.MethodPatch {
		req.Headers = http.Header{"Content-Type": {"application/merge-patch+json"}}
	}
	//nolint:staticcheck // the one call that shows every status as it came
	resp, err := client.RawRequestWithContext(t.Context(), req)
	require.NotNil(t, resp, "%v", err)
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

func TestATeamBindsItsOwnConnectorsAlone(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	own, foreign := e.Tenant.Connector(), e.Tenant.NewConnector("another team's")
	rules := strings.NewReplacer(`"APP_ID"`, `"`+own.AppID+`"`, `"CONNECTOR_ID"`, `"`+own.ConnectorID+`"`).
		Replace(examplePolicy(t, e, "policies/team.hcl"))
	team := e.Client(tokenFor(t, e.Server, e.Mount+"-team", rules))
	bind := func(name string, app, connector string, more object) error {
		fields := object{"app_id": app, "connector_id": connector, "rotate_on": "read"}
		for field, value := range more {
			fields[field] = value
		}
		_, err := team.Logical().Write(e.Path("connectors/"+name), fields)
		return err
	}
	require.NoError(t, bind("hr-okta", own.AppID, own.ConnectorID, object{"cooldown": "1m"}))
	for _, refused := range []error{
		bind("hr-other", foreign.AppID, foreign.ConnectorID, nil),
		bind("hr-other", own.AppID, foreign.ConnectorID, nil),
		bind("other", own.AppID, own.ConnectorID, nil),
		bind("hr-okta", own.AppID, own.ConnectorID, object{"on_lease_end": "keep"}),
	} {
		requireRefused(t, refused, http.StatusForbidden)
	}
	_, err := team.Logical().Delete(e.Path("connectors/hr-okta"))
	require.NoError(t, err)
	require.Zero(t, rotations(e))
}

func TestAPipelineCanPlantButNotRead(t *testing.T) {
	t.Parallel()
	e := engineFor(t)
	client := e.Client(tokenFor(t, e.Server, e.Mount+"-plant", examplePolicy(t, e, "policies/pipeline.hcl")))
	planted, err := client.Logical().Write(e.Path("decoy-creds/bait"), object{"placement": "web-1:/srv/app/.env"})
	require.NoError(t, err)
	require.NotEmpty(t, planted.Data["client_secret"])
	_, err = client.Logical().Read(e.Path("decoy-creds/bait"))
	requireRefused(t, err, 403)
	_, err = client.Logical().Write(e.Path("decoy-creds/bait"), object{"placement": "web-1", "note": "x"})
	requireRefused(t, err, 403)
	require.Equal(t, 1, rotations(e))
}

func TestAnIncidentResponderFindsTheOwnerAndSeesNoSecret(t *testing.T) {
	t.Parallel()
	e := engineFor(t)
	planted := e.MustWrite("decoy-creds/bait", object{"placement": "web-1"})
	require.Error(t, e.Login(planted))
	client := e.Client(tokenFor(t, e.Server, e.Mount+"-responder", examplePolicy(t, e, "policies/incident-responder.hcl")))
	found, err := client.Logical().Write(e.Path("lookup"), object{"fingerprint_sha256": e.Tenant.Findings()[0].Fingerprint})
	require.NoError(t, err)
	require.Equal(t, "web-1", found.Data["placement"])
	history, err := client.Logical().Read(e.Path("decoys/bait/history"))
	require.NoError(t, err)
	require.Len(t, history.Data["records"], 1)
}

func TestAnAdminConfiguresAndEndsLeasesWithoutReadingCredentials(t *testing.T) {
	t.Parallel()
	e := engineFor(t)
	vended := e.MustRead("connector-creds/github")
	token := tokenFor(t, e.Server, e.Mount+"-admin", examplePolicy(t, e, "policies/admin.hcl"))
	vault := func(stdin string, args ...string) {
		t.Helper()
		_, stderr, code := e.CLIAs(token, stdin, args...)
		require.Zero(t, code, stderr)
	}
	vault("", "secrets", "tune", "-audit-non-hmac-response-keys=fingerprint_sha256", e.Mount)
	id := e.Tenant.NewIdentity()
	vault(id.ClientSecret, "write", e.Path("config"), "client_id="+id.ClientID, "client_secret=-")
	vault("", "lease", "revoke", "-sync", "-prefix", e.Path("connector-creds/github"))
	require.Error(t, e.Login(vended))
	_, _, code := e.CLIAs(token, "", "read", e.Path("connector-creds/github"))
	require.NotZero(t, code)
	require.Equal(t, 1, rotations(e))
}
