// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const day = 24 * time.Hour

// live returns what the tenant holds of an identity, which must be alive.
func (f *fixture) live(t *testing.T, clientID string) c1test.OwnCredential {
	t.Helper()
	for _, c := range f.LiveCredentials() {
		if c.ClientID == clientID {
			return c
		}
	}
	require.Fail(t, "not alive", clientID)
	return c1test.OwnCredential{}
}

// bearer logs an identity in.
func (f *fixture) bearer(t *testing.T, id c1test.Identity) string {
	t.Helper()
	value, err := f.LoginToken(t.Context(), id.ClientID, id.ClientSecret)
	require.NoError(t, err)
	return value
}

// as is an API call of an identity.
func (f *fixture) as(t *testing.T, id c1test.Identity, method, path, body string) reply {
	t.Helper()
	answer, err := f.callWith(t, f.bearer(t, id), method, path, body)
	require.NoError(t, err)
	return answer
}

// ownPath is where the credentials of an identity's service principal are.
func (f *fixture) ownPath(t *testing.T, id c1test.Identity) string {
	t.Helper()
	return "/api/v1/service_principals/" + f.live(t, id.ClientID).ServicePrincipalID + "/credentials"
}

// ownCredential is the part of an answer that tests look at.
type ownCredential struct {
	Credential struct {
		ID, ServicePrincipalID, ClientID, DisplayName string
		ScopedRoleIDs                                 []string `json:"scopedRoleIds"`
		AllowSourceCidrs                              []string
		RequireDpop                                   bool
		CreatedAt                                     time.Time
		ExpiresAt, LastUsedAt                         *time.Time
	}
	ClientSecret string
}

func (o ownCredential) identity() c1test.Identity {
	return c1test.Identity{ClientID: o.Credential.ClientID, ClientSecret: o.ClientSecret}
}

// createOwn creates a credential beside the identity's own.
func (f *fixture) createOwn(t *testing.T, id c1test.Identity, fields string) ownCredential {
	t.Helper()
	answer := f.as(t, id, http.MethodPost, f.ownPath(t, id), `{"displayName":"next","expires":"7776000s"`+fields+`}`)
	require.Equal(t, http.StatusOK, answer.status, "%s", answer.body)
	var out ownCredential
	answer.decode(t, &out)
	return out
}

func TestCredentialLivesFromItsCreationToItsDeletion(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now, TokenTTL: time.Hour})
	me := f.NewIdentity(c1test.DisplayName("Vault"), c1test.ExpiresIn(90*day))
	path := f.ownPath(t, me)
	next := f.createOwn(t, me, `,"allowSourceCidrs":["127.0.0.0/8","2001:db8::/32"],"scopedRoles":["Super Administrator"]`)

	c := next.Credential
	require.Equal(t, c.ID, strings.Split(c.ClientID, "@")[0])
	require.True(t, strings.HasSuffix(c.ClientID, "/spc"), c.ClientID)
	require.Equal(t, path, "/api/v1/service_principals/"+c.ServicePrincipalID+"/credentials")
	require.Equal(t, []string{"Super Administrator"}, c.ScopedRoleIDs)
	require.Equal(t, []string{"127.0.0.0/8", "2001:db8::/32"}, c.AllowSourceCidrs)
	require.Equal(t, clockStart.Add(90*day), *c.ExpiresAt)
	require.Nil(t, c.LastUsedAt)
	require.True(t, strings.HasPrefix(next.ClientSecret, "secret-token:"))
	require.Contains(t, f.emulator.Secrets(), next.ClientSecret)

	for _, id := range []c1test.Identity{me, next.identity()} { // both are alive, and the same principal
		who := f.as(t, id, http.MethodGet, "/api/v1/auth/introspect", "")
		require.Equal(t, c.ServicePrincipalID, who.field(t, "userId"))
	}
	shown := f.as(t, me, http.MethodGet, path+"/"+c.ID, "")
	require.NotContains(t, string(shown.body), "clientSecret")
	require.Equal(t, clockStart.Format(time.RFC3339), shown.field(t, "credential", "lastUsedAt"))

	bearer := f.bearer(t, me)
	require.Equal(t, http.StatusOK, f.as(t, next.identity(), http.MethodDelete, path+"/"+f.live(t, me.ClientID).ID, "").status)
	require.EqualError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret), "invalid_client")
	require.NoError(t, f.UseToken(t.Context(), bearer), "tokens live on until their own end")
	now.advance(time.Hour)
	require.EqualError(t, f.UseToken(t.Context(), bearer), "C1 answered 401")
	require.Equal(t, 1, f.Changes(c1test.OpCreateServicePrincipalCredential))
	require.Equal(t, 1, f.Changes(c1test.OpDeleteServicePrincipalCredential))
	require.NotContains(t, fmt.Sprint(f.Journal(), f.LiveCredentials()), next.ClientSecret)
}

