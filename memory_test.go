// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// slowStorage takes its time (fake time), fails, and may carry out a write that
// failed: at once, or much later.
type slowStorage struct {
	logical.InmemStorage
	draw func(label string, most int) int
	late sync.WaitGroup
}

func (s *slowStorage) pause() { time.Sleep(time.Duration(s.draw("pause", 20)) * time.Millisecond) }

func (s *slowStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.pause()
	entry, err := s.InmemStorage.Get(ctx, key)
	s.pause()
	return entry, err
}

func (s *slowStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.pause()
	outcome := s.draw("outcome", 9)
	switch outcome {
	case 0:
		return errStorage
	case 1:
		s.late.Go(func() {
			time.Sleep(time.Duration(s.draw("late", 90)) * time.Second)
			_ = s.InmemStorage.Put(ctx, entry)
		})
		return errStorage
	}
	err := s.InmemStorage.Put(ctx, entry)
	s.pause()
	if outcome == 2 {
		return errStorage
	}
	return err
}

// However reads and writes of one target fall together, nobody is given an older
// version than anybody was given before he asked, and in the end what is
// remembered is what is stored.
func TestNobodyReadsAnOlderVersionThanSomebodyHasSeen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		inTime := synctest.Test
		inTime(t, func(*testing.T) { raceReadersAndWriters(rt) })
	})
}

func raceReadersAndWriters(rt *rapid.T) {
	var mu sync.Mutex // rapid draws for one at a time
	storage := &slowStorage{draw: func(label string, most int) int {
		mu.Lock()
		defer mu.Unlock()
		return rapid.IntRange(0, most).Draw(rt, label)
	}}
	m := newMemory(storage, time.Now)
	m.enable(true)
	ctx, ref := context.Background(), decoyTarget("d")
	var seen struct {
		sync.Mutex
		version int
		wrong   []string
	}
	read := func() {
		seen.Lock()
		atLeast := seen.version
		seen.Unlock()
		got, err := readTarget(ctx, m, ref)
		if got == nil {
			got = &target{}
		}
		seen.Lock()
		defer seen.Unlock()
		if err != nil || got.Version < atLeast {
			seen.wrong = append(seen.wrong, fmt.Sprintf("version %d after %d: %v", got.Version, atLeast, err))
		}
		seen.version = max(seen.version, got.Version)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 12 {
				read()
				storage.pause()
			}
		})
	}
	all.Go(func() {
		for version := range 5 {
			if err := writeTarget(ctx, m, &target{Ref: ref, Version: version + 1}); err != nil {
				storage.late.Wait() // the storage itself must not go back
			}
			storage.pause()
		}
	})
	all.Wait()
	storage.late.Wait()
	time.Sleep(doubtfulFor)
	read()
	read()
	require.Empty(rt, seen.wrong)
	entry, err := storage.InmemStorage.Get(ctx, targetPrefix+ref.key())
	require.NoError(rt, err)
	if entry == nil {
		require.Nil(rt, recalled[target](m, targetPrefix+ref.key()))
		return
	}
	var stored target
	require.NoError(rt, entry.DecodeJSON(&stored))
	require.Equal(rt, stored.Version, recalled[target](m, targetPrefix+ref.key()).Version)
}

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
	// What is copied one by one below; a new field must be added to copied.
	require.ElementsMatch(t, []string{".Attempt", ".Current", ".Retire", ".Decoy", ".Trouble", ".Attention", ".Records", ".pruned", ".unindexed"}, shared(reflect.ValueOf(target{})))
	require.Empty(t, shared(reflect.ValueOf(attempt{})))
	require.Equal(t, []string{".Material"}, shared(reflect.ValueOf(credential{})), "replaced as a whole, never changed")
	require.Empty(t, shared(reflect.ValueOf(record{})))
	require.Empty(t, shared(reflect.ValueOf(retirement{})))
	require.Empty(t, shared(reflect.ValueOf(trouble{})))
	require.Equal(t, []string{".Metadata"}, shared(reflect.ValueOf(binding{})))
	require.Empty(t, shared(reflect.ValueOf(config{})))

	full := &target{
		Attempt: &attempt{Unknown: "a"}, Current: &credential{CredentialID: "a"}, Trouble: &trouble{Error: "a"},
		Retire: []retirement{{CredentialID: "a"}}, Attention: []string{"a"}, Records: []record{{Outcome: "a"}},
	}
	c := full.copied()
	require.Equal(t, full, c)
	c.Attempt.Unknown, c.Current.CredentialID, c.Trouble.Error = "b", "b", "b"
	c.Retire[0].CredentialID, c.Attention[0], c.Records[0].Outcome = "b", "b", "b"
	require.Equal(t, "a", full.Attempt.Unknown+full.Current.CredentialID[1:])
	require.Equal(t, "a", full.Trouble.Error)
	require.Equal(t, "a", full.Retire[0].CredentialID)
	require.Equal(t, "a", full.Attention[0])
	require.Equal(t, "a", full.Records[0].Outcome)

	bind := &binding{Metadata: map[string]string{"team": "a"}}
	bind.copied().Metadata["team"] = "b"
	require.Equal(t, "a", bind.Metadata["team"])
}

