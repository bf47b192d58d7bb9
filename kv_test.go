// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// kvData reads a binding by the KV API and returns what is below data.
func (e *engine) kvData(path string) map[string]any {
	e.Helper()
	return e.read("data/" + path).Data["data"].(map[string]any)
}

func TestTheKVAPIShowsWhatAScheduledReadVends(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "rotation_period", "24h", "metadata", map[string]any{"team": "people"})
	plain := e.read("connector-creds/hr")
	require.True(t, e.alive(plain))

	resp := e.read("data/connector-creds/hr")
	for field := range plain.Data {
		switch field {
		case "ttl", "rotation_period", "last_vault_rotation", "version":
			require.NotContains(t, resp.Data["data"], field, "no client takes it for a part of the secret")
		default:
			require.Equal(t, plain.Data[field], resp.Data["data"].(map[string]any)[field])
			require.IsType(t, "", plain.Data[field])
		}
	}
	created := e.state(connectorTarget(e.c1.Connector())).Current.RotatedAt.UTC().Format(time.RFC3339Nano)
	require.Equal(t, map[string]any{
		"created_time": created, "custom_metadata": map[string]string{"team": "people"}, "deletion_time": "", "destroyed": false, "version": 1,
	}, resp.Data["metadata"])
	require.Equal(t, map[string]any{
		"current_version": 1, "oldest_version": 1, "max_versions": 1, "created_time": created, "updated_time": created,
		"versions":        map[string]any{"1": map[string]any{"created_time": created, "deletion_time": "", "destroyed": false}},
		"custom_metadata": map[string]string{"team": "people"}, "cas_required": false, "delete_version_after": "0s",
	}, e.read("metadata/connector-creds/hr").Data)
	require.Nil(t, resp.Secret)

	e.write("connectors/hr", "metadata", map[string]any{})
	require.Nil(t, e.read("data/connector-creds/hr").Data["metadata"].(map[string]any)["custom_metadata"])
	require.Nil(t, e.read("metadata/connector-creds/hr").Data["custom_metadata"])
}

func TestNothingInTheKVAPIChangesBetweenRotations(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "rotation_period", "24h")
	paths := []string{"data/connector-creds/hr", "metadata/connector-creds/hr"}
	asked := e.c1.Requests("")
	for _, path := range paths {
		first := e.read(path)
		e.clock.advance(7 * time.Hour)
		require.Equal(t, first, e.read(path))
		e.clock.advance(20 * time.Hour) // overdue, of which a plain read warns
		require.Equal(t, first, e.read(path))
		e.restart()
		require.Equal(t, first, e.read(path), "it is the same from storage")
		e.clock.advance(-27 * time.Hour)
	}
	require.Equal(t, asked, e.c1.Requests(""), "C1 is not asked")
	before := e.kvData("connector-creds/hr")
	e.write("connectors/hr/rotate")
	require.NotEqual(t, before["client_secret"], e.kvData("connector-creds/hr")["client_secret"])
	require.Equal(t, 2, e.read("metadata/connector-creds/hr").Data["current_version"])
}

func TestTheKVAPIKnowsTheCurrentVersionAlone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.write("connectors/hr/rotate")
	for version, there := range map[any]bool{0: true, 2: true, "2": true, "0": true, 1: false, 3: false, "1": false, -1: true} {
		resp := e.must(logical.ReadOperation, "data/connector-creds/hr", fields("version", version))
		require.Equal(t, there, resp != nil, "version %v", version)
	}
	f := e.refused(logical.ReadOperation, "data/connector-creds/hr", fields("version", "newest"))
	require.Equal(t, http.StatusBadRequest, f.status)
	for _, path := range []string{"data/connector-creds/nobody", "metadata/connector-creds/nobody", "data/decoy-creds/hr", "metadata/decoy-creds/hr"} {
		require.Nil(t, e.read(path), "KV has a 404 without a word for what is not there")
	}
}

