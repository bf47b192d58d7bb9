// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// damages are a JSON document with one thing missing, empty or of another type
// in each, and worse.
func damages(t *testing.T, whole []byte) map[string][]byte {
	t.Helper()
	var doc map[string]any
	require.NoError(t, json.Unmarshal(whole, &doc))
	all := map[string][]byte{
		"no entry": nil, "empty": {}, "null": []byte("null"), "garbage": []byte("garbage"), "half": whole[:len(whole)/2],
	}
	add := func(what string) {
		raw, err := json.Marshal(doc)
		require.NoError(t, err)
		all[what] = raw
	}
	var each func(path string, value any, set func(any), remove func())
	each = func(path string, value any, set func(any), remove func()) {
		remove()
		add(path + " is missing")
		for what, other := range map[string]any{"null": nil, "empty": "", "a list": []any{}, "negative": -1, "a huge number": 1e12} {
			set(other)
			add(path + " is " + what)
		}
		set(value)
		switch value := value.(type) {
		case map[string]any:
			for key, inner := range maps.Clone(value) {
				each(path+"."+key, inner, func(v any) { value[key] = v }, func() { delete(value, key) })
			}
		case []any:
			for i, inner := range value {
				each(path+"[]", inner, func(v any) { value[i] = v }, func() { value[i] = map[string]any{} })
			}
		}
	}
	for key, value := range maps.Clone(doc) {
		each(key, value, func(v any) { doc[key] = v }, func() { delete(doc, key) })
	}
	return all
}

// Whatever is wrong with what is stored of a target, nothing panics: not the end
// of its lease, not the worker, nor anything that somebody asks. Other targets
// do not notice.
func TestDamagedStateNeverPanics(t *testing.T) {
	t.Parallel()
	for name, bind := range map[string]func(e *engine) (target.Ref, string){
		"a leased connector": func(e *engine) (target.Ref, string) {
			return connectorTarget(e.bindConnector("x")), "connector-creds/x"
		},
		"a leased decoy that its lease ends": func(e *engine) (target.Ref, string) {
			return decoyTarget(e.bindDecoy("x", c1test.KindUserClientCredential, "on_lease_end", "rotate")), "decoy-creds/x"
		},
		"a scheduled connector": func(e *engine) (target.Ref, string) {
			return connectorTarget(e.bindConnector("x", "rotate_on", "schedule", "rotation_period", "1h", "grace_period", "1m")), "connector-creds/x"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			ref, creds := bind(e)
			e.bindDecoy("other", c1test.KindAccessToken)
			leased := e.write(creds).Secret
			fingerprint := e.state(ref).Current.Fingerprint
			if leased == nil { // of a time before it was scheduled
				leased = &logical.Secret{InternalData: e.leaseData(ref, 1)}
			}
			e.write(creds)
			e.b.work.Wait()
			key := e.keyOf(stateKey(ref))
			entry, err := e.storage.Get(t.Context(), key)
			require.NoError(t, err)
			for what, damaged := range damages(t, entry.Value) {
				e.damage(key, damaged)
				require.NotPanics(t, func() { e.useAll(ref, creds, leased, fingerprint) }, what)
				for line := range strings.Lines(e.logs.String()) {
					require.NotContains(t, line, "panic", what)
				}
				e.write("decoy-creds/other")
			}
			e.damage(key, entry.Value)
			require.Equal(t, true, e.write(creds).Data["version"].(int) > 2)
		})
	}
}