// A node that may not write gets its changes behind its back.
func TestOnlyTheNodeThatMayWriteRemembers(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	key := targetPrefix + connectorTarget(ref).key()
	require.Equal(t, 1, e.read("connector-creds/hr").Data["version"])
	require.NotNil(t, recalled[target](e.b.storage, key))

	e.system.become(consts.ReplicationPerformanceStandby)
	e.b.wake()
	require.Nil(t, recalled[target](e.b.storage, key))
	require.Equal(t, 1, e.read("connector-creds/hr").Data["version"])
	require.Nil(t, recalled[target](e.b.storage, key))
	behindItsBack := e.state(connectorTarget(ref))
	behindItsBack.Version = 2
	require.NoError(t, writeTarget(context.Background(), e.storage, behindItsBack))
	require.Equal(t, 2, e.read("connector-creds/hr").Data["version"])
}

func TestInvalidatedEntriesAreReadAgain(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	e.read("connector-creds/hr")
	restored := e.state(connectorTarget(ref))
	restored.Version = 7
	require.NoError(t, writeTarget(context.Background(), e.storage, restored))
	e.b.InvalidateKey(context.Background(), targetPrefix+connectorTarget(ref).key())
	require.Equal(t, 7, e.read("connector-creds/hr").Data["version"])

	require.NoError(t, e.storage.Delete(context.Background(), bindingKey(kindConnector, "hr")))
	e.b.InvalidateKey(context.Background(), bindingKey(kindConnector, "hr"))
	require.Equal(t, http.StatusBadRequest, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
}

func TestMemoryIsBoundedAndForgottenAtTheEnd(t *testing.T) {
	t.Parallel()
	m := newMemory(&logical.InmemStorage{}, time.Now)
	m.enable(true)
	for i := range mostRemembered + 10 {
		require.NoError(t, writeTarget(context.Background(), m, &target{Ref: decoyTarget(fmt.Sprint(i))}))
	}
	require.Len(t, m.known, mostRemembered)
	require.Empty(t, m.writing)
	require.NoError(t, m.Put(context.Background(), &logical.StorageEntry{Key: agenda.Prefix + "d"}))
	require.Len(t, m.known, mostRemembered, "only what requests read")
	m.enable(false)
	require.Empty(t, m.known)
}

// Exact, per request: what Vault is asked for, each time a call from process to
// process. The first on a mount that has just started has more to read.
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
		{"a scheduled read", logical.ReadOperation, "connector-creds/shared", operations{gets: 2}, operations{}, 0},
		{"a scheduled rotation", logical.UpdateOperation, "connectors/shared/rotate", operations{gets: 3, puts: 7, deletes: 1}, operations{puts: 7, deletes: 1}, 0},
		{"a leased rotation", logical.ReadOperation, "connector-creds/own", operations{gets: 3, puts: 6}, operations{puts: 6}, 3},
		{"a binding's read", logical.ReadOperation, "connectors/own", operations{gets: 2}, operations{}, 0},
	} {
		e.restart()
		e.storage.operations()
		e.must(cost.op, cost.path, nil)
		e.b.work.wg.Wait() // what is done behind the answer counts too
		require.Equal(t, cost.first, e.storage.operations(), "%s, the first", cost.name)
		e.system.questions()
		e.must(cost.op, cost.path, nil)
		e.b.work.wg.Wait()
		require.Equal(t, cost.later, e.storage.operations(), cost.name)
		require.Equal(t, cost.system, e.system.questions(), cost.name)
	}
	require.Equal(t, 5, e.c1.Requests(c1test.OpRotateConnector))
}
