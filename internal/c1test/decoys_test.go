// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"testing"
	"time"

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
				SourceIP: "127.0.0.1", UserAgent: "baton-c1-credential-provider", Endpoint: endpoint,
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

	for i, form := range c1test.LoginForms() {
		_, err := f.LoginAs(t.Context(), form, bait.ClientID, bait.ClientSecret)
		require.EqualError(t, err, "invalid_client", form)
		require.Len(t, f.Findings(), 2+i, "as each of C1's clients: %s", form)
	}

	signed := f.Login(t.Context(), bait.ClientID, bait.ClientSecret)
	dead := f.Login(t.Context(), bait.ClientID, f.Identity().ClientSecret)
	require.Equal(t, dead, signed)
}

func TestDecoysAccessTokenRaisesAFindingOnAnyRoute(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	bait := f.rotateDecoy(t, f.Decoy(c1test.KindAccessToken)).Material.AccessToken.AccessToken
	raised := 0
	for _, r := range append(c1test.Routes(), c1test.Route{Op: "unknown", Method: http.MethodGet, Path: "/api/v1/nothing"}) {
		for _, scheme := range []string{"Bearer ", "bearer ", "DPoP "} {
			answer, err := f.do(t, r.Method, r.Path, "", map[string]string{"Authorization": scheme + bait})
			require.NoError(t, err)
			require.GreaterOrEqual(t, answer.status, 400, r.Op)
			raised++
			require.Len(t, f.Findings(), raised, "%s %s", r.Op, scheme)
		}
	}
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
		fmt.Sprintf(`"accessToken":{"subjectUserId":%q,"expiresIn":"60s"}`, f.User()):                                                         c1test.KindAccessToken,
		fmt.Sprintf(`"workloadFed":{"providerId":"p","servicePrincipalUserId":%q,"conditionExpression":"true"},"accessToken":null`, f.User()): c1test.KindWorkloadFederation,
	} {
		answer := f.call(t, http.MethodPost, "/api/v1/decoys",
			`{"displayName":"Bait","description":"d","annotations":{"a":"1","b":"2"},`+body+`}`)
		require.Equal(t, http.StatusOK, answer.status, string(kind))
		var made material
		answer.decode(t, &made)
		require.Equal(t, kind, made.Decoy.Kind)
		require.Equal(t, "d", made.Decoy.Description)
		if made.secret() != "" {
			require.Equal(t, sha(made.secret()), made.Decoy.Fingerprint)
		}

		path := "/api/v1/decoys/" + made.Decoy.ID
		patch := `{"decoy":{"displayName":"New","description":"ignored","annotations":{"a":"","c":"3"}},"updateMask":"annotations,displayName"}`
		var changed material
		f.call(t, http.MethodPatch, path, patch).decode(t, &changed)
		require.Equal(t, "New", changed.Decoy.DisplayName)
		require.Equal(t, "d", changed.Decoy.Description, "not in the mask")
		require.Equal(t, map[string]string{"b": "2", "c": "3"}, changed.Decoy.Annotations)

		require.Equal(t, http.StatusOK, f.call(t, http.MethodDelete, path, "{}").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, path, "").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPost, path+"/rotate", "{}").status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPatch, path, patch).status)
		require.Equal(t, http.StatusNotFound, f.call(t, http.MethodDelete, path, "{}").status)
	}
	require.Len(t, f.Journal(), 3*4)
}
