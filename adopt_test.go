// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// running binds a name to the seeded connector, which runs with a credential that
// Vault does not know, and returns that.
func (e *engine) running(name string, extra ...any) c1test.Credential {
	e.Helper()
	c := e.c1.RotateConnector(e.c1.Connector())
	e.scheduled(name, append([]any{"skip_initial_rotation", true}, extra...)...)
	return c
}

func adoption(c c1test.Credential, extra ...any) map[string]any {
	return merge(fields("client_id", c.ClientID, "client_secret", c.ClientSecret, "credential_id", c.ID), extra...)
}

func TestAnAdoptedCredentialIsVersionOneAndRotatesOnSchedule(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr", "grace_period", "10m")
	changes := e.changes()
	e.clock.advance(40 * time.Minute)
	e.storage.written()
	resp := e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c, "client_secret", c.ClientSecret+"\n", "login", true))
	keys := e.storage.written()
	require.True(t, strings.HasPrefix(keys[len(keys)-1], targetPrefix), "nobody can read what lookup does not know: %v", keys)
	require.Empty(t, resp.Warnings)
	require.Equal(t, map[string]any{
		"version": 1, "credential_id": c.ID, "fingerprint_sha256": c.Fingerprint, "expires_at": "",
		"next_rotation": e.read("connectors/hr").Data["next_rotation"],
	}, resp.Data)
	require.Greater(t, instant(t, resp.Data["next_rotation"]).Sub(e.clock.now()), 53*time.Minute, "counted from the adoption")
	require.Equal(t, changes, e.changes(), "nothing changed at C1")

	read := e.stored("connector-creds/hr")
	require.Equal(t, 1, read.Data["version"])
	require.Equal(t, c.ClientSecret, read.Data["client_secret"])
	require.Equal(t, c.ClientID, read.Data["client_id"])
	require.Equal(t, c.ID, read.Data["credential_id"])
	require.WithinDuration(t, e.clock.now(), instant(t, read.Data["last_vault_rotation"]), 2*time.Second)
	require.Empty(t, read.Warnings)
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"])
	require.Equal(t, 1, e.read("connectors/hr").Data["version"])

	records := e.history("connectors/hr")
	require.Len(t, records, 1)
	require.Equal(t, target.ReasonAdopt, records[0]["reason"])
	require.Equal(t, target.OutcomeStored, records[0]["outcome"])
	require.Equal(t, "approle-billing", records[0]["display_name"])
	for _, by := range []map[string]any{fields("fingerprint_sha256", c.Fingerprint), fields("client_id", c.ClientID), fields("credential_id", c.ID)} {
		require.Equal(t, 1, e.must(logical.UpdateOperation, "lookup", by).Data["version"])
	}

	e.restart()
	e.after(time.Hour)
	require.Equal(t, 2, e.stored("connector-creds/hr").Data["version"])
	require.Equal(t, target.ReasonSchedule, e.history("connectors/hr")[0]["reason"])
	require.True(t, e.alive(read), "in its grace period")
	e.after(11 * time.Minute)
	require.False(t, e.alive(read), "and it ends by it")
	e.b.work.Wait()
	require.EqualValues(t, "c1/connector-adopt", e.events.Events[0].Type)
	e.noSecretsIn("the log", e.logs.String())
}

func TestAnAdoptionWithoutALoginSaysSo(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	logins := e.c1.Requests(c1test.OpToken)
	resp := e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
	require.Equal(t, logins, e.c1.Requests(c1test.OpToken))
	require.Equal(t, []string{"whether C1 accepts the secret was not tried (login=true tries it)"}, resp.Warnings)
}

func TestAnAdoptedCredentialThatExpiresIsReplacedInTime(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.SetCredentialTTL(100 * time.Minute)
	c := e.running("hr", "rotation_period", "24h")
	resp := e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c, "login", true))
	require.Equal(t, rfc3339(c.ExpiresAt), resp.Data["expires_at"])
	next := instant(t, resp.Data["next_rotation"])
	require.WithinDuration(t, e.clock.now().Add(90*time.Minute), next, 3*time.Second)
}

func TestRefusedAdoptionsChangeNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	another := e.c1.RotateConnector(e.c1.Connector()) // overlapping: both are alive
	foreign := e.c1.RotateConnector(e.c1.NewConnector("Another"))
	revoked := e.c1.RotateConnector(e.c1.Connector())
	e.c1.RevokeCredential(revoked.ID)
	e.c1.SetCredentialTTL(time.Hour)
	expired := e.c1.RotateConnector(e.c1.Connector())
	e.clock.advance(2 * time.Hour)
	leased := e.c1.NewConnector("Leased")
	e.must(logical.CreateOperation, "connectors/leased", fields("app_id", leased.AppID, "connector_id", leased.ConnectorID, "rotate_on", "read"))
	before := e.read("connectors/hr").Data

	for what, tc := range map[string]struct {
		data  map[string]any
		names string
	}{
		"no client_id":              {adoption(c, "client_id", ""), "client_id is required"},
		"no client_secret":          {adoption(c, "client_secret", "\n"), "client_secret is required"},
		"no credential_id":          {adoption(c, "credential_id", ""), "credential_id is required"},
		"an odd client_id":          {adoption(c, "client_id", "me"), "client_id: "},
		"a secret in quotes":        {adoption(c, "client_secret", `"`+c.ClientSecret+`"`), "client_secret: "},
		"an odd credential_id":      {adoption(c, "credential_id", "../x"), "credential_id: must be an ID"},
		"the secret in its place":   {adoption(c, "credential_id", c.ClientSecret), "credential_id: must be an ID"},
		"another field":             {adoption(c, "placement", "x"), "placement"},
		"a login that is no bool":   {adoption(c, "login", "perhaps"), "login"},
		"an unknown credential":     {adoption(c, "credential_id", "2unknown"), "C1 no longer knows it (404), but still knows its connector"},
		"another connector's":       {adoption(foreign), "C1 no longer knows it (404), but still knows its connector"},
		"a revoked one":             {adoption(revoked), "nothing was adopted: C1 shows no live credential"},
		"an expired one":            {adoption(expired), "C1 shows it as expired since"},
		"the client ID of another":  {adoption(c, "client_id", another.ClientID), "C1 shows another client_id"},
		"a secret of another":       {adoption(c, "client_secret", another.ClientSecret, "login", true), "C1 does not accept this client_secret"},
		"a secret that is not C1's": {adoption(c, "client_secret", "hunter2-hunter2", "login", true), "C1 does not accept this client_secret"},
	} {
		f := e.refused(logical.UpdateOperation, "connectors/hr/adopt", tc.data)
		require.Equal(t, http.StatusBadRequest, f.status, "%s: %s", what, f.message)
		require.Contains(t, f.message, tc.names, what)
		e.noSecretsIn(what, f.message)
		require.NotContains(t, f.message, "hunter2")
	}
	require.Equal(t, before, e.read("connectors/hr").Data)
	require.Equal(t, http.StatusBadRequest, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
	require.Empty(t, e.records(connectorTarget(e.c1.Connector())))
	require.Contains(t, e.refused(logical.UpdateOperation, "connectors/leased/adopt", adoption(c)).message, "rotate_on=read")
	require.Contains(t, e.refused(logical.UpdateOperation, "connectors/none/adopt", adoption(c)).message, "no connector is bound")
	require.Contains(t, e.refused(logical.UpdateOperation, "decoys/bait/adopt", adoption(c)).message, "unsupported path")
	e.noSecretsIn("the log", e.logs.String())
	require.NotContains(t, e.logs.String(), "hunter2")

	e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c, "login", true))
	f := e.refused(logical.UpdateOperation, "connectors/hr/adopt", adoption(c, "login", true))
	require.Contains(t, f.message, "connectors/hr has version 1 already", "not twice")
	require.Equal(t, 1, e.stored("connector-creds/hr").Data["version"])
}

func TestNothingIsAdoptedThatC1DoesNotProve(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	for _, tc := range []struct {
		fault  c1test.Fault
		login  bool
		status int
	}{
		{c1test.Fault{Op: c1test.OpGetConnectorCredential, Status: 500}, false, http.StatusBadGateway},
		{c1test.Fault{Op: c1test.OpGetConnectorCredential, Truncate: true}, false, http.StatusBadGateway},
		{c1test.Fault{Op: c1test.OpGetConnectorCredential, Status: 403}, false, http.StatusBadGateway},
		{c1test.Fault{Op: c1test.OpGetConnectorCredential, Status: 429}, false, http.StatusTooManyRequests},
		{c1test.Fault{Op: c1test.OpToken, Object: c.ClientID, Status: 503}, true, http.StatusBadGateway},
	} {
		fault := e.c1.AddFault(tc.fault)
		f := e.refused(logical.UpdateOperation, "connectors/hr/adopt", adoption(c, "login", tc.login))
		fault.Clear()
		require.Equal(t, tc.status, f.status, "%+v: %s", tc.fault, f.message)
		require.Contains(t, f.message, "nothing was adopted")
		require.Zero(t, e.read("connectors/hr").Data["version"])
		e.configure(e.c1) // its client has no pause to keep
	}
	e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
}

func TestATargetOfUnknownOutcomeIsNotAdopted(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	e.refused(logical.UpdateOperation, "connectors/hr/rotate", nil)
	f := e.refused(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
	require.Contains(t, f.message, "has a rotation of unknown outcome")
}

func TestAnAdoptionThatStorageRefusesIsNone(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{targetPrefix, idPrefix, fingerprintPrefix, "due/"} {
		t.Run(prefix, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			c := e.running("hr")
			e.storage.failWhen(func(op, key string) bool { return op == "put" && strings.HasPrefix(key, prefix) })
			require.Equal(t, http.StatusInternalServerError, e.refused(logical.UpdateOperation, "connectors/hr/adopt", adoption(c)).status)
			e.storage.failWhen(nil)
			e.restart()
			require.Zero(t, e.read("connectors/hr").Data["version"])
			require.Equal(t, http.StatusNotFound, e.refused(logical.UpdateOperation, "lookup", fields("client_id", c.ClientID)).status)
			e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
			require.Equal(t, 1, e.stored("connector-creds/hr").Data["version"])
		})
	}
}

func TestAnAdoptionThatIsSentAgainIsAnsweredAgain(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	req := newRequest(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
	first, err := e.do(context.Background(), req)
	require.NoError(t, err)
	e.restart()
	again := newRequest(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
	again.ID = req.ID
	second, err := e.do(context.Background(), again)
	require.NoError(t, err)
	require.Equal(t, first.Data, second.Data)
	require.Len(t, e.history("connectors/hr"), 1)
}

func TestAnAdoptedCredentialEndsWithItsBindingOnDemand(t *testing.T) {
	t.Parallel()
	e := configured(t)
	c := e.running("hr")
	e.must(logical.UpdateOperation, "connectors/hr/adopt", adoption(c))
	read := e.stored("connector-creds/hr")
	e.must(logical.DeleteOperation, "connectors/hr", fields("revoke", true))
	require.False(t, e.alive(read), "Vault is its owner")
}
