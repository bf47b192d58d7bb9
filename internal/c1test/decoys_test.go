// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// use tries vended material as a thief would.
func (f *fixture) use(t *testing.T, m material) error {
	t.Helper()
	if m.Material.AccessToken != nil {
		return f.UseToken(t.Context(), m.Material.AccessToken.AccessToken)
	}
	require.NotNil(t, m.Material.ClientCredential)
	return f.Login(t.Context(), m.Material.ClientCredential.ClientID, m.Material.ClientCredential.ClientSecret)
}

func (m material) secret() string {
	switch {
	case m.Material.ClientCredential != nil:
		return m.Material.ClientCredential.ClientSecret
	case m.Material.AccessToken != nil:
		return m.Material.AccessToken.AccessToken
	default:
		return ""
	}
}

func TestUsingADecoyFailsAndRaisesAFinding(t *testing.T) {
	t.Parallel()
	for kind, endpoint := range map[c1test.Kind]string{
		c1test.KindUserClientCredential: "POST /auth/v1/token",
		c1test.KindConnectorClient:      "POST /auth/v1/token",
		c1test.KindAccessToken:          "GET /api/v1/auth/introspect",
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var now clock
			f := start(t, c1test.Options{TLS: true, Now: now.now})
			id := f.NewDecoy(kind, "Bait", map[string]string{"planted": "build server"})
			first, second := f.rotateDecoy(t, id), f.rotateDecoy(t, id)
			require.NotEqual(t, first.secret(), second.secret())
			require.Equal(t, sha(second.secret()), second.Decoy.Fingerprint)
			require.Equal(t, second.Decoy.Fingerprint, f.DecoyFingerprint(id))

			require.Error(t, f.use(t, second))
			now.advance(time.Minute)
			require.Error(t, f.use(t, first), "an older copy tells on its thief too")

			found := f.Findings()
			require.Len(t, found, 2)
			require.Equal(t, sha(second.secret()), found[0].Fingerprint)
			require.Equal(t, sha(first.secret()), found[1].Fingerprint)
			require.Equal(t, c1test.Finding{
				DecoyID: id, DisplayName: "Bait", Kind: kind, Severity: "CRITICAL",
				Fingerprint: sha(first.secret()), Time: clockStart.Add(time.Minute),
				SourceIP: "127.0.0.1", UserAgent: "baton-c1/0.1", Endpoint: endpoint,
				Annotations: map[string]string{"planted": "build server"},
			}, found[1])
			require.Equal(t, 2, f.Changes(c1test.OpFinding))
		})
	}
}

func TestDecoysLoginFailsLikeAnyBadCredential(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	bait := f.rotateDecoy(t, f.Decoy(c1test.KindConnectorClient)).Material.ClientCredential
	asDecoy := f.login(t, secretForm(c1test.Identity{ClientID: bait.ClientID, ClientSecret: bait.ClientSecret}))
	asStranger := f.login(t, secretForm(c1test.Identity{ClientID: "a-b-1@h/spc", ClientSecret: "x"}))
	require.Equal(t, asStranger.status, asDecoy.status)
	require.Equal(t, string(asStranger.body), string(asDecoy.body))
	require.Len(t, f.Findings(), 1, "a secret in the body counts as much as an assertion")

	signed := f.Login(t.Context(), bait.ClientID, bait.ClientSecret)
	dead := f.Login(t.Context(), bait.ClientID, f.Identity().ClientSecret)
	require.Equal(t, dead, signed)
}

func TestOnlyTheDecoysOwnMaterialRaisesAFinding(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	client, token := f.Decoy(c1test.KindUserClientCredential), f.Decoy(c1test.KindAccessToken)
	bait, stolen := f.rotateDecoy(t, client), f.rotateDecoy(t, token)
	require.Error(t, f.Login(t.Context(), bait.Material.ClientCredential.ClientID, f.Identity().ClientSecret))
	require.Error(t, f.Login(t.Context(), bait.Material.ClientCredential.ClientID, "guess"))
	require.Error(t, f.UseToken(t.Context(), "guess"))
	require.Empty(t, f.Findings())

	patch := `{"decoy":{"disabled":true},"updateMask":"disabled"}`
	require.Equal(t, http.StatusOK, f.call(t, http.MethodPatch, "/api/v1/decoys/"+client, patch).status)
	f.DeleteDecoy(token)
	require.Error(t, f.use(t, bait))
	require.Error(t, f.use(t, stolen))
	require.Empty(t, f.Findings(), "a disabled and a deleted decoy are silent")
}

