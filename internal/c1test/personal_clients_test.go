// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const personalClients = "/api/v1/iam/personal_clients"

func TestPersonalClientLivesFromItsCreationToItsDeletion(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.NewIdentity(c1test.PersonalClient(), c1test.PlainSecret())
	answer := f.as(t, me, http.MethodPost, personalClients, `{"displayName":"next"}`)
	require.Equal(t, http.StatusOK, answer.status)
	var out struct {
		Client struct {
			ID, UserID, ClientID, DisplayName string
			ExpiresTime, DeletedAt            *time.Time
		}
		ClientSecret string
	}
	answer.decode(t, &out)
	require.Nil(t, out.Client.ExpiresTime, "without an end it has none")
	require.Equal(t, f.live(t, me.ClientID).ServicePrincipalID, out.Client.UserID)
	require.True(t, strings.HasSuffix(out.Client.ClientID, "/pcc"))
	next := c1test.Identity{ClientID: out.Client.ClientID, ClientSecret: out.ClientSecret}
	now.advance(1000 * day)
	f.live(t, next.ClientID)
	require.Equal(t, f.as(t, me, http.MethodGet, "/api/v1/auth/introspect", "").field(t, "userId"),
		f.as(t, next, http.MethodGet, "/api/v1/auth/introspect", "").field(t, "userId"))

	name, _, _ := strings.Cut(next.ClientID, "@")
	for _, id := range []string{out.Client.ID, name} { // C1's description calls the parameter both
		require.Equal(t, next.ClientID, f.as(t, me, http.MethodGet, personalClients+"/"+id, "").field(t, "client", "clientId"))
	}
	require.Equal(t, http.StatusOK, f.as(t, next, http.MethodDelete, personalClients+"/"+f.live(t, me.ClientID).ID, "").status)
	require.EqualError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret), "invalid_client")
	require.Len(t, f.as(t, next, http.MethodGet, personalClients, "").field(t, "list"), 1)
	require.Equal(t, 1, f.Changes(c1test.OpCreatePersonalClient))
	require.Equal(t, 1, f.Changes(c1test.OpDeletePersonalClient))
}

func TestPersonalClientsOfOthersAreNotSeen(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	me, other := f.NewIdentity(c1test.PersonalClient()), f.NewIdentity(c1test.PersonalClient())
	theirs := personalClients + "/" + f.live(t, other.ClientID).ID
	for _, caller := range []c1test.Identity{me, f.Identity()} {
		for method, body := range map[string]string{
			http.MethodGet: "", http.MethodDelete: "", http.MethodPost: `{"client":{"displayName":"x"},"updateMask":"displayName"}`,
		} {
			require.Equal(t, http.StatusNotFound, f.as(t, caller, method, theirs, body).status, method)
		}
	}
	require.Len(t, f.as(t, me, http.MethodGet, personalClients, "").field(t, "list"), 1)
	require.Empty(t, f.as(t, f.Identity(), http.MethodGet, personalClients, "").field(t, "list"))
	f.live(t, other.ClientID)
}

func TestPersonalClientRequestsAreChecked(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	me := f.NewIdentity(c1test.PersonalClient())
	own := personalClients + "/" + f.live(t, me.ClientID).ID
	before := len(f.LiveCredentials())
	for name, test := range map[string]struct {
		caller             c1test.Identity
		method, path, body string
		status             int
		why                string
	}{
		"no name":              {me, http.MethodPost, personalClients, `{}`, 400, "displayName"},
		"no duration":          {me, http.MethodPost, personalClients, `{"displayName":"x","expires":"90d"}`, 400, "number of seconds"},
		"an empty duration":    {me, http.MethodPost, personalClients, `{"displayName":"x","expires":""}`, 400, "number of seconds"},
		"no CIDR":              {me, http.MethodPost, personalClients, `{"displayName":"x","allowSourceCidr":["x"]}`, 400, "no CIDR"},
		"another's role":       {me, http.MethodPost, personalClients, `{"displayName":"x","scopedRoles":["x"]}`, 400, "no role"},
		"of a service":         {f.Identity(), http.MethodPost, personalClients, `{"displayName":"x"}`, 400, "service principal"},
		"update of the end":    {me, http.MethodPost, own, `{"client":{},"updateMask":"expiresTime"}`, 400, "updateMask"},
		"update to no name":    {me, http.MethodPost, own, `{"client":{},"updateMask":"displayName"}`, 400, "displayName"},
		"update to a bad CIDR": {me, http.MethodPost, own, `{"client":{"allowSourceCidr":["x"]},"updateMask":"allowSourceCidr"}`, 400, "no CIDR"},
		"update of nothing":    {me, http.MethodPost, own, `{"updateMask":"displayName"}`, 400, "client is required"},
		"get, unknown":         {me, http.MethodGet, personalClients + "/never-was", "", 404, "personal client"},
		"delete, unknown":      {me, http.MethodDelete, personalClients + "/never-was", "", 404, "personal client"},
		"delete, no object":    {me, http.MethodDelete, own, "[]", 400, "one JSON object"},
		"list, a wrong page":   {me, http.MethodGet, personalClients + "?page_size=1000", "", 400, "page size"},
	} {
		answer := f.as(t, test.caller, test.method, test.path, test.body)
		assert.Equal(t, test.status, answer.status, name)
		_, message := answer.failure(t)
		assert.Contains(t, message, test.why, name)
	}
	require.Len(t, f.LiveCredentials(), before)

	updated := f.as(t, me, http.MethodPost, own,
		`{"client":{"displayName":"x","scopedRoles":["Super Administrator"],"allowSourceCidr":["127.0.0.0/8"]},"updateMask":"scopedRoles,allowSourceCidr"}`)
	require.Equal(t, http.StatusOK, updated.status)
	require.Equal(t, "Vault", updated.field(t, "client", "displayName"), "the mask does not name it")
	require.Equal(t, []any{"127.0.0.0/8"}, updated.field(t, "client", "allowSourceCidr"))
	require.Equal(t, []any{"Super Administrator"}, updated.field(t, "client", "scopedRoles"))
}
