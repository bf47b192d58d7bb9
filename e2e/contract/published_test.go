// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// publishedRequest is one request as C1 publishes it: what openapi.yaml of this
// project says is checked against this list, so that the two cannot drift
// together.
type publishedRequest struct {
	method string
	path   *regexp.Regexp
	query  []string // parameters that it may have
	body   []string // fields that its JSON body may have; nil is no body at all
}

// publishedRequests are taken by hand from C1's published description, and the
// last from its product documentation.
var publishedRequests = []publishedRequest{
	{http.MethodGet, pathPattern("/api/v1/auth/introspect"), nil, nil},
	{http.MethodPost, pathPattern("/api/v1/apps/connectors/credentials"), nil, []string{"appId", "connectorId"}},
	{http.MethodGet, pathPattern("/api/v1/apps"), []string{"page_size", "page_token"}, nil},
	{http.MethodGet, pathPattern("/api/v1/apps/*/connectors"), []string{"page_size", "page_token"}, nil},
	{http.MethodGet, pathPattern("/api/v1/apps/*/connectors/*"), nil, nil},
	{http.MethodGet, pathPattern("/api/v1/apps/*/connectors/*/credentials/*"), nil, nil},
	{http.MethodPost, pathPattern("/api/v1/apps/*/connectors/*/credentials/*"), nil, []string{}},
	{http.MethodGet, pathPattern("/api/v1/decoys"), nil, nil},
	{http.MethodGet, pathPattern("/api/v1/decoys/*"), nil, nil},
	{http.MethodPatch, pathPattern("/api/v1/decoys/*"), nil, []string{"decoy", "updateMask"}},
	{http.MethodPost, pathPattern("/api/v1/decoys/*/rotate"), nil, []string{}},
	{http.MethodGet, pathPattern("/api/v1/service_principals/*/credentials"), nil, nil},
	{http.MethodPost, pathPattern("/api/v1/service_principals/*/credentials"), nil, []string{"displayName", "expires", "scopedRoles", "allowSourceCidrs", "requireDpop"}},
	{http.MethodGet, pathPattern("/api/v1/service_principals/*/credentials/*"), nil, nil},
	{http.MethodPatch, pathPattern("/api/v1/service_principals/*/credentials/*"), nil, []string{"credential", "updateMask"}},
	{http.MethodDelete, pathPattern("/api/v1/service_principals/*/credentials/*"), nil, []string{}},
	{http.MethodGet, pathPattern("/api/v1/iam/personal_clients"), nil, nil},
	{http.MethodPost, pathPattern("/api/v1/iam/personal_clients"), nil, []string{"displayName", "expires", "scopedRoles", "allowSourceCidr"}},
	{http.MethodGet, pathPattern("/api/v1/iam/personal_clients/*"), nil, nil},
	{http.MethodPost, pathPattern("/api/v1/iam/personal_clients/*"), nil, []string{"client", "updateMask"}},
	{http.MethodDelete, pathPattern("/api/v1/iam/personal_clients/*"), nil, []string{}},
	{http.MethodPost, pathPattern("/auth/v1/token"), nil, nil},
}

// pathPattern matches a path with a * for each ID.
func pathPattern(path string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path), `\*`, "[^/]+") + "$")
}

// unpublished says what of a request C1 has not published, "" when nothing.
func unpublished(rq *http.Request, sent []byte) string {
	for _, p := range publishedRequests {
		if rq.Method != p.method || !p.path.MatchString(rq.URL.EscapedPath()) {
			continue
		}
		for name := range rq.URL.Query() {
			if !slices.Contains(p.query, name) {
				return fmt.Sprintf("%s %s has no parameter %s", rq.Method, rq.URL.Path, name)
			}
		}
		if rq.URL.Path == "/auth/v1/token" || len(sent) == 0 {
			return ""
		}
		var fields map[string]any
		if p.body == nil || json.Unmarshal(sent, &fields) != nil {
			return fmt.Sprintf("%s %s takes no such body", rq.Method, rq.URL.Path)
		}
		for name := range maps.Keys(fields) {
			if !slices.Contains(p.body, name) {
				return fmt.Sprintf("%s %s has no field %s", rq.Method, rq.URL.Path, name)
			}
		}
		return ""
	}
	return fmt.Sprintf("%s %s is not published", rq.Method, rq.URL.Path)
}

// Without this the list could let everything pass.
func TestWhatC1DoesNotPublishIsCaught(t *testing.T) {
	t.Parallel()
	for request, says := range map[string]string{
		"GET /api/v1/decoys":                                       "",
		"POST /api/v1/decoys/x/rotate {}":                          "",
		"POST /api/v1/apps/a/connectors/b/credentials/c":           "",
		"DELETE /api/v1/apps/a/connectors/b/credentials/c":         "is not published",
		"GET /api/v1/decoys?page_size=5":                           "has no parameter page_size",
		"POST /api/v1/decoys/x/rotate {\"force\":true}":            "has no field force",
		"GET /api/v1/decoys/x {}":                                  "takes no such body",
		"POST /api/v1/apps/connectors/credentials {\"appid\":1}":   "has no field appid",
		"POST /api/v1/decoys/x/y/rotate":                           "is not published",
		"DELETE /api/v1/service_principals/u/credentials/c":        "",
		"POST /api/v1/service_principals/u/credentials/c/revoke":   "is not published",
		"POST /api/v1/iam/personal_clients {\"requireDpop\":true}": "has no field requireDpop",
		"PATCH /api/v1/iam/personal_clients/c":                     "is not published",
	} {
		parts := strings.SplitN(request, " ", 3)
		rq, err := http.NewRequestWithContext(t.Context(), parts[0], "https://acme.example"+parts[1], http.NoBody)
		require.NoError(t, err)
		found := unpublished(rq, []byte(strings.Join(parts[2:], "")))
		if says == "" {
			require.Empty(t, found, request)
			continue
		}
		require.Contains(t, found, says, request)
	}
}
