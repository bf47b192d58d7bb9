// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// The list takes no paging parameters; only the search takes its token.
func TestDecoysThatDoNotFitIntoTheListAreFoundBySearching(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for i := range 98 {
		f.NewDecoy(c1test.KindAccessToken, fmt.Sprint("bait ", i), nil)
	}
	f.DeleteDecoy(f.Decoy(c1test.KindWorkloadFederation))
	type list struct {
		List          []struct{ ID string }
		NextPageToken string
	}
	var first, same, rest list
	f.call(t, http.MethodGet, "/api/v1/decoys", "").decode(t, &first)
	require.Len(t, first.List, 100)
	require.NotEmpty(t, first.NextPageToken)
	f.call(t, http.MethodGet, "/api/v1/decoys?page_size=1&page_token="+first.NextPageToken, "").decode(t, &same)
	require.Equal(t, first, same)
	f.call(t, http.MethodPost, "/api/v1/decoys/search", `{"pageToken":"`+first.NextPageToken+`"}`).decode(t, &rest)
	require.Len(t, rest.List, 1)
	require.NotContains(t, first.List, rest.List[0])
	require.Empty(t, rest.NextPageToken)
}

func TestDecoysAreSearched(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	path := "/api/v1/decoys/search"
	used := f.NewDecoy(c1test.KindAccessToken, "Used Bait", map[string]string{"owner": "red", "site": "a"})
	require.Error(t, f.use(t, f.rotateDecoy(t, used)))
	off := f.NewDecoy(c1test.KindConnectorClient, "old", map[string]string{"site": "b"})
	patch := `{"decoy":{"disabled":true,"description":"a BAIT of old"},"updateMask":"disabled,description"}`
	require.Equal(t, http.StatusOK, f.call(t, http.MethodPatch, "/api/v1/decoys/"+off, patch).status)

	for body, want := range map[string][]string{
		`{"query":"bait"}`: {used, off},
		`{"query":"bait","kinds":["DECOY_KIND_ACCESS_TOKEN","DECOY_KIND_UNSPECIFIED"]}`: {used},
		`{"statuses":["DECOY_STATUS_FILTER_DISABLED"]}`:                                 {off},
		`{"query":"bait","statuses":["DECOY_STATUS_FILTER_ACTIVE"]}`:                    {used},
		`{"annotationKeys":["owner","none"]}`:                                           {used},
		`{"annotationKeys":["site"],"kinds":null}`:                                      {used, off},
		`{"hasBeenUsed":true,"unknown":1}`:                                              {used},
		`{"query":"nobody"}`:                                                            nil,
	} {
		var out struct{ List []struct{ ID string } }
		f.call(t, http.MethodPost, path, body).decode(t, &out)
		var found []string
		for _, d := range out.List {
			found = append(found, d.ID)
		}
		assert.ElementsMatch(t, want, found, body)
	}
	seen := map[string]bool{}
	for token := "start"; token != ""; {
		answer := f.call(t, http.MethodPost, path, fmt.Sprintf(`{"pageSize":5,"pageToken":%q}`, strings.TrimPrefix(token, "start")))
		for _, d := range answer.field(t, "list").([]any) {
			seen[d.(map[string]any)["id"].(string)] = true
		}
		token = answer.field(t, "nextPageToken").(string)
	}
	require.Len(t, seen, 6)
	for _, bad := range []string{
		`{"kinds":["x"]}`, `{"kinds":"x"}`, `{"statuses":["x"]}`, `{"pageSize":"5"}`, `{"pageSize":-1}`, `{"pageToken":"x"}`, `[]`,
	} {
		require.Equal(t, http.StatusBadRequest, f.call(t, http.MethodPost, path, bad).status, bad)
	}
}
