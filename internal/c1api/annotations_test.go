// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnnotationsOfC1sAreBounded(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 1000 {
		many[fmt.Sprintf("key-%04d", i)] = "v"
	}
	for name, c := range map[string]struct {
		sent map[string]any
		kept map[string]string
		says string // part of the only warning
	}{
		"none":            {nil, nil, ""},
		"plain":           {map[string]any{"owner": "blue", "empty": "", "null": nil}, map[string]string{"owner": "blue", "empty": "", "null": ""}, ""},
		"no text":         {map[string]any{"owner": "blue", "n": 7, "o": map[string]any{"a": 1}}, map[string]string{"owner": "blue"}, "2 entries"},
		"a value cut":     {map[string]any{"owner": strings.Repeat("x", 5000)}, map[string]string{"owner": strings.Repeat("x", 1023) + "…"}, "1 values"},
		"a value cleaned": {map[string]any{"owner": "a\nb\u202e"}, map[string]string{"owner": "a b"}, "1 values"},
		"odd keys":        {map[string]any{"": "a", "a\nb": "b", "\u200bc": "c", strings.Repeat("k", 513): "d", "a  b": "e", "e": "e"}, map[string]string{"e": "e"}, "5 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := json.Marshal(c.sent)
			require.NoError(t, err)
			client, _ := newClient(t, &fakeC1{api: always(reply{body: with(t, goodDecoy, "decoy", "annotations", string(raw))})})
			decoy, err := client.GetDecoy(t.Context(), "decoy1")
			require.NoError(t, err)
			require.Equal(t, c.kept, decoy.Annotations)
			if c.says == "" {
				require.Empty(t, decoy.Warnings)
				return
			}
			requireOneWarning(t, decoy.Warnings, "annotations has "+c.says)
		})
	}
	t.Run("too many", func(t *testing.T) {
		t.Parallel()
		raw, err := json.Marshal(many)
		require.NoError(t, err)
		client, _ := newClient(t, &fakeC1{api: always(reply{body: with(t, goodDecoy, "decoy", "annotations", string(raw))})})
		for range 3 {
			decoy, err := client.GetDecoy(t.Context(), "decoy1")
			require.NoError(t, err)
			require.Len(t, decoy.Annotations, 64)
			require.Contains(t, decoy.Annotations, "key-0000")
			require.Contains(t, decoy.Annotations, "key-0063", "the same ones each time")
			requireOneWarning(t, decoy.Warnings, "annotations has 936 entries")
		}
	})
}

func TestAnnotationsThatC1RefusesAreNotSent(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	large := map[string]string{}
	for i := range 17 {
		many[fmt.Sprintf("k%d", i)] = "v"
	}
	for i := range 16 {
		large[fmt.Sprintf("k%d", i)] = strings.Repeat("ü", 256)
	}
	for says, bad := range map[string]map[string]string{
		"at most 16":             many,
		"4096 bytes":             large,
		"longer than 256":        {"k": strings.Repeat("é", 257)},
		"is a letter":            {"1k": ""},
		"up to 127":              {"k" + strings.Repeat("x", 128): ""},
		"key is a letter and up": {"": "v"},
		"C1's own":               {"c1/placement": "v"},
	} {
		f := &fakeC1{}
		c, _ := newClient(t, f)
		_, err := c.UpdateDecoy(t.Context(), &Decoy{ID: "decoy1", Annotations: bad}, "annotations")
		require.Contains(t, failedFor(t, err, ReasonNotSent).Message, says)
		require.Zero(t, f.asked)
	}
	c, _ := newClient(t, &fakeC1{api: always(reply{body: goodDecoy})})
	longest := map[string]string{"k" + strings.Repeat("x", 127): strings.Repeat("é", 256), "a/b.c_d-e": ""}
	_, err := c.UpdateDecoy(t.Context(), &Decoy{ID: "decoy1", Annotations: longest}, "annotations")
	require.NoError(t, err)
}
