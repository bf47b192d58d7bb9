// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestEachEntryBeginsWithItsFormat(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storage := &logical.InmemStorage{}
	s := newStore(storage)
	for stored, value := range map[string]*thing{
		`{"format":2,"version":3,"parts":["a"]}`: {Version: 3, Parts: []string{"a"}},
		`{"format":2}`:                           {},
	} {
		require.NoError(t, things.Write(ctx, s, Fixed("thing/a"), value))
		entry, err := storage.Get(ctx, "thing/a")
		require.NoError(t, err)
		require.Equal(t, stored, string(entry.Value))
		got, err := things.Read(ctx, s, Fixed("thing/a"))
		require.NoError(t, err)
		require.Equal(t, value, got.copied())
	}
}

func TestUnreadableEntriesAreNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	checked := things
	checked.Check = func(t *thing) error {
		if t.Version == 13 {
			return errors.New("it is unlucky")
		}
		return nil
	}
	for stored, says := range map[string]string{
		`{"format":1,"version":3}`:               "",
		`{"version":3,"format":2}`:               "",
		`{"format":3,"version":3}`:               "it has format 3, and version 1.2.3 of the plugin reads formats up to 2: run the version that wrote it, or a newer one",
		`{"format":3,"version":"of other type"}`: "it has format 3",
		`{"format":"x"}`:                         "cannot unmarshal",
		`{"version":3}`:                          "it has no format number",
		`null`:                                   "it has no format number",
		`{"format":2,"version":13}`:              "it is unlucky",
		`{"format":2,"version":"x"}`:             "cannot unmarshal",
		`{"format":2,"version":3`:                "unexpected",
		``:                                       "unexpected end",
		`garbage`:                                "invalid character",
	} {
		storage := &watched{}
		require.NoError(t, storage.InmemStorage.Put(ctx, &logical.StorageEntry{Key: "thing/a", Value: []byte(stored)}))
		got, err := checked.Read(ctx, remembering(storage), Fixed("thing/a"))
		if says == "" {
			require.NoError(t, err, stored)
			require.Equal(t, 3, got.Version)
			continue
		}
		require.True(t, Unreadable(err), "%s: %v", stored, err)
		require.ErrorContains(t, err, "stored thing (thing/a) cannot be read: ", stored)
		require.ErrorContains(t, err, says, stored)
		require.Empty(t, storage.puts)
	}
	_, err := things.Read(ctx, newStore(failing{}), Fixed("thing/a"))
	require.Equal(t, errStorage, err)
	require.False(t, Unreadable(err))
}

// failing is a storage that does not work.
type failing struct{ logical.Storage }

func (failing) Get(context.Context, string) (*logical.StorageEntry, error) { return nil, errStorage }
