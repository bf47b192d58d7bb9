// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testPrincipalID = "blue-whale-12345@acme.conductor.one/spc"
	goodOwn         = `{"credential":{"id":"blue-whale-12345","clientId":"` + testPrincipalID + `","servicePrincipalId":"user1","displayName":"d","createdAt":"2026-01-01T00:00:00Z","expiresAt":"2126-04-01T00:00:00Z","lastUsedAt":null,"scopedRoleIds":["r1","r2"],"allowSourceCidrs":null,"requireDpop":true},"clientSecret":"s3cr3t-value"}`
	goodPersonal    = `{"client":{"id":"red-fox-1","clientId":"red-fox-1@acme.conductor.one/pcc","userId":"user1","displayName":"d","expiresTime":null,"deletedAt":null,"scopedRoles":[],"allowSourceCidr":["10.0.0.0/8"]},"clientSecret":"s3cr3t-value"}`
)

var testPrincipal = Owner{ServicePrincipalID: "user1"}

func TestOwnerIsToldByTheUseOfTheClientID(t *testing.T) {
	t.Parallel()
	who := &Introspection{UserID: "user1", PrincipalID: "principal1"}
	owner, err := OwnerOf(testPrincipalID, who)
	require.NoError(t, err)
	require.Equal(t, testPrincipal, owner)
	for _, w := range []*Introspection{who, nil} {
		owner, err = OwnerOf(testClientID, w)
		require.NoError(t, err)
		require.Equal(t, Owner{}, owner)
	}
	for id, says := range map[string]string{
		testTrust:                   "no secret that could be replaced",
		"a@acme.conductor.one/ccc":  "the use ccc cannot be managed",
		"a@acme.conductor.one":      "no use",
		"a@acme.conductor.one/spc2": "spc2",
	} {
		_, err := OwnerOf(id, who)
		require.ErrorContains(t, err, says)
	}
	for _, w := range []*Introspection{nil, {}, {UserID: ".."}, {PrincipalID: "principal1"}} {
		_, err := OwnerOf(testPrincipalID, w)
		require.ErrorContains(t, err, "no user ID")
	}
	require.Equal(t, "blue-whale-12345", CredentialIDOf(testPrincipalID))
	require.Empty(t, CredentialIDOf("blue-whale-12345"))
}

func TestCreatedCredentialIsReadInBothForms(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: inTurn(reply{body: goodOwn}, reply{body: goodPersonal})}
	c, _ := newClient(t, f)
	cred, secret, err := c.CreateOwnCredential(t.Context(), testPrincipal, NewCredential{
		DisplayName: "d", Lifetime: 30*24*time.Hour + time.Millisecond, ScopedRoles: []string{"r1", "r2"},
		AllowSourceCIDRs: []string{"10.0.0.0/8"}, RequireDPoP: true,
	})
	require.NoError(t, err)
	require.Equal(t, "s3cr3t-value", secret)
	require.Equal(t, &OwnCredential{
		ID: "blue-whale-12345", ClientID: testPrincipalID, DisplayName: "d", ScopedRoles: []string{"r1", "r2"}, RequireDPoP: true,
		CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ExpiresAt: time.Date(2126, 4, 1, 0, 0, 0, 0, time.UTC),
	}, cred)
	require.JSONEq(t, `{"displayName":"d","expires":"2592000s","scopedRoles":["r1","r2"],"allowSourceCidrs":["10.0.0.0/8"],"requireDpop":true}`, f.requests[0].body)

	cred, secret, err = c.CreateOwnCredential(t.Context(), Owner{}, NewCredential{DisplayName: "d", ScopedRoles: []string{"r1"}, AllowSourceCIDRs: []string{"10.0.0.0/8"}})
	require.NoError(t, err)
	require.Equal(t, "s3cr3t-value", secret)
	require.Equal(t, &OwnCredential{
		ID: "red-fox-1", ClientID: "red-fox-1@acme.conductor.one/pcc", DisplayName: "d", AllowSourceCIDRs: []string{"10.0.0.0/8"},
	}, cred)
	require.Equal(t, "POST /api/v1/iam/personal_clients", f.requests[1].method+" "+f.requests[1].path)
	require.JSONEq(t, `{"displayName":"d","scopedRoles":["r1"],"allowSourceCidr":["10.0.0.0/8"]}`, f.requests[1].body)
}

