// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// besideKV binds okta, at version 2, and returns the path of a real KV mount that holds
// a secret of the same fields at the same path, at version 2 too.
func besideKV(t *testing.T, e *vaulttest.Engine) (kv string) {
	t.Helper()
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": "24h", "metadata": object{"team": "people"}})
	e.MustWrite("connectors/okta/rotate", nil)

	kv = "kv-" + e.Mount
	require.NoError(t, e.Root.Sys().Mount(kv, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	t.Cleanup(func() { require.NoError(t, e.Root.Sys().Unmount(kv)) })
	like := object{}
	for field := range shownByKV(t, e, "connector-creds/okta") {
		like[field] = "text"
	}
	beside := e.Root.KVv2(kv)
	vaulttest.Eventually(t, patience, func() error { // KV refuses everything while it upgrades itself
		return beside.PutMetadata(t.Context(), "connector-creds/okta", api.KVMetadataPutInput{MaxVersions: 1, CustomMetadata: object{"team": "people"}})
	})
	for range 2 {
		_, err := beside.Put(t.Context(), "connector-creds/okta", like)
		require.NoError(t, err)
	}
	return kv
}

// sayVersion2 makes a mount say that it has version 2 of the KV API. It restarts the
// plugin, so not on a server that is shared.
func sayVersion2(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	_, stderr, code := e.CLI("", "secrets", "tune", "-options=version=2", e.Mount)
	require.Zero(t, code, stderr)
}

// shownByKV are the fields that KV's own client reads.
func shownByKV(t *testing.T, e *vaulttest.Engine, path string) object {
	t.Helper()
	secret, err := e.Root.KVv2(e.Mount).Get(t.Context(), path)
	require.NoError(t, err)
	return secret.Data
}

func TestKVsOwnClientReadsByVersion1WhatAPlainReadVends(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": "24h", "keys_preset": "baton"})
	bindScheduledDecoy(e, "bait", e.Tenant.Decoy(c1test.KindAccessToken), nil)
	for _, path := range []string{"connector-creds/okta", "decoy-creds/bait"} {
		secret, err := e.Root.KVv1(e.Mount).Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, without(e.MustRead(path).Data, "ttl"), without(secret.Data, "ttl"))
		stdout, stderr, code := e.CLI("", "kv", "get", "-mount="+e.Mount, "-field=version", path)
		require.Zero(t, code, stderr)
		require.Equal(t, "1", strings.TrimSpace(stdout), "the mount does not say that it has version 2")
	}
	require.Equal(t, 2, rotations(e))
}

func TestKVsOwnClientReadsByVersion2(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	ctx, beside, ours := t.Context(), e.Root.KVv2(besideKV(t, e)), e.Root.KVv2(e.Mount)
	secret, err := ours.Get(ctx, "connector-creds/okta")
	require.NoError(t, err)
	plain := e.MustRead("connector-creds/okta").Data
	require.Equal(t, without(plain, "ttl", "rotation_period", "last_vault_rotation", "version"), secret.Data)
	require.NoError(t, e.Login(&api.Secret{Data: secret.Data}))
	asked := e.Tenant.Requests("")
	require.Equal(t, 2, secret.VersionMetadata.Version)
	require.Equal(t, object{"team": "people"}, secret.CustomMetadata)
	metadata, err := ours.GetMetadata(ctx, "connector-creds/okta")
	require.NoError(t, err)
	like, err := beside.GetMetadata(ctx, "connector-creds/okta")
	require.NoError(t, err)
	require.Equal(t, like.CurrentVersion, metadata.CurrentVersion)
	require.Equal(t, like.OldestVersion, metadata.OldestVersion)
	require.Equal(t, like.MaxVersions, metadata.MaxVersions)
	require.Equal(t, like.CustomMetadata, metadata.CustomMetadata)
	require.Equal(t, slices.Sorted(maps.Keys(like.Versions)), slices.Sorted(maps.Keys(metadata.Versions)))
	require.WithinDuration(t, parseTime(t, plain["last_vault_rotation"]), metadata.UpdatedTime, time.Second)
	versions, err := ours.GetVersionsAsList(ctx, "connector-creds/okta")
	require.NoError(t, err)
	require.Len(t, versions, 1)

	for _, version := range []int{1, 7} {
		_, err = ours.GetVersion(ctx, "connector-creds/okta", version)
		_, expected := beside.GetVersion(ctx, "connector-creds/okta", version)
		require.ErrorIs(t, expected, api.ErrSecretNotFound)
		require.ErrorIs(t, err, api.ErrSecretNotFound)
	}
	_, err = ours.Get(ctx, "connector-creds/nobody")
	require.ErrorIs(t, err, api.ErrSecretNotFound)

	const path = "connector-creds/okta"
	for what, write := range map[string]func(*api.KVv2) error{
		"put":             func(c *api.KVv2) error { _, err := c.Put(ctx, path, object{"a": "b"}); return err },
		"patch":           func(c *api.KVv2) error { _, err := c.Patch(ctx, path, object{"a": "b"}); return err },
		"delete":          func(c *api.KVv2) error { return c.Delete(ctx, path) },
		"delete versions": func(c *api.KVv2) error { return c.DeleteVersions(ctx, path, []int{1}) },
		"undelete":        func(c *api.KVv2) error { return c.Undelete(ctx, path, []int{1}) },
		"destroy":         func(c *api.KVv2) error { return c.Destroy(ctx, path, []int{1}) },
		"put metadata":    func(c *api.KVv2) error { return c.PutMetadata(ctx, path, api.KVMetadataPutInput{MaxVersions: 5}) },
		"patch metadata": func(c *api.KVv2) error {
			return c.PatchMetadata(ctx, path, api.KVMetadataPatchInput{CustomMetadata: object{"a": "b"}})
		},
		"delete metadata": func(c *api.KVv2) error { return c.DeleteMetadata(ctx, path) },
	} {
		err := write(ours)
		require.Error(t, err, what)
		var refused *api.ResponseError
		require.ErrorAs(t, err, &refused, what)
		require.Equal(t, http.StatusBadRequest, refused.StatusCode, what)
		require.Contains(t, err.Error(), "rotate it with connectors/okta/rotate", what)
	}
	after, err := ours.Get(ctx, "connector-creds/okta")
	require.NoError(t, err)
	require.Equal(t, secret.Data, after.Data)
	require.Equal(t, asked, e.Tenant.Requests(""), "C1 was asked nothing")
	requireHealthy(t, e)
}

// probe sends one request to a mount, and returns the status and form of the answer.
func probe(t *testing.T, e *vaulttest.Engine, mount, method, path, query, body string) (status int, form any) {
	t.Helper()
	req := e.Root.NewRequest(method, "/v1/"+mount+"/"+path)
	if query != "" {
		req.Params.Set("version", query)
	}
	if body != "" {
		req.BodyBytes = []byte(body)
	}
	if method == http.MethodPatch {
		req.Headers = http.Header{"Content-Type": {"application/merge-patch+json"}}
	}
	//nolint:staticcheck // the one call that shows every status as it came
	resp, err := e.Root.RawRequestWithContext(t.Context(), req)
	require.NotNil(t, resp, "%v", err)
	defer func() { _ = resp.Body.Close() }()
	var answer any
	if resp.StatusCode == http.StatusOK {
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	}
	return resp.StatusCode, formOf(t, answer)
}

// formOf is a JSON value with the type in the place of each value. Who wrote a version
// is left out: only some servers tell, and the clock is nobody. So is what the server's
// KV engine alone has.
func formOf(t *testing.T, v any) any {
	t.Helper()
	leftOut := append([]string{"created_by", "deleted_by", "last_updated_by"}, vaulttest.ServerUnderTest(t).OwnKVMetadata()...)
	switch v := v.(type) {
	case object:
		form := object{}
		for name, value := range v {
			if !slices.Contains(leftOut, name) {
				form[name] = formOf(t, value)
			}
		}
		return form
	case []any:
		form := []any{}
		for _, value := range v {
			form = append(form, formOf(t, value))
		}
		return form
	default:
		return fmt.Sprintf("%T", v)
	}
}

func TestTheKVAPIAnswersAsAKVMountDoes(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	kv := besideKV(t, e)
	for _, ask := range []struct{ method, path, version string }{
		{"GET", "data/connector-creds/okta", ""},
		{"GET", "data/connector-creds/okta", "0"},
		{"GET", "data/connector-creds/okta", "2"},
		{"GET", "data/connector-creds/okta", "-1"},
		{"GET", "data/connector-creds/okta", "1"},
		{"GET", "data/connector-creds/okta", "3"},
		{"GET", "data/connector-creds/nobody", ""},
		{"GET", "data/connector-creds/nobody", "1"},
		{"GET", "metadata/connector-creds/okta", ""},
		{"GET", "metadata/connector-creds/nobody", ""},
		{"LIST", "metadata/connector-creds", ""},
		{"LIST", "metadata/connector-creds/", ""},
		{"LIST", "metadata/decoy-creds", ""},
		{"LIST", "metadata/nothing", ""},
		{"LIST", "metadata/connector-creds/okta", ""},
	} {
		expected, like := probe(t, e, kv, ask.method, ask.path, ask.version, "")
		status, form := probe(t, e, e.Mount, ask.method, ask.path, ask.version, "")
		require.Equal(t, expected, status, "%s %s?version=%s", ask.method, ask.path, ask.version)
		require.Equal(t, like, form, "%s %s", ask.method, ask.path)
	}
	folders, err := e.Root.Logical().List(e.Path("metadata"))
	require.NoError(t, err)
	require.Equal(t, []any{"connector-creds/", "decoy-creds/"}, folders.Data["keys"])

	before := e.MustRead("connector-creds/okta")
	for _, write := range []struct{ method, path, body string }{
		{"POST", "data/connector-creds/okta", `{"data":{"a":"b"},"options":{"cas":2}}`},
		{"PUT", "data/connector-creds/okta", `{"data":{"a":"b"}}`},
		{"PATCH", "data/connector-creds/okta", `{"data":{"c":"d"}}`},
		{"POST", "data/connector-creds/new", `{"data":{"a":"b"}}`},
		{"DELETE", "data/connector-creds/okta", ""},
		{"POST", "undelete/connector-creds/okta", `{"versions":[4]}`},
		{"POST", "delete/connector-creds/okta", `{"versions":[4]}`},
		{"PUT", "destroy/connector-creds/okta", `{"versions":[4]}`},
		{"POST", "metadata/connector-creds/okta", `{"max_versions":3}`},
		{"PATCH", "metadata/connector-creds/okta", `{"custom_metadata":{"a":"b"}}`},
		{"DELETE", "metadata/connector-creds/okta", ""},
	} {
		status, _ := probe(t, e, kv, write.method, write.path, "", write.body)
		require.Less(t, status, 300, "KV does it: %s %s", write.method, write.path)
		status, _ = probe(t, e, e.Mount, write.method, write.path, "", write.body)
		require.Equal(t, http.StatusBadRequest, status, "%s %s", write.method, write.path)
	}
	require.Equal(t, without(before.Data, "ttl"), without(e.MustRead("connector-creds/okta").Data, "ttl"))
	require.Equal(t, 2, rotations(e))
}

func TestTheKVCommandsReadAsOnAKVMount(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	kv := besideKV(t, e)
	pids := e.PluginPIDs()
	sayVersion2(t, e)
	require.NotEqual(t, pids, e.PluginPIDs(), "the guide says that it restarts the plugin")
	_, stderr, code := e.CLI("", "secrets", "enable", "-path=other", "-options=version=2", vaulttest.PluginName)
	require.NotZero(t, code)
	require.Contains(t, stderr, "does not allow setting a version", "the guide says to tune")
	run := func(mount string, args ...string) (form any, code int) {
		t.Helper()
		at := slices.IndexFunc(args, func(arg string) bool { return arg == "MOUNT" })
		args = slices.Clone(args)
		args[at] = "-mount=" + mount
		stdout, _, code := e.CLI("", args...)
		var answer any
		if json.Unmarshal([]byte(stdout), &answer) != nil {
			return nil, code
		}
		return formOf(t, answer), code
	}
	for _, command := range []string{
		"kv get -format=json MOUNT connector-creds/okta",
		"kv get -format=json -version=2 MOUNT connector-creds/okta",
		"kv get -format=json -version=1 MOUNT connector-creds/okta",
		"kv get -format=json MOUNT connector-creds/nobody",
		"kv list -format=json MOUNT connector-creds",
		"kv metadata get -format=json MOUNT connector-creds/okta",
		"kv metadata get -format=json MOUNT connector-creds/nobody",
	} {
		like, expected := run(kv, strings.Fields(command)...)
		form, code := run(e.Mount, strings.Fields(command)...)
		require.Equal(t, expected, code, command)
		require.Equal(t, like, form, command)
	}
	for _, command := range []string{
		"kv put MOUNT connector-creds/okta a=b",
		"kv patch MOUNT connector-creds/okta a=b",
		"kv delete MOUNT connector-creds/okta",
		"kv undelete -versions=3 MOUNT connector-creds/okta",
		"kv destroy -versions=3 MOUNT connector-creds/okta",
		"kv metadata put -max-versions=3 MOUNT connector-creds/okta",
		"kv metadata delete MOUNT connector-creds/okta",
	} {
		_, code := run(kv, strings.Fields(command)...)
		require.Zero(t, code, command)
		_, stderr, code = e.CLI("", strings.Fields(strings.Replace(command, "MOUNT", "-mount="+e.Mount, 1))...)
		require.NotZero(t, code, command)
		require.Contains(t, stderr, "connectors/okta/rotate", command)
	}
	require.Equal(t, 2, rotations(e))

	token := tokenFor(t, e.Server, "okta-reader", `path "c1/data/connector-creds/okta" { capabilities = ["read"] }`)
	_, stderr, code = e.CLIAs(token, "", "kv", "get", "-mount=c1", "connector-creds/okta")
	require.Zero(t, code, stderr)
}

// An Agent asks for a mount's version too, but takes kv alone for KV.
func TestVaultAgentReadsThePlainPathOfAMountThatSaysVersion2(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": "24h"})
	sayVersion2(t, e)
	dir := agentsOf(t, e, "agent-schedule", "c1-fleet")()
	e.StartAgent(dir)
	file := filepath.Join(dir, "out", "connector.env")
	vaulttest.Eventually(t, patience, func() error { return follow(t, e, file, map[string]int{}) })
	rendered, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(rendered), "# Version 1, rotated at")
}

