// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestRotatedCredentialLogsInUntilItEnds(t *testing.T) {
	t.Parallel()
	for semantics, alive := range map[c1test.Semantics]int{c1test.Exclusive: 1, c1test.Overlapping: 2} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			f := start(t, c1test.Options{TLS: true, Semantics: semantics})
			ref := f.Connector()
			require.Empty(t, f.AliveCredentials(ref))
			first := f.rotateConnector(t, ref)
			require.NoError(t, f.Login(t.Context(), first.ClientID, first.ClientSecret))

			second := f.rotateConnector(t, ref)
			require.Len(t, f.AliveCredentials(ref), alive)
			require.NoError(t, f.Login(t.Context(), second.ClientID, second.ClientSecret))
			err := f.Login(t.Context(), first.ClientID, first.ClientSecret)
			if semantics == c1test.Exclusive {
				require.EqualError(t, err, "invalid_client")
				require.Equal(t, 1, f.Changes(c1test.OpEndCredential))
			} else {
				require.NoError(t, err)
			}

			require.Equal(t, http.StatusOK, f.call(t, http.MethodPost, credentialPath(ref, second.ID), "").status)
			require.EqualError(t, f.Login(t.Context(), second.ClientID, second.ClientSecret), "invalid_client")
			require.Equal(t, 1, f.Changes(c1test.OpRevokeConnectorCredential))
		})
	}
}

// C1's clients expect a credential that has ended in either form, whether it
// was revoked or a rotation ended it.
func TestEndedCredentialIsShownAsTheSwitchSays(t *testing.T) {
	t.Parallel()
	for answered, status := range map[c1test.RevokedAnswer]int{c1test.RevokedNotFound: 404, c1test.RevokedShown: 200} {
		t.Run(string(answered), func(t *testing.T) {
			t.Parallel()
			var now clock
			f := start(t, c1test.Options{Now: now.now, Semantics: c1test.Exclusive, RevokedAnswer: answered})
			replaced, revoked := f.rotateConnector(t, f.Connector()), f.rotateConnector(t, f.Connector())
			path := credentialPath(f.Connector(), revoked.ID)
			require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, path, "").status)
			first := f.call(t, http.MethodPost, path, "{}")
			require.Equal(t, http.StatusOK, first.status)
			require.JSONEq(t, `{}`, string(first.body))
			now.advance(time.Minute)

			for _, ended := range []string{replaced.ID, revoked.ID} {
				shown := f.call(t, http.MethodGet, credentialPath(f.Connector(), ended), "")
				require.Equal(t, status, shown.status)
				require.Equal(t, status, f.call(t, http.MethodPost, credentialPath(f.Connector(), ended), "").status, "revoked once more")
				if answered == c1test.RevokedNotFound {
					code, message := shown.failure(t)
					require.Equal(t, 5, code)
					require.Equal(t, "connector credential not found", message)
					continue
				}
				require.Equal(t, clockStart.Format(time.RFC3339), shown.field(t, "credential", "deletedAt"))
			}
			require.Equal(t, 1, f.Changes(c1test.OpRevokeConnectorCredential))

			f.SetRevokedAnswer(c1test.RevokedShown)
			require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, path, "").status)
		})
	}
}

func TestSemanticsCanChange(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.RotateConnector(f.Connector())
	f.RotateConnector(f.Connector())
	require.Len(t, f.AliveCredentials(f.Connector()), 2)
	f.SetSemantics(c1test.Exclusive)
	last := f.RotateConnector(f.Connector())
	alive := f.AliveCredentials(f.Connector())
	require.Len(t, alive, 1)
	require.Equal(t, last.ID, alive[0].ID)
}