func TestCredentialThatC1CannotCreateIsNotAskedFor(t *testing.T) {
	t.Parallel()
	f := &fakeC1{}
	c, _ := newClient(t, f)
	for _, bad := range []struct {
		owner Owner
		new   NewCredential
	}{
		{testPrincipal, NewCredential{}},
		{testPrincipal, NewCredential{Lifetime: -time.Hour}},
		{testPrincipal, NewCredential{Lifetime: time.Millisecond}},
		{Owner{}, NewCredential{RequireDPoP: true}},
		{Owner{ServicePrincipalID: ".."}, NewCredential{Lifetime: time.Hour}},
	} {
		_, _, err := c.CreateOwnCredential(t.Context(), bad.owner, bad.new)
		requireReason(t, err, ReasonNotSent)
	}
	_, err := c.OwnCredential(t.Context(), Owner{}, "")
	requireReason(t, err, ReasonNotSent)
	_, err = c.EndOwnCredential(t.Context(), Owner{ServicePrincipalID: "a b"}, "x")
	requireReason(t, err, ReasonNotSent)
	_, err = c.OwnCredentials(t.Context(), Owner{ServicePrincipalID: "."})
	requireReason(t, err, ReasonNotSent)
	require.Zero(t, f.asked+f.mints)
}

func TestCreatedCredentialThatCannotBeUsedIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	signing, _ := newSecret(t)
	edited := func(old, replacement string) string {
		require.Contains(t, goodOwn, old)
		return strings.Replace(goodOwn, old, replacement, 1)
	}
	for says, body := range map[string]string{
		"is empty":                           "",
		"must be":                            "<html>",
		"does not show it":                   `{"credential":null,"clientSecret":"s3cr3t-value"}`,
		"its id is missing":                  `{"credential":{"clientId":"x@acme.conductor.one/spc"},"clientSecret":"s3cr3t-value"}`,
		"its clientId is missing":            edited(`"clientId":"`+testPrincipalID+`"`, `"clientId":null`),
		"no use":                             edited(testPrincipalID, "blue-whale-12345@acme.conductor.one"),
		"its clientSecret is missing":        edited(`"clientSecret":"s3cr3t-value"`, `"clientSecret":""`),
		"its clientSecret is not text":       edited(`"clientSecret":"s3cr3t-value"`, `"clientSecret":{"a":"s3cr3t-value"}`),
		"holds a control character":          edited(`s3cr3t-value`, `s3cr3t-value\n`),
		"is not complete":                    edited(`s3cr3t-value`, "secret-token:s3cr3t-value"),
		"a version other than":               edited(`s3cr3t-value`, strings.Replace(signing, ":v1:", ":v2:", 1)),
		"another service principal's":        edited(`"servicePrincipalId":"user1"`, `"servicePrincipalId":"user2"`),
		"already expired":                    edited("2126", "2016"),
		"already deleted":                    edited(`"lastUsedAt":null`, `"deletedAt":"2026-01-01T00:00:00Z"`),
		"(id blue-whale-12345) cannot be us": edited(`s3cr3t-value`, ``),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: always(reply{body: body})}
			c, _ := newClient(t, f)
			cred, secret, err := c.CreateOwnCredential(t.Context(), testPrincipal, NewCredential{Lifetime: time.Hour})
			e := failedFor(t, err, ReasonUnknown)
			require.True(t, OutcomeUnknown(err))
			require.Contains(t, e.Message, says)
			require.NotContains(t, e.Message, "s3cr3t")
			require.Nil(t, cred)
			require.Empty(t, secret)
			require.Len(t, f.requests, 1)
		})
	}
}

func TestOddFieldsOfOwnCredentialsAreLeftOutWithAWarning(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: `{"credential":{"clientId":"` + testPrincipalID + `","displayName":"a\u202eb\n` + strings.Repeat("x", 300) +
		`","createdAt":"yesterday","expiresAt":"1970-01-01T00:00:00Z","scopedRoleIds":[1,"r\n1",null],"allowSourceCidrs":"10/8","requireDpop":"yes","new":{}}}`})}
	c, _ := newClient(t, f)
	cred, err := c.OwnCredential(t.Context(), testPrincipal, "blue-whale-12345")
	require.NoError(t, err)
	require.Len(t, cred.DisplayName, 256+2) // the last character is an ellipsis
	require.Equal(t, []string{"r 1"}, cred.ScopedRoles)
	require.Zero(t, cred.CreatedAt)
	require.Zero(t, cred.ExpiresAt)
	require.False(t, cred.RequireDPoP)
	require.Len(t, cred.Warnings, 3)

	for _, body := range []string{`{}`, `{"client":{"id":"x"}}`, `{"credential":{"id":"another"}}`, `{"credential":{"servicePrincipalId":"user2"}}`} {
		f := &fakeC1{api: always(reply{body: body})}
		c, _ := newClient(t, f)
		_, err := c.OwnCredential(t.Context(), testPrincipal, "blue-whale-12345")
		requireReason(t, err, ReasonUnavailable)
	}
}

