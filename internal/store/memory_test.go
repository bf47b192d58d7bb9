// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var errStorage = errors.New("storage is broken")

// thing is a stored type.
type thing struct {
	Version int      `json:"version,omitempty"`
	Parts   []string `json:"parts,omitempty"`
}

func (t *thing) copied() *thing {
	c := *t
	c.Parts = append([]string(nil), t.Parts...)
	return &c
}

var things = Type[thing]{What: "thing", Format: 2, Copy: (*thing).copied}

func thingKey(name string) Key { return Hashed("thing/", name) }

func newStore(s logical.Storage) *Store {
	return New(s, Options{Now: time.Now, Version: "1.2.3", Remember: []string{"thing/", "listed/"}, Listed: "listed/"})
}

// remembering is a store on a node that may write.
func remembering(s logical.Storage) *Store {
	store := newStore(s)
	store.Enable(true)
	return store
}

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

// However reads and writes of one entry fall together, nobody is given an older
// version than anybody was given before he asked, and in the end what is
// remembered is what is stored. What the entry is named with is made meanwhile.
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
	s := remembering(storage)
	ctx, key := context.Background(), thingKey("a")
	var seen struct {
		sync.Mutex
		version int
		wrong   []string
	}
	read := func() {
		seen.Lock()
		atLeast := seen.version
		seen.Unlock()
		got, err := things.Read(ctx, s, key)
		if got == nil {
			got = &thing{}
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
			if err := things.Write(ctx, s, key, &thing{Version: version + 1}); err != nil {
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
	stored, err := things.Read(ctx, newStore(&storage.InmemStorage), key)
	require.NoError(rt, err)
	require.Equal(rt, stored, things.Recall(s, key))
}

func TestMemoryIsBoundedAndForgottenAtTheEnd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := remembering(&logical.InmemStorage{})
	for i := range mostNames + 10 {
		require.NoError(t, things.Write(ctx, s, thingKey(fmt.Sprint(i)), &thing{Version: i}))
	}
	require.Len(t, s.memory.known, mostRemembered)
	require.Len(t, s.names.keys, mostNames)
	require.Empty(t, s.memory.writing)
	require.NoError(t, s.Put(ctx, &logical.StorageEntry{Key: "due/1/a"}))
	require.NoError(t, things.Write(ctx, s, Hashed("other/", "a"), &thing{}))
	require.Len(t, s.memory.known, mostRemembered, "only what requests read")
	for i := range 10 {
		got, err := things.Read(ctx, s, thingKey(fmt.Sprint(i)))
		require.NoError(t, err)
		require.Equal(t, i, got.Version)
	}
	s.Enable(false)
	require.Empty(t, s.Remembered())
	require.Empty(t, s.memory.reading)
}

func TestWhatIsReadBelongsToItsReader(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := remembering(&logical.InmemStorage{})
	mine := &thing{Version: 1, Parts: []string{"a"}}
	require.NoError(t, things.Write(ctx, s, thingKey("a"), mine))
	mine.Parts[0] = "changed"
	for range 2 {
		got, err := things.Read(ctx, s, thingKey("a"))
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, got.Parts)
		got.Parts[0] = "changed"
	}
}