func TestAReadByTheKVAPINeverRotates(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("leased")
	e.bindDecoy("planted", c1test.KindAccessToken)
	other := e.c1.NewConnector("skipped")
	e.must(logical.CreateOperation, "connectors/skipped",
		fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "schedule", "skip_initial_rotation", true))
	entries := e.entries()
	for path, says := range map[string]string{
		"connector-creds/leased":  "has rotate_on=read",
		"decoy-creds/planted":     "has rotate_on=write",
		"connector-creds/skipped": "has no material yet",
	} {
		for _, folder := range []string{"data/", "metadata/"} {
			f := e.refused(logical.ReadOperation, folder+path, nil)
			require.Equal(t, http.StatusBadRequest, f.status)
			require.Contains(t, f.message, says)
			require.Contains(t, f.message, path, "the way out")
		}
	}
	require.Equal(t, entries, e.entries())
	require.Zero(t, e.c1.Requests(c1test.OpRotateConnector)+e.c1.Requests(c1test.OpRotateDecoy))
}

func TestEveryKVWriteIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	requests, entries := e.c1.Requests(""), e.entries()
	value := map[string]any{"client_secret": "mine"}
	for _, w := range []struct {
		op   logical.Operation
		path string
		data map[string]any
	}{
		{logical.CreateOperation, "data/connector-creds/hr", fields("data", value, "options", map[string]any{"cas": 1})},
		{logical.UpdateOperation, "data/connector-creds/hr", fields("data", value)},
		{logical.UpdateOperation, "data/connector-creds/hr", nil},
		{logical.PatchOperation, "data/connector-creds/hr", fields("data", value)},
		{logical.DeleteOperation, "data/connector-creds/hr", nil},
		{logical.UpdateOperation, "delete/connector-creds/hr", fields("versions", []any{1})},
		{logical.UpdateOperation, "undelete/connector-creds/hr", fields("versions", []any{1})},
		{logical.UpdateOperation, "destroy/connector-creds/hr", fields("versions", []any{1})},
		{logical.UpdateOperation, "metadata/connector-creds/hr", fields("max_versions", 3, "custom_metadata", value)},
		{logical.PatchOperation, "metadata/connector-creds/hr", fields("custom_metadata", value)},
		{logical.DeleteOperation, "metadata/connector-creds/hr", nil},
	} {
		for path, says := range map[string]string{
			w.path: "connectors/hr/rotate",
			strings.Replace(w.path, "connector-creds/hr", "decoy-creds/new", 1): "decoys/new/rotate",
			strings.Replace(w.path, "connector-creds/hr", "app/db", 1):          "connectors/ and decoys/",
			strings.Replace(w.path, "connector-creds/hr", "", 1):                "connectors/ and decoys/",
		} {
			f := e.refused(w.op, path, w.data)
			require.Equal(t, http.StatusBadRequest, f.status, "%s %s", w.op, path)
			require.Contains(t, f.message, "read-only")
			require.Contains(t, f.message, says)
			require.NotContains(t, f.message, "mine")
		}
	}
	require.Equal(t, entries, e.entries())
	require.Equal(t, requests, e.c1.Requests(""))
}

func TestTheKVAPIListsScheduledBindingsAlone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	list := func(path string, pairs ...any) any {
		return e.must(logical.ListOperation, path, fields(pairs...)).Data["keys"]
	}
	require.Nil(t, list("metadata/connector-creds/"), "an empty list is a 404, as KV's")
	e.bindConnector("leased")
	for _, name := range []string{"b", "a", "c"} {
		ref := e.c1.NewConnector(name)
		e.must(logical.CreateOperation, "connectors/"+name, fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "schedule"))
	}
	e.scheduledDecoy("bait", c1test.KindAccessToken)
	require.Equal(t, []string{"connector-creds/", "decoy-creds/"}, list("metadata/"))
	require.Equal(t, []string{"connector-creds/", "decoy-creds/"}, list("metadata"))
	require.Equal(t, []string{"a", "b", "c"}, list("metadata/connector-creds/"))
	require.Equal(t, []string{"a", "b", "c"}, list("metadata/connector-creds"))
	require.Equal(t, []string{"bait"}, list("metadata/decoy-creds/"))
	require.Equal(t, []string{"b"}, list("metadata/connector-creds/", "after", "a", "limit", 1))
	require.Contains(t, e.refused(logical.ListOperation, "metadata/connector-creds", fields("limit", 0)).message, "limit")

	e.restart()
	require.NoError(t, e.storage.Storage.Put(t.Context(), &logical.StorageEntry{Key: e.keyOf(bindingKey(target.Connector, "b")), Value: []byte("damaged")}))
	require.Equal(t, []string{"a", "c"}, list("metadata/connector-creds/"), "a damaged one hides no other")
	e.restart()
	e.storage.failWhen(func(op, key string) bool { return op == "get" && strings.HasPrefix(key, bindingPrefix) })
	require.Equal(t, http.StatusInternalServerError, e.refused(logical.ListOperation, "metadata/connector-creds", nil).status)
}