func TestOwnCredentialsAreListedToTheEnd(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: inTurn(
		reply{body: `{"list":[{"id":"a"},{},null,"x",{"clientId":"b@acme.conductor.one/spc"}],"nextPageToken":"p/2"}`},
		reply{body: `{"list":null,"nextPageToken":"p/3"}`},
		reply{body: `{"list":[{"id":"c","expiresAt":"2016-01-01T00:00:00Z"}],"nextPageToken":""}`},
	)}
	c, _ := newClient(t, f)
	all, err := c.OwnCredentials(t.Context(), testPrincipal)
	require.NoError(t, err)
	var ids, queries []string
	for _, cred := range all {
		ids = append(ids, cred.ID)
	}
	for _, r := range f.requests {
		queries = append(queries, r.query)
	}
	require.Equal(t, []string{"a", "b", "c"}, ids)
	require.Equal(t, []string{"", "page_token=p%2F2", "page_token=p%2F3"}, queries)

	for _, page := range []func(int, *http.Request) reply{
		always(reply{body: `{"list":[{"id":"a"}],"nextPageToken":"same"}`}),
		always(reply{body: `{"list":{}}`}),
		always(reply{body: `{"code":5}`}),
		func(n int, _ *http.Request) reply { return reply{body: fmt.Sprintf(`{"nextPageToken":"%d"}`, n)} },
	} {
		f := &fakeC1{api: page}
		c, _ := newClient(t, f)
		all, err := c.OwnCredentials(t.Context(), Owner{})
		requireReason(t, err, ReasonUnavailable)
		require.Nil(t, all)
		require.LessOrEqual(t, len(f.requests), maxListPages)
	}
}

func TestEndOfAnOwnCredentialTakesEvidence(t *testing.T) {
	t.Parallel()
	const (
		revoke = "DELETE /api/v1/iam/personal_clients/red-fox-1"
		get    = "GET /api/v1/iam/personal_clients/red-fox-1"
		list   = "GET /api/v1/iam/personal_clients"
	)
	shows := reply{body: goodPersonal}
	for name, c := range map[string]struct {
		answers  map[string]reply
		requests int
		why      string
		reason   Reason
		says     string
	}{
		"revoked":              {map[string]reply{revoke: {}}, 1, "C1 revoked it", "", ""},
		"gone already":         {map[string]reply{list: {body: `{"list":[{"id":"other"}]}`}}, 3, "its list of credentials does not contain it", "", ""},
		"listed as deleted":    {map[string]reply{list: {body: `{"list":[{"id":"red-fox-1","deletedAt":"2026-01-01T00:00:00Z"}]}`}}, 3, "does not contain it", "", ""},
		"404, yet listed":      {map[string]reply{list: {body: `{"list":[{"id":"red-fox-1"}]}`}}, 3, "", ReasonNotFound, "this 404 proves nothing"},
		"404 of everything":    {nil, 3, "", ReasonNotFound, "may be switched off"},
		"404 of a proxy":       {map[string]reply{get: {status: 404, body: "<html>"}, list: {body: `{}`}}, 2, "", ReasonNotFound, "not in C1's own form"},
		"shown as deleted":     {map[string]reply{get: {body: `{"client":{"deletedAt":"2026-01-01T00:00:00Z"}}`}}, 2, "deleted since 2026", "", ""},
		"shown as expired":     {map[string]reply{revoke: {status: 409}, get: {body: `{"client":{"expiresTime":"2026-01-01T00:00:00Z"}}`}}, 2, "expired since 2026", "", ""},
		"alive":                {map[string]reply{revoke: {status: 400}, get: shows}, 2, "", ReasonRejected, "C1 still shows the credential"},
		"lost, alive":          {map[string]reply{revoke: {status: 500}, get: shows}, 2, "", ReasonUnknown, "C1 still shows the credential"},
		"no right":             {map[string]reply{revoke: {status: 403}}, 1, "", ReasonForbidden, "scoped roles"},
		"a login page as list": {map[string]reply{list: {body: "<html>"}}, 3, "", ReasonUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: routes(c.answers)}
			client, _ := newClient(t, f, withRetries(0))
			why, err := client.EndOwnCredential(t.Context(), Owner{}, "red-fox-1")
			require.Len(t, f.requests, c.requests)
			require.Contains(t, why, c.why)
			require.Equal(t, c.why != "", why != "")
			if c.reason == "" {
				require.NoError(t, err)
				return
			}
			require.Contains(t, failedFor(t, err, c.reason).Message, c.says)
		})
	}
}