func TestExpiredCredentialCannotLogInAndIsStillShown(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.NewIdentity()
	next := f.createOwn(t, me, "")
	now.advance(90*day - time.Second)
	require.NoError(t, f.Login(t.Context(), next.Credential.ClientID, next.ClientSecret))
	now.advance(time.Second)
	require.EqualError(t, f.Login(t.Context(), next.Credential.ClientID, next.ClientSecret), "invalid_client")
	for _, c := range f.LiveCredentials() {
		require.NotEqual(t, next.Credential.ClientID, c.ClientID)
	}
	require.Equal(t, http.StatusOK, f.as(t, me, http.MethodGet, f.ownPath(t, me)+"/"+next.Credential.ID, "").status)
	now.advance(365 * day)
	require.NoError(t, f.Login(t.Context(), f.Identity().ClientID, f.Identity().ClientSecret), "the seeded identity never ends")
}

func TestCredentialRequestsAreChecked(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	me := f.NewIdentity(c1test.ScopedRoles("Auditor"))
	path := f.ownPath(t, me)
	own := path + "/" + f.live(t, me.ClientID).ID
	person := f.live(t, f.NewIdentity(c1test.PersonalClient()).ClientID).ServicePrincipalID
	before := len(f.LiveCredentials())
	cidrs := strings.Repeat(`"10.0.0.0/8",`, 32) + `"10.0.0.0/8"`
	create := func(fields string) string { return `{"displayName":"next",` + fields + `}` }
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		why                string
	}{
		"no name":            {http.MethodPost, path, `{"expires":"7776000s"}`, 400, "displayName"},
		"no end":             {http.MethodPost, path, `{"displayName":"next"}`, 400, "between 30 and 180 days"},
		"null as the end":    {http.MethodPost, path, create(`"expires":null`), 400, "between 30 and 180 days"},
		"29 days":            {http.MethodPost, path, create(`"expires":"2591999s"`), 400, "between 30 and 180 days"},
		"181 days":           {http.MethodPost, path, create(`"expires":"15552001s"`), 400, "between 30 and 180 days"},
		"no duration":        {http.MethodPost, path, create(`"expires":"90d"`), 400, "number of seconds"},
		"ISO 8601":           {http.MethodPost, path, create(`"expires":"P90D"`), 400, "number of seconds"},
		"a number":           {http.MethodPost, path, create(`"expires":7776000`), 400, "does not fit"},
		"a host as CIDR":     {http.MethodPost, path, create(`"expires":"7776000s","allowSourceCidrs":["10.0.0.1"]`), 400, "no CIDR"},
		"33 CIDRs":           {http.MethodPost, path, create(`"expires":"7776000s","allowSourceCidrs":[` + cidrs + `]`), 400, "at most 32"},
		"another's role":     {http.MethodPost, path, create(`"expires":"7776000s","scopedRoles":["Auditor","Nobody"]`), 400, "Nobody"},
		"null":               {http.MethodPost, path, `null`, 400, "one JSON object"},
		"no such principal":  {http.MethodPost, strings.Replace(path, "principals/", "principals/x", 1), create(`"expires":"7776000s"`), 404, "service principal"},
		"a person":           {http.MethodGet, "/api/v1/service_principals/" + person + "/credentials", "", 404, "service principal"},
		"get, unknown":       {http.MethodGet, path + "/never-was", "", 404, "credential"},
		"delete, unknown":    {http.MethodDelete, path + "/never-was", "", 404, "credential"},
		"delete, no object":  {http.MethodDelete, own, "[]", 400, "one JSON object"},
		"update, unknown":    {http.MethodPatch, path + "/never-was", `{"credential":{"displayName":"x"},"updateMask":"displayName"}`, 404, "credential"},
		"update, no mask":    {http.MethodPatch, own, `{"credential":{"displayName":"x"}}`, 400, "updateMask"},
		"update of the end":  {http.MethodPatch, own, `{"credential":{"displayName":"x"},"updateMask":"displayName,expiresAt"}`, 400, "updateMask"},
		"update of nothing":  {http.MethodPatch, own, `{"updateMask":"displayName"}`, 400, "credential is required"},
		"update to no name":  {http.MethodPatch, own, `{"credential":{},"updateMask":"displayName"}`, 400, "displayName"},
		"list, a wrong page": {http.MethodGet, path + "?page_token=unknown", "", 400, "page token"},
	} {
		answer := f.as(t, f.Identity(), test.method, test.path, test.body)
		assert.Equal(t, test.status, answer.status, name)
		_, message := answer.failure(t)
		assert.Contains(t, message, test.why, name)
	}
	require.Len(t, f.LiveCredentials(), before)
	for _, lifetime := range []string{"2592000s", "15552000s"} {
		require.Equal(t, http.StatusOK, f.as(t, me, http.MethodPost, path, create(`"expires":"`+lifetime+`"`)).status, lifetime)
	}
	renamed := f.as(t, me, http.MethodPatch, own, `{"credential":{"id":"x","displayName":"older"},"updateMask":"displayName"}`)
	require.Equal(t, "older", renamed.field(t, "credential", "displayName"))
	require.Equal(t, "older", f.live(t, me.ClientID).DisplayName)
}

func TestCredentialsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	me := f.NewIdentity()
	want := []string{f.live(t, me.ClientID).ID}
	for range 6 {
		want = append(want, f.live(t, f.NewIdentity(c1test.Beside(me)).ClientID).ID)
	}
	f.NewIdentity() // another principal's
	var got []string
	for token, pages := "", 0; pages < 10; pages++ {
		var out struct {
			List          []struct{ ID string }
			NextPageToken string
		}
		f.as(t, me, http.MethodGet, f.ownPath(t, me)+"?page_size=3&page_token="+token, "").decode(t, &out)
		for _, c := range out.List {
			got = append(got, c.ID)
		}
		if token = out.NextPageToken; token == "" {
			break
		}
	}
	require.ElementsMatch(t, want, got)
}

// What Denied and ScopeDenies take away, a new credential does not have either.
func TestCredentialIsNoStrongerThanItsCreator(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	const list = "/api/v1/decoys"
	me := f.NewIdentity(c1test.Denied(c1test.OpListDecoys), c1test.ScopeDenies(c1test.OpCreateServicePrincipalCredential))
	next := f.createOwn(t, me, "").identity()
	require.Equal(t, http.StatusForbidden, f.as(t, next, http.MethodGet, list, "").status)
	refused := f.as(t, next, http.MethodPost, f.ownPath(t, next), `{"displayName":"x","expires":"7776000s"}`)
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Equal(t, http.StatusOK, f.as(t, me, http.MethodGet, f.ownPath(t, next), "").status)

	weak := f.createOwn(t, f.NewIdentity(c1test.ScopeDenies()), "").identity()
	who := f.as(t, weak, http.MethodGet, "/api/v1/auth/introspect", "")
	require.Empty(t, who.field(t, "roles"))
	require.Empty(t, who.field(t, "permissions"))

	denied := f.NewIdentity(c1test.Denied(c1test.OpCreateServicePrincipalCredential, c1test.OpDeleteServicePrincipalCredential))
	for method, path := range map[string]string{
		http.MethodPost: f.ownPath(t, denied), http.MethodDelete: f.ownPath(t, denied) + "/" + f.live(t, denied.ClientID).ID,
	} {
		require.Equal(t, http.StatusForbidden, f.as(t, denied, method, path, "{}").status, method)
	}
	f.live(t, denied.ClientID)
}