func TestCredentialExpires(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	f.SetCredentialTTL(time.Hour)
	minted := f.rotateConnector(t, f.Connector())
	require.Equal(t, clockStart.Add(time.Hour), minted.ExpiresTime)
	require.NoError(t, f.Login(t.Context(), minted.ClientID, minted.ClientSecret))

	now.advance(time.Hour)
	require.EqualError(t, f.Login(t.Context(), minted.ClientID, minted.ClientSecret), "invalid_client")
	require.Empty(t, f.AliveCredentials(f.Connector()))
}

func TestSecretIsShownOnceOnly(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	minted := f.rotateConnector(t, f.Connector())
	require.Equal(t, f.Connector().AppID, minted.AppID)
	require.Equal(t, f.Connector().ConnectorID, minted.ConnectorID)

	answer := f.call(t, http.MethodGet, credentialPath(f.Connector(), minted.ID), "")
	require.Equal(t, http.StatusOK, answer.status)
	var out struct{ Credential credential }
	answer.decode(t, &out)
	require.Equal(t, minted.ClientID, out.Credential.ClientID)
	require.NotContains(t, string(answer.body), minted.ClientSecret)
}

// C1 shows what is not set.
func TestUnsetFieldsAreShown(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	minted := f.rotateConnector(t, f.Connector())
	answer := f.call(t, http.MethodGet, credentialPath(f.Connector(), minted.ID), "")
	for field, want := range map[string]any{"clientSecret": "", "deletedAt": nil, "expiresTime": nil, "lastUsedAt": nil} {
		require.Equal(t, want, answer.field(t, "credential", field), field)
	}
	id := f.NewDecoy(c1test.KindAccessToken, "Bait", nil)
	answer = f.call(t, http.MethodPost, "/api/v1/decoys/"+id+"/rotate", "")
	require.Empty(t, answer.field(t, "decoy", "annotations"))
	for field, want := range map[string]any{"description": "", "disabled": false, "lastUsedAt": nil} {
		require.Equal(t, want, answer.field(t, "decoy", field), field)
	}
	require.Nil(t, answer.field(t, "material", "clientCredential"))
	require.Nil(t, answer.field(t, "material", "workloadFederation"))
	answer = f.call(t, http.MethodGet, "/api/v1/auth/introspect", "")
	require.NotEmpty(t, answer.field(t, "tenantId"))
	require.Equal(t, []any{}, answer.field(t, "disabledModules"))
}

func TestUnknownConnectorsAreNotFound(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	ref := f.NewConnector("GitHub")
	minted := f.rotateConnector(t, ref)
	other := f.Connector()
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, credentialPath(other, minted.ID), "").status,
		"a credential belongs to one connector")
	mixed := c1test.ConnectorRef{AppID: other.AppID, ConnectorID: ref.ConnectorID}
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodPost, rotatePath, rotateBody(mixed)).status)

	path := "/api/v1/apps/" + ref.AppID + "/connectors/" + ref.ConnectorID
	answer := f.call(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, answer.status)
	require.Contains(t, string(answer.body), `"displayName":"GitHub"`)
	require.True(t, f.DeleteConnector(ref))
	require.False(t, f.DeleteConnector(ref))
	for method, at := range map[string]string{http.MethodGet: path, http.MethodPost: credentialPath(ref, minted.ID)} {
		require.Equal(t, http.StatusNotFound, f.call(t, method, at, "").status)
	}
	require.EqualError(t, f.Login(t.Context(), minted.ClientID, minted.ClientSecret), "invalid_client")
	require.Zero(t, f.RotateConnector(ref))
}

