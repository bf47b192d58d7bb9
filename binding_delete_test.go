// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// keptCredentials binds a name and vends three credentials that stay alive.
func (e *engine) keptCredentials(name string) (ref c1test.ConnectorRef, ids []string) {
	e.Helper()
	ref = e.bindConnector(name, "on_lease_end", leaseEndKeep)
	for range 3 {
		ids = append(ids, e.vend("connector-creds/" + name).Data["credential_id"].(string))
	}
	return ref, ids
}

func TestDeleteWithRevokeEndsAllThatTheBindingLeftAlive(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref, _ := e.keptCredentials("hr")
	require.Len(t, e.c1.AliveCredentials(ref), 3)
	require.Nil(t, e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", true)))
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.Empty(t, e.state(connectorTarget(ref)).Retire)
}

func TestDeleteWithRevokeNamesEachCredentialThatStays(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref, ids := e.keptCredentials("hr")
	denied := e.c1.AddFault(c1test.Fault{Op: c1test.OpRevokeConnectorCredential, Object: ids[1], Status: http.StatusForbidden})
	resp := e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", true))
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], ids[1])
	require.Contains(t, resp.Warnings[0], "403", "and says why")
	require.NotContains(t, resp.Warnings[0], ids[0])
	require.Len(t, e.c1.AliveCredentials(ref), 1)
	denied.Clear()
	e.after(retryMax)
	require.Empty(t, e.c1.AliveCredentials(ref), "it is tried again")
}

func TestWhatAPlainDeleteLeftAliveCanBeEndedAsItsWarningSays(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref, ids := e.keptCredentials("hr")
	resp := e.must(logical.DeleteOperation, "connectors/hr", nil)
	require.Len(t, resp.Warnings, 1)
	for _, id := range ids {
		require.Contains(t, resp.Warnings[0], id)
	}
	require.Contains(t, resp.Warnings[0], "bind the same name to it again and delete that binding with revoke=true")
	e.bindConnector("hr")
	require.Nil(t, e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", true)))
	require.Empty(t, e.c1.AliveCredentials(ref))
}

// Some clients show no warnings, and a mount that is disabled afterwards knows nothing
// of the binding any more.
func TestTheLogNamesWhatADeleteLeavesAlive(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr")
	id := e.state(connectorTarget(ref)).Current.CredentialID
	resp := e.must(logical.DeleteOperation, "connectors/hr", nil)
	require.Len(t, resp.Warnings, 1)
	var line string
	for l := range strings.Lines(e.logs.String()) {
		if strings.Contains(l, "a deleted binding leaves something at C1") {
			line = l
		}
	}
	require.Contains(t, line, "binding=hr")
	require.Contains(t, line, id)

	e.scheduled("it")
	before := e.logs.String()
	require.Nil(t, e.must(logical.DeleteOperation, "connectors/it", fields("revoke", true)))
	require.NotContains(t, strings.TrimPrefix(e.logs.String(), before), "leaves something at C1")
}

func TestDeleteWithRevokeSparesWhatAnEarlierBindingVended(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref, _ := e.keptCredentials("first")
	e.must(logical.DeleteOperation, "connectors/first", nil)
	e.bindConnector("second")
	require.Nil(t, e.must(logical.DeleteOperation, "connectors/second", fields("revoke", true)), "it vended nothing")
	require.Len(t, e.c1.AliveCredentials(ref), 3)

	e.bindConnector("third")
	owned := e.vend("connector-creds/third")
	resp := e.must(logical.DeleteOperation, "connectors/third", fields("revoke", true))
	require.Nil(t, resp)
	require.False(t, e.alive(owned))
	require.Len(t, e.c1.AliveCredentials(ref), 3)
}