// Who may read by one of the ways may not by another.
func TestAPolicyForTheKVAPIOpensNoOtherPath(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "okta", e.Tenant.Connector(), nil)
	bindScheduled(e, "other", e.Tenant.NewConnector("other"), nil)
	paths := []string{
		"GET connector-creds/okta", "PUT connector-creds/okta", "GET data/connector-creds/okta", "GET metadata/connector-creds/okta",
		"PUT data/connector-creds/okta", "DELETE data/connector-creds/okta", "PUT destroy/connector-creds/okta", "PUT connectors/okta/rotate",
		"GET connectors/okta", "GET data/connector-creds/other", "GET connector-creds/other", "LIST metadata/connector-creds/",
	}
	for path, allowed := range map[string]string{
		"data/connector-creds/okta":     "GET data/connector-creds/okta",
		"connector-creds/okta":          "GET connector-creds/okta",
		"metadata/connector-creds/okta": "GET metadata/connector-creds/okta",
	} {
		token := tokenFor(t, e.Server, e.Mount+"-"+strings.ReplaceAll(path, "/", "-"), fmt.Sprintf(`path %q { capabilities = ["read"] }`, e.Path(path)))
		for _, p := range paths {
			method, path, _ := strings.Cut(p, " ")
			status := ask(t, e, e.Client(token), method, path)
			if p == allowed {
				require.Equal(t, http.StatusOK, status, p)
			} else {
				require.Equal(t, http.StatusForbidden, status, "%s by a policy for %s", p, allowed)
			}
		}
	}
	// Every KV write, allowed by a policy, is refused by the engine.
	token := tokenFor(t, e.Server, e.Mount+"-all", fmt.Sprintf(`path "%s/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }`, e.Mount))
	for _, p := range paths {
		if method, path, _ := strings.Cut(p, " "); strings.Contains(path, "/connector-creds/") && method != http.MethodGet && method != "LIST" {
			require.Equal(t, http.StatusBadRequest, ask(t, e, e.Client(token), method, path), p)
		}
	}
	require.Equal(t, 2, rotations(e))
}

