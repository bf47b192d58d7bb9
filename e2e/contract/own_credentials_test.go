// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// rawCall is a request with the class of the answer that it must get.
type rawCall struct {
	method, path, body string
	class              int
}

func (f *fixture) rawCalls(t *testing.T, calls ...rawCall) {
	t.Helper()
	for _, call := range calls {
		assert.Equal(t, call.class, f.raw(t, call.method, call.path, typeJSON, call.body)/100, "%s %s %s", call.method, call.path, call.body)
	}
}

// manageOwnCredentials makes every operation on service principals' credentials
// and personal clients, each with success and with an error.
func (f *fixture) manageOwnCredentials(t *testing.T) {
	t.Helper()
	f.recorder.answersOnly = true
	defer func() { f.recorder.answersOnly, f.bearer = false, "" }()

	mine := f.c1.NewIdentity(c1test.DisplayName("Vault"), c1test.ExpiresIn(90*24*time.Hour), c1test.SourceCIDRs("127.0.0.0/8"))
	c := f.live(t, mine)
	all := "/api/v1/service_principals/" + c.ServicePrincipalID + "/credentials"
	f.rawCalls(
		t,
		rawCall{http.MethodGet, all, "", 2},
		rawCall{http.MethodGet, "/api/v1/service_principals/never-was/credentials", "", 4},
		rawCall{http.MethodPost, all, `{"displayName":"next","expires":"7776000s","scopedRoles":null,"allowSourceCidrs":["10.0.0.0/8","2001:db8::/32"],"requireDpop":true}`, 2},
		rawCall{http.MethodPost, all, `{"displayName":"next"}`, 4},
		rawCall{http.MethodGet, all + "/" + c.ID, "", 2},
		rawCall{http.MethodGet, all + "/never-was", "", 4},
		rawCall{http.MethodPatch, all + "/" + c.ID, `{"credential":{"displayName":"older"},"updateMask":"displayName"}`, 2},
		rawCall{http.MethodPatch, all + "/" + c.ID, `{"credential":{},"updateMask":"expiresAt"}`, 4},
		rawCall{http.MethodDelete, all + "/" + c.ID, "", 2},
		rawCall{http.MethodDelete, all + "/" + c.ID, "{}", 4},
	)

	person := f.c1.NewIdentity(c1test.PersonalClient(), c1test.DisplayName("laptop"))
	c = f.live(t, person)
	var err error
	f.bearer, err = f.c1.LoginToken(t.Context(), person.ClientID, person.ClientSecret)
	require.NoError(t, err)
	const clients = "/api/v1/iam/personal_clients"
	f.rawCalls(
		t,
		rawCall{http.MethodGet, clients, "", 2},
		rawCall{http.MethodGet, clients + "?page_size=many", "", 4},
		rawCall{http.MethodPost, clients, `{"displayName":"next"}`, 2},
		rawCall{http.MethodPost, clients, `{"displayName":"next","expires":"7776000s","scopedRoles":["` + c1test.RoleSuperAdministrator + `"],"allowSourceCidr":["10.0.0.0/8"]}`, 2},
		rawCall{http.MethodPost, clients, `{"displayName":"next","expires":"90d"}`, 4},
		rawCall{http.MethodGet, clients + "/" + c.ID, "", 2},
		rawCall{http.MethodGet, clients + "/never-was", "", 4},
		rawCall{http.MethodPost, clients + "/" + c.ID, `{"client":{"displayName":"older"},"updateMask":"displayName"}`, 2},
		rawCall{http.MethodPost, clients + "/" + c.ID, `{"updateMask":"displayName"}`, 4},
		rawCall{http.MethodDelete, clients + "/" + c.ID, "", 2},
		rawCall{http.MethodDelete, clients + "/" + c.ID, "{}", 4},
	)
}

// live returns what the emulator holds of an identity that is alive.
func (f *fixture) live(t *testing.T, id c1test.Identity) c1test.OwnCredential {
	t.Helper()
	for _, c := range f.c1.LiveCredentials() {
		if c.ClientID == id.ClientID {
			return c
		}
	}
	require.Fail(t, "no such identity", id.ClientID)
	return c1test.OwnCredential{}
}
