// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// C1 publishes the bounds; what exceeds them changes nothing.
func TestAnnotationsAreBounded(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	encode := func(annotations map[string]string) string {
		encoded, err := json.Marshal(annotations)
		require.NoError(t, err)
		return string(encoded)
	}
	many := func(n, length int) map[string]string {
		annotations := map[string]string{}
		for i := range n {
			annotations[fmt.Sprint("k", i)] = strings.Repeat("x", length)
		}
		return annotations
	}
	path := "/api/v1/decoys/" + f.NewDecoy(c1test.KindConnectorClient, "Bait", nil)
	for name, test := range map[string]struct {
		annotations map[string]string
		status      int
	}{
		"as many as may be":       {many(16, 240), 200},
		"a long value":            {map[string]string{"a": strings.Repeat("ö", 256)}, 200},
		"a long key":              {map[string]string{"a" + strings.Repeat("b", 127): "x"}, 200},
		"odd characters in a key": {map[string]string{"aZ9._/-": "x"}, 200},
		"too many":                {many(17, 1), 400},
		"too much together":       {many(16, 256), 400},
		"too long a value":        {map[string]string{"a": strings.Repeat("x", 257)}, 400},
		"too long a key":          {map[string]string{"a" + strings.Repeat("b", 128): "x"}, 400},
		"an empty key":            {map[string]string{"": "x"}, 400},
		"a digit first":           {map[string]string{"1a": "x"}, 400},
		"a space in a key":        {map[string]string{"a b": "x"}, 400},
		"a reserved key":          {map[string]string{"c1/a": "x"}, 400},
	} {
		created := f.call(t, http.MethodPost, "/api/v1/decoys", `{"displayName":"x","connectorClient":{},"annotations":`+encode(test.annotations)+`}`)
		assert.Equal(t, test.status, created.status, "%s: %s", name, created.body)
		changes := f.Changes(c1test.OpUpdateDecoy)
		changed := f.call(t, http.MethodPatch, path, `{"decoy":{"annotations":`+encode(test.annotations)+`},"updateMask":"annotations"}`)
		assert.Equal(t, test.status, changed.status, "%s: %s", name, changed.body)
		assert.Equal(t, test.status == 200, f.Changes(c1test.OpUpdateDecoy) > changes, name)
		gone := map[string]string{}
		for key := range test.annotations {
			gone[key] = ""
		}
		if test.status == 200 {
			changed = f.call(t, http.MethodPatch, path, `{"decoy":{"annotations":`+encode(gone)+`},"updateMask":"annotations"}`)
			assert.Empty(t, changed.field(t, "decoy", "annotations"), name)
		}
	}
	require.Equal(t, 200, f.call(t, http.MethodPatch, path, `{"decoy":{"annotations":`+encode(many(16, 1))+`},"updateMask":"annotations"}`).status)
	require.Equal(t, 400, f.call(t, http.MethodPatch, path, `{"decoy":{"annotations":{"more":"x"}},"updateMask":"annotations"}`).status, "what is there counts")
}
