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

			path := credentialPath(ref, second.ID)
			require.Equal(t, http.StatusOK, f.call(t, http.MethodDelete, path, "{}").status)
			require.EqualError(t, f.Login(t.Context(), second.ClientID, second.ClientSecret), "invalid_client")
			again := f.call(t, http.MethodDelete, path, "{}")
			require.Equal(t, http.StatusNotFound, again.status)
			code, _ := again.failure(t)
			require.Equal(t, 5, code)
			require.Equal(t, 1, f.Changes(c1test.OpRevokeConnectorCredential))
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
	require.NotContains(t, string(answer.body), "secret")
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
	for method, at := range map[string]string{http.MethodGet: path, http.MethodDelete: credentialPath(ref, minted.ID)} {
		body := map[string]string{http.MethodDelete: "{}"}[method]
		require.Equal(t, http.StatusNotFound, f.call(t, method, at, body).status)
	}
	require.EqualError(t, f.Login(t.Context(), minted.ClientID, minted.ClientSecret), "invalid_client")
	require.Zero(t, f.RotateConnector(ref))
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
	require.Regexp(t, `^[a-z]+-[a-z]+-[0-9]{5}@`+regexpQuote(host)+`/spc$`, minted.ClientID)
	require.Regexp(t, `^secret-token:conductorone\.com:v1:[A-Za-z0-9_-]+$`, minted.ClientSecret)
	require.Regexp(t, `^[0-9A-Za-z]{27}$`, minted.ID)
	require.Regexp(t, `/pcc$`, f.PlainIdentity().ClientID)
	require.NotContains(t, f.PlainIdentity().ClientSecret, "secret-token:")
}

func regexpQuote(s string) string { return strings.ReplaceAll(s, ".", `\.`) }