func TestFailingStorageFailsTheKVAPI(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	for _, broken := range []string{bindingPrefix, targetPrefix} {
		for _, path := range []string{"data/connector-creds/hr", "metadata/connector-creds/hr"} {
			e.restart()
			e.storage.failWhen(func(op, key string) bool { return op == "get" && strings.HasPrefix(key, broken) })
			require.Equal(t, http.StatusInternalServerError, e.refused(logical.ReadOperation, path, nil).status)
			e.storage.failWhen(nil)
			require.NotNil(t, e.read(path))
		}
	}
}

func TestAStandbyAnswersTheKVAPIAndForwardsWhatItCannot(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr")
	e.scheduledDecoy("wrapped", c1test.KindAccessToken, "wrap_ttl", "1m")
	e.onStandby()
	require.NotEmpty(t, e.kvData("connector-creds/hr")["client_secret"])
	require.NotNil(t, e.read("metadata/connector-creds/hr"))
	wrapping := newRequest(logical.ReadOperation, "data/connector-creds/hr", nil)
	wrapping.WrapInfo = &logical.RequestWrapInfo{TTL: time.Minute}
	for _, req := range []*logical.Request{
		wrapping,
		newRequest(logical.ReadOperation, "data/decoy-creds/wrapped", nil),
		newRequest(logical.ReadOperation, "data/connector-creds/unknown", nil),
	} {
		req.Storage = e.storage
		_, err := e.b.HandleRequest(t.Context(), req)
		require.Equal(t, logical.ErrReadOnly, err)
	}
}

func TestTheKVAPIWrapsWhatTheBindingWraps(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "wrap_ttl", "70s")
	require.Equal(t, &wrapping.ResponseWrapInfo{TTL: 70 * time.Second}, e.read("data/connector-creds/hr").WrapInfo)
	require.Equal(t, &wrapping.ResponseWrapInfo{TTL: 70 * time.Second}, e.must(logical.ReadOperation, "data/connector-creds/hr", fields("version", 1)).WrapInfo)
}

func TestKeysNameWhatTheKVAPIShowsAndNothingElse(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "keys", map[string]any{"client_id": "C1_ID", "client_secret": "C1_SECRET"})
	plain := e.read("connector-creds/hr")
	require.Equal(t, map[string]any{"C1_ID": plain.Data["client_id"], "C1_SECRET": plain.Data["client_secret"]}, e.kvData("connector-creds/hr"))
	require.Equal(t, map[string]string{"client_id": "C1_ID", "client_secret": "C1_SECRET"}, e.read("connectors/hr").Data["keys"])
	require.Contains(t, plain.Data, "fingerprint_sha256", "a plain read is as it was")

	for written, want := range map[string]map[string]any{
		"baton":        {"BATON_CLIENT_ID": plain.Data["client_id"], "BATON_CLIENT_SECRET": plain.Data["client_secret"]},
		"bridge":       {"C1_BRIDGE_CLIENT_ID": plain.Data["client_id"], "C1_BRIDGE_CLIENT_SECRET": plain.Data["client_secret"]},
		"conductorone": {"CONDUCTORONE_CLIENT_ID": plain.Data["client_id"], "CONDUCTORONE_CLIENT_SECRET": plain.Data["client_secret"]},
	} {
		e.write("connectors/hr", "keys_preset", written)
		require.Equal(t, want, e.kvData("connector-creds/hr"))
		require.Equal(t, written, e.read("connectors/hr").Data["keys_preset"])
		require.Empty(t, e.read("connectors/hr").Data["keys"], "the preset takes its place")
	}
	e.write("connectors/hr", "keys", "client_secret=C1_SECRET,client_id=C1_ID") // as the CLI sends it
	require.Equal(t, map[string]any{"C1_ID": plain.Data["client_id"], "C1_SECRET": plain.Data["client_secret"]}, e.kvData("connector-creds/hr"))
	require.Empty(t, e.read("connectors/hr").Data["keys_preset"], "and the other way round")
	e.write("connectors/hr", "keys", []any{"client_secret=A", "client_id=B,app_id=C"})
	require.Equal(t, map[string]string{"client_secret": "A", "client_id": "B", "app_id": "C"}, e.read("connectors/hr").Data["keys"])
	e.write("connectors/hr", "cooldown", "1s")
	require.Len(t, e.kvData("connector-creds/hr"), 3, "fields not given stay")
	e.write("connectors/hr", "keys", "", "metadata", "")
	require.Contains(t, e.kvData("connector-creds/hr"), "client_secret")
	e.write("connectors/hr", "keys", map[string]any{})
	require.Contains(t, e.kvData("connector-creds/hr"), "client_secret")
	e.write("connectors/hr", "keys_preset", "baton")
	e.write("connectors/hr", "keys_preset", "")
	require.Contains(t, e.kvData("connector-creds/hr"), "client_secret")

	e.write("connectors/hr", "keys_preset", "baton")
	e.write("connectors/hr", "rotate_on", "write")
	require.Empty(t, e.read("connectors/hr").Data["keys_preset"], "they go with the schedule")
	require.Equal(t, 1, e.c1.Requests(c1test.OpRotateConnector))
}

