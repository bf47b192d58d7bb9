// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Vault encrypts values and not keys. Whoever has a backup, and no unseal key,
// must not learn from it that a secret that he found is this mount's, nor what
// is a decoy.
func TestNoStorageKeySpeaks(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.storage.written()
	silent := busyDay(e)
	// All that was ever written, and what is there now.
	keys := map[string]bool{}
	for _, key := range e.storage.written() {
		keys[key] = true
	}
	for key := range e.entries() {
		keys[key] = true
	}
	folders := map[string]int{}
	for key := range keys {
		folder, _, _ := strings.Cut(key, "/")
		folders[folder]++
	}
	for _, folder := range []string{"attention", "binding", "due", "fingerprint", "id", "record", "target"} {
		require.NotZero(t, folders[folder], "it was not a busy day: %v", folders)
	}
	require.ElementsMatch(t, []string{"attention", "binding", "config", "due", "fingerprint", "id", "names", "record", "target", "watermark"},
		slices.Collect(maps.Keys(folders)))
	shapes := map[string]map[int]bool{}
	for key := range keys {
		folder, _, _ := strings.Cut(key, "/")
		if shapes[folder] == nil {
			shapes[folder] = map[int]bool{}
		}
		shapes[folder][len(key)] = true
	}
	for _, folder := range []string{"binding", "due", "fingerprint", "id", "target"} {
		require.Len(t, shapes[folder], 1, "keys of a connector and of a decoy can be told apart by their length")
	}
	for key := range keys {
		for _, word := range silent {
			for _, form := range []string{word, target.Fingerprint(word)} {
				require.NotContains(t, strings.ToLower(key), strings.ToLower(form), "%s speaks", key)
			}
		}
	}
}

// busyDay has everything happen that a mount is for, and returns what no key may
// hold.
func busyDay(e *engine) (silent []string) {
	e.Helper()
	silent = []string{"connector", "decoy", "acme"}
	learn := func(data map[string]any) {
		for _, field := range []string{"app_id", "connector_id", "decoy_id", "client_id", "credential_id"} {
			if id, _ := data[field].(string); id != "" {
				silent = append(silent, id)
			}
		}
		if fingerprint, _ := data["fingerprint_sha256"].(string); fingerprint != "" {
			silent = append(silent, fingerprint, fingerprint[:fingerprintFolder], fingerprint[:8])
		}
	}
	for i, bind := range []struct{ kind, rotateOn string }{
		{"connector", rotateOnRead},
		{"connector", rotateOnWrite},
		{"connector", rotateOnSchedule},
		{"decoy", rotateOnRead},
		{"decoy", rotateOnWrite},
		{"decoy", rotateOnSchedule},
	} {
		name := fmt.Sprintf("payroll%d.%s", i, bind.kind[:4])
		silent = append(silent, name)
		data := fields("rotate_on", bind.rotateOn)
		if bind.kind == "connector" {
			ref := e.c1.NewConnector(name)
			merge(data, "app_id", ref.AppID, "connector_id", ref.ConnectorID)
		} else {
			merge(data, "decoy_id", e.c1.NewDecoy(c1test.KindUserClientCredential, name, nil))
		}
		learn(data)
		if bind.rotateOn == rotateOnSchedule {
			merge(data, "rotation_period", "1h")
		}
		e.must(logical.CreateOperation, bind.kind+"s/"+name, data)
		creds := bind.kind + "-creds/" + name
		var leases []*logical.Secret
		for range 3 {
			vended := e.write(creds)
			learn(vended.Data)
			leases = append(leases, vended.Secret)
		}
		e.troubled(bind.kind+"s/"+name, creds, leases[0])
	}
	e.after(24 * time.Hour)
	for _, name := range e.must(logical.ListOperation, "connectors/", nil).Data["keys"].([]string) {
		for _, record := range e.history("connectors/" + name) {
			learn(record)
		}
	}
	for _, value := range slices.Clone(silent) {
		if len(value) == 64 {
			e.write("lookup", "fingerprint_sha256", value)
			e.write("lookup", "fingerprint_prefix", value[:16])
		}
	}
	e.read("status")
	e.b.work.Wait()
	return silent
}

// troubled lets a binding's rotation, and the end of a lease, fail once.
func (e *engine) troubled(binding, creds string, leased *logical.Secret) {
	e.Helper()
	for _, fault := range []c1test.Fault{{DropAfter: true, Times: 1}, {Status: http.StatusForbidden, Times: 1}} {
		handle := e.c1.AddFault(fault)
		e.refused(logical.UpdateOperation, creds, nil)
		handle.Clear()
	}
	if leased != nil {
		handle := e.c1.AddFault(c1test.Fault{Status: http.StatusForbidden})
		_, err := e.revoke(leased)
		require.NoError(e, err)
		handle.Clear()
	}
	e.read(binding)
	e.after(10 * time.Minute)
	e.write(creds)
}
