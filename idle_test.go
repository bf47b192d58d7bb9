// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// schemasOf are what a mount says of fields and answers, by path and operation or secret.
func schemasOf(mount *framework.Backend) map[string]any {
	all := map[string]any{}
	for _, path := range mount.Paths {
		at := path.Pattern + " "
		all[at+"fields"], all[at+"display"] = path.Fields, path.DisplayAttrs
		for op, handler := range path.Operations {
			operation := handler.(*framework.PathOperation)
			all[at+string(op)], all[at+string(op)+" display"] = operation.Responses, operation.DisplayAttrs
		}
	}
	for _, secret := range mount.Secrets {
		all[secret.Type] = secret.Fields
	}
	return all
}

// Requests leave what all mounts share as it was built.
func TestMountsShareTheirPathsAndSecrets(t *testing.T) {
	t.Parallel()
	one, other := configured(t), newEngine(t)
	one.bindConnector("hr")
	one.vend("connector-creds/hr")
	_, err := one.do(t.Context(), newRequest(logical.HelpOperation, "", nil)) // with the OpenAPI document
	require.NoError(t, err)
	require.Equal(t, len(one.b.Paths), len(other.b.Paths))
	for i, path := range one.b.Paths {
		require.Same(t, path, other.b.Paths[i])
	}
	shared, same := schemasOf(one.b.Backend), schemasOf(other.b.Backend)
	require.Equal(t, schemasOf(&framework.Backend{Paths: anchoredPaths(), Secrets: allSecrets()}), shared)
	for what, schema := range shared {
		require.Equal(t, reflect.ValueOf(schema).Pointer(), reflect.ValueOf(same[what]).Pointer(), what)
	}
}

// Paths are shared, what they answer is not.
func TestEachMountAnswersForItself(t *testing.T) {
	t.Parallel()
	one, other := configured(t), newEngine(t)
	one.bindConnector("hr")
	require.Equal(t, []string{"hr"}, one.must(logical.ListOperation, "connectors/", nil).Data["keys"])
	require.Empty(t, other.must(logical.ListOperation, "connectors/", nil).Data["keys"])
	for e, found := range map[*engine]bool{one: true, other: false} {
		for _, path := range []string{"config", "connectors/hr"} {
			req := newRequest(logical.CreateOperation, path, nil)
			req.Storage = e.storage
			_, exists, err := e.b.HandleExistenceCheck(t.Context(), req)
			require.NoError(t, err)
			require.Equal(t, found, exists, path)
		}
	}
}

// BenchmarkIdleMount says what one mount of many holds on the heap while nobody asks
// it for anything: with a config, and a scheduled binding that was rotated once. What
// lies in storage does not count, nor what the plugin protocol takes.
//
//	go test -run '^$' -bench IdleMount -benchtime 1x .
func BenchmarkIdleMount(b *testing.B) {
	const mounts = 50
	emu, err := c1test.Start(c1test.Options{Offline: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, emu.Close()) })
	var perMount uint64
	for range b.N {
		all := make([]*backend, mounts)
		for i := range all {
			all[i] = idleMount(b, emu.Default(), fmt.Sprintf("idle-%d", i))
		}
		with := liveHeap()
		for i, mount := range all {
			mount.Cleanup(context.Background())
			all[i] = nil
		}
		perMount = (with - liveHeap()) / mounts
		runtime.KeepAlive(all)
	}
	b.ReportMetric(float64(perMount), "B/mount")
}

// idleMount is a mount whose storage outlives it.
func idleMount(b *testing.B, tenant *c1test.Tenant, name string) *backend {
	b.Helper()
	storage := &logical.InmemStorage{}
	b.Cleanup(func() { runtime.KeepAlive(storage) })
	mount := newBackend(testVersion, seams{transport: tenant})
	require.NoError(b, mount.Setup(context.Background(), &logical.BackendConfig{
		StorageView: storage, System: newSystem(), Logger: hclog.NewNullLogger(),
	}))
	mount.mayWrite() // as Initialize, but without a worker
	write := func(op logical.Operation, path string, pairs ...any) {
		req := newRequest(op, path, fields(pairs...))
		req.Storage = storage
		resp, err := mount.HandleRequest(context.Background(), req)
		require.NoError(b, err)
		require.False(b, resp.IsError(), resp)
	}
	id, ref := tenant.Identity(), tenant.NewConnector(name)
	write(logical.UpdateOperation, "config", "client_id", id.ClientID, "client_secret", id.ClientSecret, "url", tenant.URL())
	write(logical.CreateOperation, "connectors/idle", "app_id", ref.AppID, "connector_id", ref.ConnectorID,
		"rotate_on", "schedule", "rotation_period", "24h")
	return mount
}

// liveHeap is what is in use once the garbage is gone.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what a finaliser held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