func TestADecoysKeysAreThoseOfTheRealThing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduledDecoy("connector", c1test.KindConnectorClient, "keys_preset", "baton")
	e.scheduledDecoy("token", c1test.KindAccessToken, "keys", map[string]any{"access_token": "TOKEN"})
	e.scheduledDecoy("person", c1test.KindUserClientCredential, "keys_preset", "conductorone")
	require.Equal(t, map[string]any{
		"BATON_CLIENT_ID": e.read("decoy-creds/connector").Data["client_id"], "BATON_CLIENT_SECRET": e.read("decoy-creds/connector").Data["client_secret"],
	}, e.kvData("decoy-creds/connector"))
	token := e.read("decoy-creds/token").Data["access_token"]
	require.Equal(t, map[string]any{"TOKEN": token}, e.kvData("decoy-creds/token"))
	require.Len(t, e.kvData("decoy-creds/person"), 2)
	e.write("decoys/token", "keys_preset", "conductorone")
	require.Equal(t, map[string]any{"CONDUCTORONE_ACCESS_TOKEN": token}, e.kvData("decoy-creds/token"))
	for _, name := range []string{"connector", "token", "person"} {
		resp := e.read("data/decoy-creds/" + name)
		require.Empty(t, resp.Warnings)
		require.NotContains(t, strings.ToLower(fmt.Sprint(resp.Data)), "decoy")
	}
}

