// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Whoever gets a copy may change it.
func TestCopiesOfWhatIsRememberedShareNothing(t *testing.T) {
	t.Parallel()
	shared := func(v reflect.Value) (paths []string) {
		var walk func(path string, v reflect.Value)
		walk = func(path string, v reflect.Value) {
			switch v.Kind() {
			case reflect.Struct:
				if v.Type() == reflect.TypeFor[time.Time]() {
					return
				}
				for i := range v.NumField() {
					walk(path+"."+v.Type().Field(i).Name, v.Field(i))
				}
			case reflect.Pointer, reflect.Slice, reflect.Map:
				paths = append(paths, path)
			}
		}
		walk("", v)
		return paths
	}
	require.Equal(t, []string{".Metadata", ".Keys"}, shared(reflect.ValueOf(binding{})))
	require.Empty(t, shared(reflect.ValueOf(config{})))

	bind := &binding{Metadata: map[string]string{"team": "a"}, Keys: map[string]string{"client_id": "a"}}
	bind.copied().Metadata["team"], bind.copied().Keys["client_id"] = "b", "b"
	require.Equal(t, "a", bind.Metadata["team"])
	require.Equal(t, "a", bind.Keys["client_id"])
}

// A state is stored without what it says twice.
func TestAStateIsReadAsItWasStored(t *testing.T) {
	t.Parallel()
	e := configured(t)
	refs := []target.Ref{connectorTarget(e.scheduled("hr"))}
	for _, kind := range c1test.Kinds() {
		refs = append(refs, decoyTarget(e.scheduledDecoy("bait-"+string(kind), kind)))
	}
	leased := e.c1.NewConnector("leased")
	e.must(logical.CreateOperation, "connectors/leased", fields("app_id", leased.AppID, "connector_id", leased.ConnectorID, "rotate_on", "read"))
	e.vend("connector-creds/leased")
	for _, ref := range append(refs, connectorTarget(leased)) {
		remembered := storedState.Recall(e.b.store, stateKey(ref))
		require.NotNil(t, remembered)
		read := e.state(ref)
		before, err := json.Marshal(remembered.Current.Material)
		require.NoError(t, err)
		after, err := json.Marshal(read.Current.Material)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
		require.True(t, remembered.Newest.FinishedAt.Equal(read.Newest.FinishedAt))
		require.Equal(t, indexKeysOf(remembered.Newest), indexKeysOf(read.Newest))
	}
}

// A node that may not write gets its changes behind its back.
func TestOnlyTheNodeThatMayWriteRemembers(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	remembered := func() *target.State { return storedState.Recall(e.b.store, stateKey(connectorTarget(ref))) }
	require.Equal(t, 1, e.read("connector-creds/hr").Data["version"])
	require.NotNil(t, remembered())

	e.system.become(consts.ReplicationPerformanceStandby)
	e.b.wake()
	require.Nil(t, remembered())
	require.Equal(t, 1, e.read("connector-creds/hr").Data["version"])
	require.Nil(t, remembered())
	behindItsBack := e.state(connectorTarget(ref))
	behindItsBack.Version = 2
	require.NoError(t, writeState(context.Background(), e.disk(), behindItsBack))
	require.Equal(t, 2, e.read("connector-creds/hr").Data["version"])
}

func TestInvalidatedEntriesAreReadAgain(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	e.read("connector-creds/hr")
	restored := e.state(connectorTarget(ref))
	restored.Version = 7
	require.NoError(t, writeState(context.Background(), e.disk(), restored))
	e.b.InvalidateKey(context.Background(), e.keyOf(stateKey(connectorTarget(ref))))
	require.Equal(t, 7, e.read("connector-creds/hr").Data["version"])

	require.NoError(t, e.disk().Remove(context.Background(), bindingKey(target.Connector, "hr")))
	e.b.InvalidateKey(context.Background(), e.keyOf(bindingKey(target.Connector, "hr")))
	require.Equal(t, http.StatusBadRequest, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
}

// Exact, per request: what Vault is asked for, each time a call from process to
// process. The first on a mount that has just started has more to read, two of
// them for what entries are named with.
func TestCallsToVaultPerRequest(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("shared")
	other := e.c1.NewConnector("other")
	e.must(logical.CreateOperation, "connectors/own", fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "read"))
	for _, cost := range []struct {
		name         string
		op           logical.Operation
		path         string
		first, later operations
		system       int // questions about the mount and the node
	}{
		{"a scheduled read", logical.ReadOperation, "connector-creds/shared", operations{gets: 4}, operations{}, 0},
		{"the same by the KV API", logical.ReadOperation, "data/connector-creds/shared", operations{gets: 4}, operations{}, 0},
		{"what the KV API says of it", logical.ReadOperation, "metadata/connector-creds/shared", operations{gets: 4}, operations{}, 0},
		{"a scheduled rotation", logical.UpdateOperation, "connectors/shared/rotate", operations{gets: 5, puts: 8, deletes: 1}, operations{puts: 8, deletes: 1}, 0},
		{"a leased rotation", logical.ReadOperation, "connector-creds/own", operations{gets: 5, puts: 6}, operations{puts: 7}, 3},
		{"a binding's read", logical.ReadOperation, "connectors/own", operations{gets: 4}, operations{}, 0},
	} {
		e.restart()
		e.storage.operations()
		e.must(cost.op, cost.path, nil)
		e.b.work.Wait() // what is done behind the answer counts too
		require.Equal(t, cost.first, e.storage.operations(), "%s, the first", cost.name)
		e.system.questions()
		e.must(cost.op, cost.path, nil)
		e.b.work.Wait()
		require.Equal(t, cost.later, e.storage.operations(), cost.name)
		require.Equal(t, cost.system, e.system.questions(), cost.name)
	}
	require.Equal(t, 5, e.c1.Requests(c1test.OpRotateConnector))
}
