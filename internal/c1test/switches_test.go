// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// A feature that is off looks like a route that does not exist, whether the
// object that is asked for exists or not, and acts on nothing.
func TestFeatureThatIsOffAnswersLikeAnUnknownRoute(t *testing.T) {
	t.Parallel()
	for _, feature := range c1test.Features() {
		t.Run(string(feature), func(t *testing.T) {
			t.Parallel()
			f := start(t, c1test.Options{})
			credential := f.RotateConnector(f.Connector())
			ids := map[string]string{
				c1test.OpGetConnector: f.Connector().ConnectorID, c1test.OpGetConnectorCredential: credential.ID,
				c1test.OpRevokeConnectorCredential: credential.ID, c1test.OpGetFinding: f.ExposeDecoy(f.Decoy(c1test.KindAccessToken), ""),
			}
			f.SetFeature(feature, false)
			before, refused := len(f.Journal()), 0
			for _, r := range c1test.Routes() {
				id := f.Decoy(c1test.KindAccessToken)
				if ids[r.Op] != "" {
					id = ids[r.Op]
				}
				path := strings.NewReplacer("{app_id}", f.Connector().AppID,
					"{connector_id}", f.Connector().ConnectorID, "{id}", id).Replace(r.Path)
				if r.Feature != feature {
					continue
				}
				refused++
				body := ""
				if r.Method != http.MethodGet {
					body = "{}"
				}
				answer := f.call(t, r.Method, path, body)
				require.Equal(t, http.StatusNotFound, answer.status, r.Op)
				require.JSONEq(t, `{"code":5,"message":"Not Found","details":[]}`, string(answer.body), r.Op)
			}
			require.Len(t, f.Journal(), before)
			require.Positive(t, refused)
			require.NotContains(t, f.call(t, http.MethodGet, "/api/v1/auth/introspect", "").field(t, "features"), string(feature))
			f.SetFeature(feature, true)
			require.Contains(t, f.call(t, http.MethodGet, "/api/v1/auth/introspect", "").field(t, "features"), string(feature))
		})
	}
}

func TestFeaturesComeBack(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	connector := "/api/v1/apps/" + f.Connector().AppID + "/connectors/" + f.Connector().ConnectorID
	for path, set := range map[string]func(bool){"/api/v1/decoys": f.SetDecoyFeature, connector: f.SetConnectorFeature} {
		set(false)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, path, "").status)
		set(true)
		require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, path, "").status)
	}
}