func TestIntrospectionShowsThePrincipalAndItsScope(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	wide := f.NewIdentity()
	narrow := f.NewIdentity(c1test.Beside(wide), c1test.ScopedRoles(c1test.RoleBasicUser))
	other := f.NewIdentity()
	who := func(id c1test.Identity) reply { return f.as(t, id, http.MethodGet, "/api/v1/auth/introspect", "") }
	for _, field := range []string{"userId", "principleId"} {
		require.Equal(t, who(wide).field(t, field), who(narrow).field(t, field))
		require.NotEqual(t, who(wide).field(t, field), who(other).field(t, field))
	}
	require.Equal(t, []any{c1test.RoleSuperAdministrator, c1test.RoleBasicUser}, who(wide).field(t, "roles"))
	require.Equal(t, []any{c1test.RoleBasicUser}, who(narrow).field(t, "roles"))
}

func TestCredentialIsTakenFromItsRangesOnly(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	near := f.NewIdentity(c1test.SourceCIDRs("2001:db8::/32", "127.0.0.0/8"))
	far := f.NewIdentity(c1test.SourceCIDRs("10.0.0.0/8"))
	require.NoError(t, f.Login(t.Context(), near.ClientID, near.ClientSecret))
	require.EqualError(t, f.Login(t.Context(), far.ClientID, far.ClientSecret), "invalid_client")
}

func TestIdentitiesEndAsSomebodyElseWantsIt(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for name, end := range map[string]func(string) bool{"delete": f.DeleteIdentity, "expire": f.ExpireIdentity} {
		for kind, options := range map[string][]c1test.IdentityOption{"spc": nil, "pcc": {c1test.PersonalClient()}} {
			id := f.NewIdentity(options...)
			f.live(t, id.ClientID)
			require.True(t, end(id.ClientID), name+kind)
			require.False(t, end(id.ClientID), name+kind)
			require.EqualError(t, f.Login(t.Context(), id.ClientID, id.ClientSecret), "invalid_client", name+kind)
			for _, c := range f.LiveCredentials() {
				require.NotEqual(t, id.ClientID, c.ClientID, name+kind)
			}
		}
		require.False(t, end("never-was"))
		require.False(t, end(f.RotateConnector(f.Connector()).ClientID), "a connector's is no identity")
	}
}

func TestFaultsAndBarriersReachCredentials(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	me := f.NewIdentity()
	path := f.ownPath(t, me)
	const body = `{"displayName":"next","expires":"7776000s"}`
	const clients = "/api/v1/iam/personal_clients"
	person := f.NewIdentity(c1test.PersonalClient())

	f.AddFault(c1test.Fault{Op: c1test.OpCreateServicePrincipalCredential, Times: 1, OmitSecret: true})
	require.Empty(t, f.as(t, me, http.MethodPost, path, body).field(t, "clientSecret"))
	f.AddFault(c1test.Fault{Op: c1test.OpCreateServicePrincipalCredential, Times: 1, OmitMaterial: true})
	require.Nil(t, f.as(t, me, http.MethodPost, path, body).field(t, "credential"))
	f.AddFault(c1test.Fault{Op: c1test.OpCreatePersonalClient, Times: 1, OmitSecret: true})
	require.Empty(t, f.as(t, person, http.MethodPost, clients, body).field(t, "clientSecret"))
	f.AddFault(c1test.Fault{Op: c1test.OpCreatePersonalClient, Times: 1, OmitMaterial: true})
	require.Nil(t, f.as(t, person, http.MethodPost, clients, body).field(t, "client"))

	bearer := f.bearer(t, me)
	f.AddFault(c1test.Fault{Op: c1test.OpDeleteServicePrincipalCredential, Object: f.live(t, me.ClientID).ID, Times: 1, DropAfter: true})
	_, err := f.callWith(t, bearer, http.MethodDelete, path+"/"+f.live(t, me.ClientID).ID, "")
	require.Error(t, err)
	require.EqualError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret), "invalid_client", "C1 acted, and the answer was lost")

	held := f.Hold(c1test.OpCreateServicePrincipalCredential, c1test.BeforeCommit)
	before := f.Changes(c1test.OpCreateServicePrincipalCredential)
	answered := make(chan int)
	go func() {
		answer, _ := f.callWith(t, bearer, http.MethodPost, path, body)
		answered <- answer.status
	}()
	<-held.Arrived()
	require.Equal(t, before, f.Changes(c1test.OpCreateServicePrincipalCredential))
	held.Release()
	require.Equal(t, http.StatusOK, <-answered)
}
