// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package input

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func fields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"text":   {Type: framework.TypeString},
		"flag":   {Type: framework.TypeBool, Default: true},
		"count":  {Type: framework.TypeInt},
		"rate":   {Type: framework.TypeFloat},
		"period": {Type: framework.TypeDurationSecond},
		"pairs":  {Type: framework.TypeKVPairs},
	}
}

func TestWhatFitsIsTaken(t *testing.T) {
	t.Parallel()
	for field, values := range map[string][]any{
		"text":   {"", "a"},
		"flag":   {true, "true", 1.0, json.Number("0")},
		"count":  {1, int64(2), "3", 4.0, json.Number("5")},
		"rate":   {1, 2.5, "2.5", json.Number("2.5")},
		"period": {60, "90s", "15m", json.Number("7"), 8.0},
		"pairs":  {"a=b", []string{"a=b"}, []any{"a=b"}, map[string]string{"a": "b"}, map[string]any{"a": "b"}},
	} {
		for _, value := range values {
			data := map[string]any{field: value}
			require.NoError(t, Prepare(logical.UpdateOperation, data, fields()), "%s: %v", field, value)
			require.Equal(t, map[string]any{field: value}, data)
		}
	}
}

func TestWhatDoesNotFitIsRefusedWithoutItsValue(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for field, values := range map[string][]any{
		"text":   {7, 7.5, json.Number("7"), true, []any{secret}, map[string]any{"a": secret}},
		"flag":   {secret, 0.5, json.Number("0.5"), []any{secret}},
		"count":  {secret, 1.5, json.Number("1.5"), true, []any{secret}},
		"rate":   {secret, true, []any{secret}},
		"period": {secret, true, []any{secret}},
		"pairs":  {secret, 7, true, []any{7}, map[string]any{secret: 7}, map[string]any{secret: nil}},
	} {
		for _, value := range values {
			err := Prepare(logical.UpdateOperation, map[string]any{field: value}, fields())
			require.ErrorContains(t, err, field+": must be ", "%v", value)
			require.NotContains(t, err.Error(), secret)
		}
	}
}

func TestFractionsOfASecondAreRefused(t *testing.T) {
	t.Parallel()
	for _, value := range []any{"500ms", "1500ms", 1.5} {
		err := Prepare(logical.UpdateOperation, map[string]any{"period": value}, fields())
		require.ErrorContains(t, err, "period: must be whole seconds, not ", "%v", value)
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 41)
	err := Prepare(logical.UpdateOperation, map[string]any{long: 1}, fields())
	require.EqualError(t, err, "unknown field \""+long[:40]+"…\"; see `vault path-help` for the fields of this path")
}

func TestNullIsNotNamedButRemovesWithAPatch(t *testing.T) {
	t.Parallel()
	data := map[string]any{"text": nil, "flag": nil, "period": nil}
	require.NoError(t, Prepare(logical.PatchOperation, data, fields()))
	require.Equal(t, map[string]any{"text": "", "flag": true, "period": 0}, data)
	data = map[string]any{"text": nil, "unknown": nil}
	require.NoError(t, Prepare(logical.UpdateOperation, data, fields()))
	require.Empty(t, data)
}

func TestPairs(t *testing.T) {
	t.Parallel()
	data := map[string]any{"pairs": ""}
	require.NoError(t, Prepare(logical.UpdateOperation, data, fields()))
	require.Equal(t, map[string]any{"pairs": map[string]any{}}, data, "what the CLI makes of pairs=")

	patch := map[string]any{"pairs": map[string]any{"a": nil, "b": "2"}}
	require.NoError(t, Prepare(logical.PatchOperation, patch, fields()))
	d := &framework.FieldData{Raw: patch, Schema: fields()}
	PatchPairs(d, "pairs", map[string]string{"a": "1", "b": "1", "c": "1"})
	require.Equal(t, map[string]string{"b": "2", "c": "1"}, d.Get("pairs"))

	for _, value := range []any{"a=b", []any{"a=b"}, map[string]any{"a": 7}} {
		err := Prepare(logical.PatchOperation, map[string]any{"pairs": value}, fields())
		require.ErrorContains(t, err, "or null to remove one")
	}
}