func TestConnectorsOfAnAppAreListedPageByPage(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	app := f.Connector().AppID
	want := map[string]bool{f.Connector().ConnectorID: true}
	for range 4 {
		want[f.NewConnectorOf(app, "more").ConnectorID] = true
	}
	f.NewConnector("of another app")
	path := "/api/v1/apps/" + app + "/connectors"
	for query, pages := range map[string]int{"?": 1, "?page_size=0": 1, "?page_size=2": 3, "?page_size=5&other=1": 1} {
		seen, token := map[string]bool{}, ""
		for page := range pages {
			var out struct {
				List          []struct{ Connector struct{ ID, AppID string } }
				NextPageToken string
			}
			f.call(t, http.MethodGet, path+query+"&page_token="+token, "").decode(t, &out)
			for _, view := range out.List {
				seen[view.Connector.ID] = true
				assert.Equal(t, app, view.Connector.AppID)
			}
			token = out.NextPageToken
			assert.Equal(t, page == pages-1, token == "", query)
		}
		assert.Equal(t, want, seen, query)
	}
	for _, bad := range []string{"page_size=-1", "page_size=101", "page_size=x", "page_token=unknown"} {
		require.Equal(t, http.StatusBadRequest, f.call(t, http.MethodGet, path+"?"+bad, "").status, bad)
	}
	require.Equal(t, http.StatusNotFound, f.call(t, http.MethodGet, "/api/v1/apps/unknown/connectors", "").status)
	for id := range want {
		require.True(t, f.DeleteConnector(c1test.ConnectorRef{AppID: app, ConnectorID: id}))
	}
	require.Equal(t, []any{}, f.call(t, http.MethodGet, path, "").field(t, "list"), "the app is still there")
}

func TestEscapedIDsStayOneSegment(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	odd := url.PathEscape("a/b c?d#e")
	answer := f.call(t, http.MethodGet, "/api/v1/decoys/"+odd, "")
	require.Equal(t, http.StatusNotFound, answer.status)
	require.Equal(t, 1, f.Requests(c1test.OpGetDecoy), "not another operation's path")
	fault := f.AddFault(c1test.Fault{Object: "a/b c?d#e", Status: http.StatusConflict})
	require.Equal(t, http.StatusConflict, f.call(t, http.MethodGet, "/api/v1/decoys/"+odd, "").status)
	require.Equal(t, 1, fault.Hits())
}

func TestOutsideChangesAreInTheJournal(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	require.Empty(t, f.Journal(), "seeds are no changes")
	minted := f.RotateConnector(f.Connector())
	require.True(t, f.RevokeCredential(minted.ID))
	require.False(t, f.RevokeCredential(minted.ID))
	f.rotateConnector(t, f.Connector())

	journal := f.Journal()
	require.Len(t, journal, 3)
	for i, entry := range journal {
		assert.Equal(t, i+1, entry.Seq)
		assert.Equal(t, "acme", entry.Tenant)
		assert.Equal(t, f.Connector().ConnectorID, entry.Object)
		assert.Len(t, entry.Fingerprint, 64)
	}
	require.Equal(t, minted.ID, journal[1].CredentialID)
	require.NotEmpty(t, journal[0].Detail)
	require.Empty(t, journal[2].Detail, "this one came over the API")
}

func TestMintedMaterialHasC1sForm(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{TLS: true})
	minted := f.rotateConnector(t, f.Connector())
	host := strings.TrimPrefix(f.URL(), "https://")
	require.Regexp(t, `^[a-z]+-[a-z]+-[0-9]{5}@`+regexpQuote(host)+`/ccc$`, minted.ClientID)
	bait := f.rotateDecoy(t, f.Decoy(c1test.KindConnectorClient)).Material.ClientCredential
	require.Regexp(t, `/ccc$`, bait.ClientID, "bait looks like the real thing")
	require.Regexp(t, `/spc$`, f.Identity().ClientID)
	require.Regexp(t, `^secret-token:conductorone\.com:v1:[A-Za-z0-9_-]+$`, minted.ClientSecret)
	require.Regexp(t, `^[0-9A-Za-z]{27}$`, minted.ID)
	require.Regexp(t, `/pcc$`, f.PlainIdentity().ClientID)
	require.NotContains(t, f.PlainIdentity().ClientSecret, "secret-token:")
}

func regexpQuote(s string) string { return strings.ReplaceAll(s, ".", `\.`) }