func TestWorkloadFederationDecoyHasATrustAndNoSecret(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	id := f.Decoy(c1test.KindWorkloadFederation)
	first, second := f.rotateDecoy(t, id), f.rotateDecoy(t, id)
	require.NotNil(t, second.Material.Federation)
	require.Nil(t, second.Material.ClientCredential)
	require.NotEqual(t, first.Material.Federation.TrustID, second.Material.Federation.TrustID)
	require.Empty(t, second.Decoy.Fingerprint)
	require.Empty(t, f.RotateDecoy(id))
}

func TestRotateKeepsTheDecoysIDAndClientID(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	id := f.Decoy(c1test.KindConnectorClient)
	first := f.rotateDecoy(t, id)
	foreign := f.RotateDecoy(id)
	require.NotEqual(t, first.Decoy.Fingerprint, foreign)
	second := f.rotateDecoy(t, id)
	require.Equal(t, id, second.Decoy.ID)
	require.Equal(t, first.Material.ClientCredential.ClientID, second.Material.ClientCredential.ClientID)
}

func TestDecoysAreCreatedChangedAndDeleted(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for body, kind := range map[string]c1test.Kind{
		fmt.Sprintf(`"userClientCredential":{"userId":%q}`, f.User()): c1test.KindUserClientCredential,
		`"connectorClient":{}`: c1test.KindConnectorClient,
		fmt.Sprintf(`"accessToken":{"subjectUserId":%q,"expiresIn":"60s"}`, f.User()): c1test.KindAccessToken,
		`"workloadFed":{"any":"thing"}`:                                               c1test.KindWorkloadFederation,
	} {
		answer := f.call(t, http.MethodPost, "/api/v1/decoys",
			`{"displayName":"Bait","description":"d","annotations":{"a":"1","b":"2"},`+body+`}`)
		require.Equal(t, http.StatusOK, answer.status, string(kind))
		var made material
		answer.decode(t, &made)
		require.Equal(t, kind, made.Decoy.Kind)
		require.Equal(t, "d", *made.Decoy.Description)
		if made.secret() != "" {
			require.Equal(t, sha(made.secret()), made.Decoy.Fingerprint)
		}

		path := "/api/v1/decoys/" + made.Decoy.ID
		patch := `{"decoy":{"displayName":"New","description":"ignored","annotations":{"a":"","c":"3"}},"updateMask":"annotations,displayName"}`
		var changed material
		f.call(t, http.MethodPatch, path, patch).decode(t, &changed)
		require.Equal(t, "New", changed.Decoy.DisplayName)
		require.Equal(t, "d", *changed.Decoy.Description, "not in the mask")
		require.Equal(t, map[string]string{"b": "2", "c": "3"}, changed.Decoy.Annotations)

		require.Equal(t, http.StatusOK, f.call(t, http.MethodDelete, path, "{}").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, path, "").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPost, path+"/rotate", "{}").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPatch, path, patch).status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodDelete, path, "{}").status)
	}
	require.Len(t, f.Journal(), 3*4)
}

func TestDecoysAreListedPageByPage(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for i := range 28 {
		f.NewDecoy(c1test.KindAccessToken, fmt.Sprint("bait ", i), nil)
	}
	f.DeleteDecoy(f.Decoy(c1test.KindWorkloadFederation))
	for size, pages := range map[string]int{"": 2, "10": 4, "31": 1, "100": 1} {
		seen, token := map[string]bool{}, ""
		for page := range pages {
			query := url.Values{}
			if size != "" {
				query.Set("page_size", size)
			}
			if token != "" {
				query.Set("page_token", token)
			}
			var out struct {
				List          []struct{ ID string }
				NextPageToken string
			}
			f.call(t, http.MethodGet, "/api/v1/decoys?"+query.Encode(), "").decode(t, &out)
			for _, d := range out.List {
				seen[d.ID] = true
			}
			token = out.NextPageToken
			assert.Equal(t, page == pages-1, token == "", "size %q, page %d", size, page)
		}
		assert.Len(t, seen, 31, "size %q", size)
	}
	for _, bad := range []string{"page_size=-1", "page_size=101", "page_size=x", "page_token=unknown"} {
		require.Equal(t, http.StatusBadRequest, f.call(t, http.MethodGet, "/api/v1/decoys?"+bad, "").status, bad)
	}
}

func TestTenantsWithoutTheFeatureKnowNoDecoys(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.SetDecoyFeature(false)
	for _, path := range []string{"/api/v1/decoys", "/api/v1/decoys/" + f.Decoy(c1test.KindAccessToken)} {
		answer := f.call(t, http.MethodGet, path, "")
		require.Equal(t, http.StatusNotFound, answer.status)
		code, message := answer.failure(t)
		require.Equal(t, 5, code)
		require.Equal(t, "Not Found", message)
	}
	f.SetDecoyFeature(true)
	require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, "/api/v1/decoys", "").status)
}