// What the guide tells people to type is typed here, block by block.
func TestTheCommandsForKVClientsDo(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": "24h"})
	bindScheduledDecoy(e, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), nil)
	const guide = "../docs/kv.md"
	settings, printed, typed := "", "", 0
	for _, b := range blocksOf(t, guide) {
		if !b.areCommands() {
			settings += b.text
			continue
		}
		out, err := e.Shell(t.TempDir(), b.text) // it shows the secret
		require.NoError(t, err, b)
		printed += out
		typed++
	}
	require.Equal(t, 4, typed)
	require.Contains(t, printed, "BATON_CLIENT_SECRET")
	page, err := os.ReadFile(guide)
	require.NoError(t, err)

	// The settings of baton-runner name a mount, a path and keys that are there.
	require.Contains(t, settings, "\n    mount: "+e.Mount+"\n    kvapi: 2\n")
	path := regexp.MustCompile(`\n      okta: (\S+)\n`).FindStringSubmatch(settings)
	require.Len(t, path, 2)
	e.MustWrite("connectors/okta", object{"keys_preset": "baton"})
	shown := shownByKV(t, e, path[1])
	variables := regexp.MustCompile(`(\w+): okta:(\w+)\n`).FindAllStringSubmatch(settings, -1)
	require.Len(t, variables, 2)
	for _, variable := range variables {
		require.Contains(t, shown, variable[2])
	}
	require.NoError(t, e.Tenant.Login(t.Context(), text(shown["BATON_CLIENT_ID"]), text(shown["BATON_CLIENT_SECRET"])))
	for _, preset := range []string{"baton", "bridge", "conductorone"} {
		e.MustWrite("decoys/bait", object{"keys_preset": preset})
		for key := range shownByKV(t, e, "decoy-creds/bait") {
			require.Contains(t, string(page), "`"+key+"`", "the guide lists it")
		}
	}
}
