// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// watched counts what storage is asked for, and can refuse writes.
type watched struct {
	logical.InmemStorage
	mu         sync.Mutex
	gets, puts []string
	refuse     func(key string) error
	late       []*logical.StorageEntry // refused, and yet to be carried out
}

func (w *watched) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	w.mu.Lock()
	w.gets = append(w.gets, key)
	w.mu.Unlock()
	return w.InmemStorage.Get(ctx, key)
}

func (w *watched) Put(ctx context.Context, entry *logical.StorageEntry) error {
	w.mu.Lock()
	w.puts = append(w.puts, entry.Key)
	var err error
	if w.refuse != nil {
		err = w.refuse(entry.Key)
	}
	if err != nil {
		w.late = append(w.late, entry)
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return w.InmemStorage.Put(ctx, entry)
}

func keyOf(t *testing.T, s *Store, key Key) string {
	t.Helper()
	raw, err := s.KeyOf(context.Background(), key)
	require.NoError(t, err)
	return raw
}

func TestKeysSayNothingAndAreAlwaysTheSame(t *testing.T) {
	t.Parallel()
	storage := &logical.InmemStorage{}
	first, second := newStore(storage), newStore(storage)
	other := newStore(&logical.InmemStorage{})
	for _, key := range []Key{Hashed("thing/", "secret name"), HashedIn("thing/", "secret", "secret name"), Listed("secret name")} {
		raw := keyOf(t, first, key)
		require.Equal(t, raw, keyOf(t, first, key))
		require.Equal(t, raw, keyOf(t, second, key), "the next process")
		require.NotEqual(t, raw, keyOf(t, other, key), "another mount")
		require.NotContains(t, raw, "secret")
	}
	require.NotEqual(t, keyOf(t, first, Hashed("a/", "x"))[2:], keyOf(t, first, Hashed("b/", "x"))[2:])
	require.Equal(t, "config", keyOf(t, first, Fixed("config")))

	name, err := first.Name(t.Context(), Hashed("thing/", "secret name"))
	require.NoError(t, err)
	require.Equal(t, keyOf(t, first, Hashed("thing/", "secret name")), "thing/"+name)
	require.Len(t, name, 32)
}

func TestNamesAreListedAndGroupsFound(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStore(&logical.InmemStorage{})
	names, err := s.ListedNames(ctx)
	require.NoError(t, err)
	require.Empty(t, names)
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("c.%02d%s", i, strings.Repeat("x", i))
		want = append(want, name)
		require.NoError(t, things.Write(ctx, s, Listed(name), &thing{Version: i}))
		require.NoError(t, things.Write(ctx, s, HashedIn("group/", fmt.Sprint(i%2), name), &thing{Version: i}))
	}
	for _, store := range []*Store{s, newStore(s)} {
		names, err = store.ListedNames(ctx)
		require.NoError(t, err)
		require.Equal(t, want, names)
	}
	count, err := s.CountListed(ctx)
	require.NoError(t, err)
	require.Equal(t, 20, count)

	keys, err := s.Group(ctx, "group/", "1")
	require.NoError(t, err)
	var versions []int
	for _, key := range keys {
		got, err := things.Read(ctx, s, key)
		require.NoError(t, err)
		versions = append(versions, got.Version)
	}
	slices.Sort(versions)
	require.Equal(t, []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19}, versions)

	require.NoError(t, s.Put(ctx, &logical.StorageEntry{Key: "listed/!"}))
	_, err = s.ListedNames(ctx)
	require.True(t, Unreadable(err), "%v", err)
	require.ErrorContains(t, err, "stored name (listed/) cannot be read")
}

// countingStorage counts listings, and fails when it is told to.
type countingStorage struct {
	logical.InmemStorage
	lists int
	fails bool
}

func (c *countingStorage) List(ctx context.Context, prefix string) ([]string, error) {
	c.lists++
	return c.InmemStorage.List(ctx, prefix)
}

func (c *countingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if c.fails {
		return errStorage
	}
	return c.InmemStorage.Put(ctx, entry)
}

func TestTheNumberOfListedEntriesIsRememberedUntilOneChanges(t *testing.T) {
	t.Parallel()
	ctx, storage := context.Background(), &countingStorage{}
	s := remembering(storage)
	require.NoError(t, s.Prepare(ctx))
	requireCount := func(want, lists int) {
		t.Helper()
		storage.lists = 0
		for range 3 {
			count, err := s.CountListed(ctx)
			require.NoError(t, err)
			require.Equal(t, want, count)
		}
		require.Equal(t, lists, storage.lists)
		require.NotContains(t, s.Remembered(), "listed/", "it is no entry")
	}
	requireCount(0, 1)
	require.NoError(t, things.Write(ctx, s, Listed("a"), &thing{}))
	require.NoError(t, things.Write(ctx, s, Listed("b"), &thing{}))
	requireCount(2, 1)
	require.NoError(t, things.Write(ctx, s, HashedIn("group/", "g", "x"), &thing{}))
	requireCount(2, 0)
	require.NoError(t, s.Remove(ctx, Listed("a")))
	requireCount(1, 1)

	raw, err := s.KeyOf(ctx, Listed("c")) // as another node does it
	require.NoError(t, err)
	require.NoError(t, storage.Put(ctx, &logical.StorageEntry{Key: raw}))
	s.Invalidate(raw)
	requireCount(2, 1)

	storage.fails = true // Vault may carry it out yet
	require.Error(t, things.Write(ctx, s, Listed("d"), &thing{}))
	requireCount(2, 3)
	s.Enable(false)
	requireCount(2, 3)
}