// A damaged state is told where somebody looks, and hides nobody else's.
func TestUnreadableStateNeedsAPersonAndSparesTheOthers(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true})
	damaged, other := connectorTarget(e.bindConnector("damaged")), e.c1.NewConnector("other")
	e.must(logical.CreateOperation, "connectors/other", fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "read"))
	for _, name := range []string{"damaged", "other"} {
		e.refused(logical.ReadOperation, "connector-creds/"+name, nil)
	}
	key := e.keyOf(stateKey(damaged))
	e.damage(key, []byte(`{"format":1,"ref":`))
	status := e.read("status").Data
	require.Equal(t, 2, status["ambiguous"])
	require.Equal(t, false, status["healthy"])
	require.Contains(t, fmt.Sprint(status["attention"]), "stored state of a target ("+key+") cannot be read")
	require.Contains(t, fmt.Sprint(status["attention"]), other.ConnectorID)

	e.c1.ClearFaults()
	for _, path := range []string{"connectors/damaged", "connectors/damaged/history", "connector-creds/damaged"} {
		f := e.refused(logical.ReadOperation, path, nil)
		require.Equal(t, http.StatusInternalServerError, f.status, path)
		require.Contains(t, f.message, "stored state of a target", path)
	}
	require.Contains(t, e.refused(logical.DeleteOperation, "config", nil).message, "while bindings exist")
	e.vend("connector-creds/other")
	e.after(10 * time.Minute)
	require.Equal(t, false, e.read("status").Data["healthy"])
	entry, err := e.storage.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, `{"format":1,"ref":`, string(entry.Value), "it is as it was")
}

func TestUnreadablePointerHidesNoOtherMatch(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	whole := e.vend("connector-creds/hr").Data["fingerprint_sha256"].(string)
	twin := fingerprintKey(whole[:20] + strings.Repeat("0", 44))
	require.NoError(t, storedPointer.Write(t.Context(), e.b.store, twin, &pointer{Ref: decoyTarget("twin"), Version: 1}))
	e.damage(e.keyOf(twin), []byte("{"))
	resp := e.write("lookup", "fingerprint_prefix", whole[:16])
	require.Equal(t, "hr", resp.Data["binding"])
	require.Contains(t, resp.Warnings[0], "stored pointer to a record ("+e.keyOf(twin)+") cannot be read")

	e.damage(e.keyOf(fingerprintKey(whole)), []byte("null"))
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup", fields("fingerprint_prefix", whole[:16])).message, "stored pointer to a record")
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup", fields("fingerprint_sha256", whole)).message, "stored pointer to a record")
}

func TestDisabledMountEndsWhatItCanStillRead(t *testing.T) {
	t.Parallel()
	e := configured(t)
	var targets []target.Ref
	for i := range 5 {
		ref := e.c1.NewConnector("c")
		name := fmt.Sprintf("c%d", i)
		e.must(logical.CreateOperation, "connectors/"+name, fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "read"))
		e.vend("connector-creds/" + name)
		targets = append(targets, connectorTarget(ref))
	}
	e.damage(e.keyOf(stateKey(targets[0])), []byte("{"))
	e.system.taint()
	e.b.Cleanup(context.Background())
	for i, ref := range targets {
		alive := e.c1.AliveCredentials(c1test.ConnectorRef{AppID: ref.AppID, ConnectorID: ref.ConnectorID})
		require.Equal(t, i == 0, len(alive) == 1, "%d", i)
	}
	require.Contains(t, e.logs.String(), "could not read what is still alive at C1")
}