func TestBadKeysAreRefusedByNameAndChangeNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "keys", map[string]any{"client_secret": "KEPT"})
	e.scheduledDecoy("client", c1test.KindConnectorClient)
	e.scheduledDecoy("token", c1test.KindAccessToken)
	e.scheduledDecoy("trust", c1test.KindWorkloadFederation)
	entries := e.entries()
	secret := func(name string) map[string]any { return map[string]any{"client_secret": name} }
	for name, tc := range map[string]struct {
		path string
		data []any
		says string
	}{
		"unknown field":           {"connectors/hr", []any{"keys", map[string]any{"client_secret": "A", "password": "B"}}, `"password" is not text`},
		"a number":                {"connectors/hr", []any{"keys", map[string]any{"client_secret": "A", "version": "B"}}, `"version" is not text`},
		"another kind's field":    {"connectors/hr", []any{"keys", map[string]any{"client_secret": "A", "access_token": "B"}}, `"access_token" is not text`},
		"a map":                   {"decoys/client", []any{"keys", map[string]any{"client_secret": "A", "annotations": "B"}}, `"annotations" is not text`},
		"another decoy's field":   {"decoys/client", []any{"keys", map[string]any{"access_token": "A"}}, `"access_token" is not text`},
		"a token's client":        {"decoys/token", []any{"keys", map[string]any{"client_id": "A", "access_token": "B"}}, `"client_id" is not text`},
		"no secret":               {"connectors/hr", []any{"keys", map[string]any{"client_id": "A"}}, "add client_secret"},
		"a trust has none":        {"decoys/trust", []any{"keys", map[string]any{"workload_federation_trust_id": "A"}}, "leave keys out"},
		"two of one name":         {"connectors/hr", []any{"keys", map[string]any{"client_id": "A", "client_secret": "A"}}, `"A" is the name for both client_id and client_secret`},
		"a field twice":           {"connectors/hr", []any{"keys", "client_secret=A,client_secret=B"}, `names "client_secret" twice`},
		"a field twice in a list": {"connectors/hr", []any{"keys", []any{"client_secret=A", "client_secret=B"}}, `names "client_secret" twice`},
		"empty name":              {"connectors/hr", []any{"keys", secret("")}, "is empty"},
		"equals sign":             {"connectors/hr", []any{"keys", secret("A=B")}, "holds a `=`"},
		"a pair and a half":       {"connectors/hr", []any{"keys", "client_secret=A,client_id"}, `"client_id" is not a pair`},
		"control character":       {"connectors/hr", []any{"keys", secret("A\nB")}, "U+000A"},
		"not UTF-8":               {"connectors/hr", []any{"keys", secret("A\xff")}, "UTF-8"},
		"too long":                {"connectors/hr", []any{"keys", secret(strings.Repeat("A", 129))}, "at most 128"},
		"not pairs":               {"connectors/hr", []any{"keys", 7}, "keys: must be pairs"},
		"both":                    {"connectors/hr", []any{"keys", secret("A"), "keys_preset", "baton"}, "exclude each other"},
		"unknown preset":          {"connectors/hr", []any{"keys_preset", "okta"}, "baton, bridge or conductorone"},
		"a preset without tokens": {"decoys/token", []any{"keys_preset", "baton"}, "keys_preset=baton has no name"},
		"a preset of a trust":     {"decoys/trust", []any{"keys_preset", "conductorone"}, "has no name"},
		"not on schedule":         {"connectors/hr", []any{"rotate_on", "read", "keys", secret("A")}, "keys goes with rotate_on=schedule"},
		"a preset on a write":     {"decoys/client", []any{"rotate_on", "write", "keys_preset", "baton"}, "keys_preset goes with rotate_on=schedule"},
	} {
		f := e.refused(logical.UpdateOperation, tc.path, fields(tc.data...))
		require.Equal(t, http.StatusBadRequest, f.status, name)
		require.Contains(t, f.message, tc.says, name)
	}
	require.Equal(t, entries, e.entries())
	e.write("connectors/hr", "keys", secret(strings.Repeat("A", 128)))
	e.write("connectors/hr", "keys", secret("tls.key"))
	require.Contains(t, e.kvData("connector-creds/hr"), "tls.key")
}

// Without a look at C1 nobody knows what the material will be.
func TestUnverifiedKeysThatDoNotFitAreToldAndShowNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	resp := e.must(logical.CreateOperation, "decoys/token", fields("decoy_id", e.c1.Decoy(c1test.KindAccessToken), "rotate_on", "schedule",
		"verify", false, "keys", map[string]any{"client_secret": "A"}))
	require.Contains(t, resp.Warnings[len(resp.Warnings)-1], `"client_secret" is not text`)
	f := e.refused(logical.ReadOperation, "data/decoy-creds/token", nil)
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, `"client_secret" is not text`)
	require.NotEmpty(t, e.read("decoy-creds/token").Data["access_token"])
}

// What can be named is what is vended as text, no more and no less.
func TestNameableFieldsAreThoseThatAreVended(t *testing.T) {
	t.Parallel()
	texts := func(schema map[string]*framework.FieldSchema) (names []string) {
		for name, field := range schema {
			if field.Type == framework.TypeString {
				names = append(names, name)
			}
		}
		return names
	}
	require.ElementsMatch(t, texts(connectorCredsFields()), textFields(target.Connector, ""))
	require.ElementsMatch(t, texts(decoyCredsFields()), textFields(target.Decoy, ""))
	e := configured(t)
	for _, kind := range c1test.Kinds() {
		name := strings.ToLower(string(kind))
		e.scheduledDecoy(name, kind)
		plain := e.read("decoy-creds/" + name).Data
		shown := e.kvData("decoy-creds/" + name)
		require.Len(t, shown, len(textFields(target.Decoy, plain["material_type"].(string))))
		for _, field := range textFields(target.Decoy, plain["material_type"].(string)) {
			require.Equal(t, plain[field], shown[field])
		}
	}
}