// The wrapper takes a slash for a folder, and .. for the folder above.
func TestNoNameIsAWayToAnotherEntry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := remembering(&logical.InmemStorage{})
	require.NoError(t, things.Write(ctx, s, Listed("d.bait"), &thing{Version: 1}))
	for _, name := range []string{"c.x/../d.bait", "../d.bait", "/d.bait", "d.bait/"} {
		got, err := things.Read(ctx, s, Listed(name))
		require.NoError(t, err, name)
		require.Nil(t, got, name)
		require.Nil(t, things.Recall(s, Listed(name)), name)
		require.Error(t, things.Write(ctx, s, Listed(name), &thing{Version: 2}), name)
	}
	got, err := things.Read(ctx, s, Listed("d.bait"))
	require.NoError(t, err)
	require.Equal(t, 1, got.Version)
}

func TestOnlyAWriterMakesWhatNamesDependOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	readOnly := errors.New(logical.ErrReadOnly.Error()) // as it comes over gRPC
	w := &watched{refuse: func(string) error { return readOnly }}
	s := newStore(w) // a standby's
	for _, key := range []Key{thingKey("a"), Listed("a")} {
		got, err := things.Read(ctx, s, key)
		require.NoError(t, err)
		require.Nil(t, got)
		there, err := s.Has(ctx, key)
		require.NoError(t, err)
		require.False(t, there)
		require.NoError(t, s.Remove(ctx, key))
	}
	keys, err := s.Group(ctx, "group/", "a")
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Empty(t, w.puts)

	require.Equal(t, logical.ErrReadOnly, things.Write(ctx, s, thingKey("a"), &thing{}), "bare, so that Vault recognises it")
	require.Equal(t, logical.ErrReadOnly, s.Prepare(ctx))

	// The active node makes it, and the standby finds it.
	require.NoError(t, things.Write(ctx, newStore(&w.InmemStorage), thingKey("a"), &thing{Version: 1}))
	got, err := things.Read(ctx, s, thingKey("a"))
	require.NoError(t, err)
	require.Equal(t, 1, got.Version)
}

func TestWhatNamesDependOnIsReadOncePerProcess(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := &watched{}
	require.NoError(t, newStore(w).Prepare(ctx))
	require.Equal(t, []string{saltKey, policyKey}, w.puts, "made once, one write each")
	w.gets = nil
	s := newStore(w)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, _ = things.Read(ctx, s, thingKey(fmt.Sprint(i)))
			_, _ = things.Read(ctx, s, Listed(fmt.Sprint(i)))
		})
	}
	all.Wait()
	count := map[string]int{}
	for _, key := range w.gets {
		count[key]++
	}
	require.Equal(t, 1, count[saltKey])
	require.Equal(t, 1, count[policyKey])
	require.Len(t, w.puts, 2)
}

// A write that failed may be carried out much later. It must not replace what
// everything is named with by then.
func TestLateWriteOfASaltChangesNoName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := &watched{refuse: func(string) error { return errStorage }}
	s := remembering(w)
	require.ErrorIs(t, things.Write(ctx, s, thingKey("a"), &thing{Version: 1}), errStorage)
	require.ErrorIs(t, s.Prepare(ctx), errStorage)
	w.refuse = nil
	require.NoError(t, s.Prepare(ctx))
	require.NoError(t, things.Write(ctx, s, thingKey("a"), &thing{Version: 1}))
	require.NoError(t, things.Write(ctx, s, Listed("a"), &thing{Version: 2}))
	require.NotEmpty(t, w.late)
	for _, entry := range w.late {
		require.NoError(t, w.InmemStorage.Put(ctx, entry))
	}
	after := newStore(w)
	for version, key := range map[int]Key{1: thingKey("a"), 2: Listed("a")} {
		got, err := things.Read(ctx, after, key)
		require.NoError(t, err)
		require.NotNil(t, got)
		require.Equal(t, version, got.Version)
	}
}

func TestInvalidationForgetsWhatNamesDependOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storage, restored := &logical.InmemStorage{}, &logical.InmemStorage{}
	s := remembering(storage)
	require.NoError(t, things.Write(ctx, s, thingKey("a"), &thing{Version: 1}))
	require.NoError(t, things.Write(ctx, s, Listed("a"), &thing{Version: 1}))
	other := newStore(restored)
	require.NoError(t, things.Write(ctx, other, thingKey("a"), &thing{Version: 7}))
	require.NoError(t, things.Write(ctx, other, Listed("a"), &thing{Version: 7}))
	keys, err := logical.CollectKeys(ctx, restored)
	require.NoError(t, err)
	for _, key := range keys {
		entry, err := restored.Get(ctx, key)
		require.NoError(t, err)
		require.NoError(t, storage.Put(ctx, entry))
		s.Invalidate(key)
	}
	for _, key := range []Key{thingKey("a"), Listed("a")} {
		got, err := things.Read(ctx, s, key)
		require.NoError(t, err)
		require.Equal(t, 7, got.Version)
	}
}

func TestDamagedSaltOrPolicyIsNeverReplaced(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for key, values := range map[string][]string{saltKey: {""}, policyKey: {"", "{", "{}", "null"}} {
		for _, value := range values {
			w := &watched{}
			require.NoError(t, w.InmemStorage.Put(ctx, &logical.StorageEntry{Key: key, Value: []byte(value)}))
			err := newStore(w).Prepare(ctx)
			require.True(t, Unreadable(err), "%s %q: %v", key, value, err)
			require.ErrorContains(t, err, key)
			require.NotContains(t, w.puts, key)
		}
	}
}