// An old plugin beside what a newer one has stored.
func TestNewerFormatsAreRefusedAndLeftAsTheyAre(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := connectorTarget(e.bindConnector("hr"))
	vended := e.vend("connector-creds/hr")
	e.b.work.Wait()
	fingerprint := vended.Data["fingerprint_sha256"].(string)
	for key, requests := range map[store.Key][]*logical.Request{
		store.Fixed(configKey): {
			newRequest(logical.ReadOperation, "config", nil), newRequest(logical.UpdateOperation, "config", e.identity(e.c1)),
			newRequest(logical.DeleteOperation, "config", nil), newRequest(logical.ReadOperation, "connector-creds/hr", nil),
			newRequest(logical.ReadOperation, "status", nil), newRequest(logical.UpdateOperation, "connectors/hr", fields("cooldown", "1h")),
		},
		bindingKey(target.Connector, "hr"): {
			newRequest(logical.ReadOperation, "connectors/hr", nil), newRequest(logical.UpdateOperation, "connectors/hr", fields("cooldown", "1h")),
			newRequest(logical.DeleteOperation, "connectors/hr", nil), newRequest(logical.ReadOperation, "connector-creds/hr", nil),
		},
		stateKey(ref): {
			newRequest(logical.ReadOperation, "connectors/hr", nil), newRequest(logical.UpdateOperation, "connectors/hr", fields("cooldown", "1h")),
			newRequest(logical.DeleteOperation, "connectors/hr", nil), newRequest(logical.ReadOperation, "connector-creds/hr", nil),
		},
		fingerprintKey(fingerprint): {
			newRequest(logical.UpdateOperation, "lookup", fields("fingerprint_sha256", fingerprint)),
			newRequest(logical.UpdateOperation, "lookup", fields("fingerprint_prefix", fingerprint[:12])),
		},
	} {
		raw := e.keyOf(key)
		entry, err := e.storage.Get(t.Context(), raw)
		require.NoError(t, err)
		old := entry.Value
		e.damage(raw, bytes.Replace(old, []byte(`"format":1`), []byte(`"format":2`), 1))
		before, rotations := e.entries(), e.c1.Requests(c1test.OpRotateConnector)
		for _, req := range requests {
			f := e.refusedRequest(t.Context(), req)
			require.Contains(t, f.message, "it has format 2, and version "+testVersion+" of the plugin reads formats up to 1", "%s %s", req.Operation, req.Path)
		}
		require.Equal(t, before, e.entries(), raw)
		require.Equal(t, rotations, e.c1.Requests(c1test.OpRotateConnector))
		e.damage(raw, old)
	}
	e.damage(agenda.WatermarkKey, []byte(`{"format":2,"minute":1}`))
	require.Contains(t, e.refused(logical.ReadOperation, "status", nil).message, "stored watermark")
	require.ErrorContains(t, e.b.tick(t.Context()), "stored watermark")
}

// damage puts something else in the place of an entry, and starts a process that
// has not seen it; nil is nothing.
func (e *engine) damage(key string, value []byte) {
	e.Helper()
	ctx := context.Background()
	if value == nil {
		require.NoError(e, e.storage.Delete(ctx, key))
	} else {
		require.NoError(e, e.storage.Put(ctx, &logical.StorageEntry{Key: key, Value: value}))
	}
	e.restart()
}

func (e *engine) leaseData(ref target.Ref, version int) map[string]any {
	e.Helper()
	l := lease{Ref: ref, Tenant: e.c1.URL(), Version: version, CredentialID: "gone", OnLeaseEnd: leaseEndRevoke}
	data, err := l.internalData()
	require.NoError(e, err)
	data["secret_type"] = secretTypes[target.Connector]
	return data
}

// useAll asks for everything that concerns a target. It may fail.
func (e *engine) useAll(ref target.Ref, creds string, leased *logical.Secret, fingerprint string) {
	e.Helper()
	bindings, _ := pathsOf(ref.Kind)
	ask := func(op logical.Operation, path string, data map[string]any) {
		_, _ = e.b.HandleRequest(context.Background(), newRequest(op, path, data))
	}
	ask(logical.ReadOperation, bindings+"/x", nil)
	ask(logical.ReadOperation, bindings+"/x/history", nil)
	ask(logical.ReadOperation, "status", nil)
	ask(logical.UpdateOperation, "lookup", fields("fingerprint_sha256", fingerprint))
	ask(logical.UpdateOperation, "lookup", fields("fingerprint_prefix", fingerprint[:12]))
	for _, op := range []logical.Operation{logical.RenewOperation, logical.RevokeOperation} {
		copied := *leased
		copied.InternalData = maps.Clone(leased.InternalData)
		req := newRequest(op, creds, nil)
		req.Secret = &copied
		_, _ = e.b.HandleRequest(context.Background(), req)
	}
	e.clock.advance(3 * time.Minute)
	_ = e.b.tick(context.Background())
	ask(logical.ReadOperation, creds, nil)
	ask(logical.UpdateOperation, creds, nil)
	ask(logical.UpdateOperation, bindings+"/x/rotate", nil)
	ask(logical.UpdateOperation, "config", fields("max_retries", 1))
	e.clock.advance(3 * time.Hour)
	_ = e.b.tick(context.Background())
	e.b.work.Wait()
}
