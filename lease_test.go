// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func (e *engine) renew(lease *logical.Secret, increment time.Duration) (*logical.Response, error) {
	e.Helper()
	copied := *lease
	copied.Increment = increment
	return e.do(context.Background(), &logical.Request{Operation: logical.RenewOperation, Secret: &copied})
}

// issued puts the lease into the state in which Vault keeps it.
func issued(resp *logical.Response) *logical.Secret {
	lease := *resp.Secret
	lease.IssueTime = time.Now()
	return &lease
}

func TestLeaseEndRevokesExactlyItsCredential(t *testing.T) {
	t.Parallel()
	for _, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			e := configured(t, func(o *c1test.Options) { o.Semantics = semantics })
			ref := e.bindConnector("hr")
			first, second := e.vend("connector-creds/hr"), e.vend("connector-creds/hr")
			_, err := e.revoke(first.Secret)
			require.NoError(t, err)
			require.False(t, e.alive(first))
			require.True(t, e.alive(second))
			_, err = e.revoke(first.Secret)
			require.NoError(t, err, "revoking twice is fine")
			_, err = e.revoke(second.Secret)
			require.NoError(t, err)
			require.Empty(t, e.c1.AliveCredentials(ref))
			require.Empty(t, e.state(connectorTarget(ref)).Retire)
			require.NotEmpty(t, e.history("connectors/hr")[0]["ended_at"])
		})
	}
}

func TestKeptCredentialOutlivesItsLease(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr", "on_lease_end", "keep")
	resp := e.vend("connector-creds/hr")
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.True(t, e.alive(resp))
	require.Empty(t, e.state(connectorTarget(ref)).Retire)
}

func TestLeaseRevokesWithoutItsBindingAndWithARewrittenConfig(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	e.must(logical.DeleteOperation, "connectors/hr", nil)
	id := e.c1.PlainIdentity()
	e.write("config", "client_id", id.ClientID, "client_secret", id.ClientSecret)
	e.restart()
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.False(t, e.alive(resp))
}

func TestRevokeWhileC1IsDownEndsTheLeaseAndIsCarriedOutLater(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0, "request_timeout", 1, "verify_connection", false)
	ref := e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	e.c1.SetDown(true)
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err, "Vault never has to give the lease up")
	require.Equal(t, 1, e.read("status").Data["retiring"])
	require.Contains(t, e.read("connectors/hr").Data["problems"].([]string)[0], "could not be ended")

	for range 4 {
		e.after(10 * time.Minute)
	}
	require.Len(t, e.state(connectorTarget(ref)).Retire, 1)
	require.NotEmpty(t, e.read("status").Data["paused_until"], "everything that is due waits for C1")
	e.c1.SetDown(false)
	e.restart() // with a new connection, and without the breaker's memory
	e.after(2 * time.Hour)
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.Empty(t, e.state(connectorTarget(ref)).Retire)
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestRewrittenConfigTriesToEndCredentialsAtOnce(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	denied := e.c1.NewIdentity(c1test.Denied("revokeConnectorCredential"))
	e.write("config", "client_id", denied.ClientID, "client_secret", denied.ClientSecret)
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Len(t, e.c1.AliveCredentials(ref), 1)
	for range 8 {
		e.after(time.Hour)
	}
	id := e.c1.Identity()
	e.write("config", "client_id", id.ClientID, "client_secret", id.ClientSecret)
	e.after(time.Minute)
	require.Empty(t, e.c1.AliveCredentials(ref))
}

func TestDisablingAMountWhileC1IsDownIsRefused(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	e.system.taint()
	e.c1.SetDown(true)
	_, err := e.revoke(resp.Secret)
	require.ErrorContains(t, err, "still alive")
	e.c1.SetDown(false)
	e.restart()
	_, err = e.revoke(resp.Secret)
	require.NoError(t, err)
	require.False(t, e.alive(resp))
}

// Vault has no lease left to ask for when the mount goes.
func TestDisabledMountEndsWhatVaultHasNoLeaseFor(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
	e.vend("connector-creds/hr")
	bait := e.write("decoy-creds/bait")
	e.system.taint()
	e.b.Cleanup(context.Background())
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.NotEqual(t, e.c1.DecoyFingerprint(id), bait.Data["fingerprint_sha256"])
	require.NotContains(t, e.logs.String(), "forgotten")
}

// After an outage nothing is sent to C1 for some seconds, in which the mount must not
// forget what is alive.
func TestDisabledMountWaitsUntilC1CanBeAskedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		ref := e.bindConnector("hr")
		id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
		e.vend("connector-creds/hr")
		bait := e.write("decoy-creds/bait")
		pass(2 * time.Minute)
		e.c1.SetDown(true)
		for range 6 { // the client gives C1 up
			e.refused(logical.ReadOperation, "connector-creds/hr", nil)
		}
		e.c1.SetDown(false)
		f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
		require.Contains(t, f.message, "nothing is sent for a while")
		e.system.taint()
		began := time.Now()
		e.b.Cleanup(context.Background())
		require.Empty(t, e.c1.AliveCredentials(ref))
		require.NotEqual(t, e.c1.DecoyFingerprint(id), bait.Data["fingerprint_sha256"])
		require.Less(t, time.Since(began), disableTimeout)
	})
}

func TestDisabledMountNamesWhatItCouldNotEnd(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 500})
	e.system.taint()
	e.b.Cleanup(context.Background())
	require.Contains(t, e.logs.String(), "still alive at C1 and forgotten")
	require.Contains(t, e.logs.String(), resp.Data["credential_id"])
	require.Contains(t, e.logs.String(), "unknown outcome is forgotten")
	e.noSecretsIn("the log", e.logs.String())
}

func TestStoppingAMountThatStaysEndsNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	e.b.Cleanup(context.Background())
	require.True(t, e.alive(resp))
}

func TestReaderOfAMountThatIsBeingDisabledGetsNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	e.system.taint()
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "being disabled")
	require.Empty(t, e.c1.AliveCredentials(ref))
	require.Equal(t, target.OutcomeUndelivered, e.history("connectors/hr")[0]["outcome"])
}

// A 404 is the end of a credential only in C1's own form.
func TestOnlyC1sOwn404EndsARetirement(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	first := e.vend("connector-creds/hr")
	e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 404, Body: "<html>not here</html>", Times: 1})
	_, err := e.revoke(first.Secret)
	require.NoError(t, err)
	require.Len(t, e.state(connectorTarget(ref)).Retire, 1, "a proxy's 404 says nothing")
	require.True(t, e.alive(first))

	e.c1.RevokeCredential(first.Data["credential_id"].(string))
	_, err = e.revoke(first.Secret)
	require.NoError(t, err)
	require.Empty(t, e.state(connectorTarget(ref)).Retire)
}

func TestLeaseOfAnotherTenantIsNotRevokedThere(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	resp.Secret.InternalData["tenant"] = "https://elsewhere.conductor.one"
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.True(t, e.alive(resp))
	e.after(3 * time.Minute)
	require.True(t, e.alive(resp), "the configured tenant's 404 would say nothing about it")
	require.Equal(t, 1, e.read("status").Data["retiring"], "nothing is forgotten")
}

func TestRevokeWithoutAnyStateLeavesARetirement(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	require.NoError(t, e.b.store.Remove(context.Background(), stateKey(connectorTarget(ref))))
	e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 403, Times: 1})
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	e.after(3 * time.Minute)
	require.False(t, e.alive(resp))
}

func TestRevokeWithoutAnyStateStillEndsADecoysCopy(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindUserClientCredential, "on_lease_end", "rotate")
	resp := e.write("decoy-creds/bait")
	require.NoError(t, e.b.store.Remove(context.Background(), stateKey(decoyTarget(id))))
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Equal(t, 1, e.read("status").Data["retiring"])
	e.after(3 * time.Minute)
	require.NotEqual(t, resp.Data["fingerprint_sha256"], e.c1.DecoyFingerprint(id), "the copy is dead")
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestDecoyBaitStaysPlantedByDefault(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken)
	resp := e.write("decoy-creds/bait")
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Equal(t, e.c1.DecoyFingerprint(id), resp.Data["fingerprint_sha256"])
}

func TestDecoyCopyGoesDeadWithItsLeaseIfItIsStillTheCurrentOne(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
	first := e.write("decoy-creds/bait")
	second := e.write("decoy-creds/bait")
	rotations := e.c1.Changes("rotateDecoy")
	_, err := e.revoke(first.Secret)
	require.NoError(t, err)
	require.Equal(t, rotations, e.c1.Changes("rotateDecoy"), "superseded: dead already")

	_, err = e.revoke(second.Secret)
	require.NoError(t, err)
	require.Equal(t, rotations+1, e.c1.Changes("rotateDecoy"))
	require.NotEqual(t, e.c1.DecoyFingerprint(id), second.Data["fingerprint_sha256"])
	require.Equal(t, target.OutcomeDiscarded, e.history("decoys/bait")[0]["outcome"])
	require.Equal(t, target.ReasonLeaseEnd, e.history("decoys/bait")[0]["reason"])
	require.Empty(t, e.state(decoyTarget(id)).Retire)
}

func TestDecoyRotatedBySomebodyElseIsNotRotatedAtLeaseEnd(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
	resp := e.write("decoy-creds/bait")
	e.c1.RotateDecoy(id)
	before := e.c1.Requests("rotateDecoy")
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Equal(t, before, e.c1.Requests("rotateDecoy"))
}

func TestDecoyLeaseEndIsCarriedOutLaterWhenC1IsDown(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", "rotate")
	resp := e.write("decoy-creds/bait")
	e.c1.AddFault(c1test.Fault{Op: "getDecoy", Status: 500, Times: 1})
	_, err := e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Equal(t, 1, e.read("status").Data["retiring"])
	e.after(3 * time.Minute)
	require.NotEqual(t, e.c1.DecoyFingerprint(id), resp.Data["fingerprint_sha256"])
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestRenewalExtendsWithinTheLeasesMaximum(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "ttl", "10m", "max_ttl", "30m")
	lease := issued(e.vend("connector-creds/hr"))
	e.must(logical.DeleteOperation, "connectors/hr", nil) // the lease carries all it needs
	resp, err := e.renew(lease, 0)
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, resp.Secret.TTL)
	resp, err = e.renew(lease, 2*time.Hour)
	require.NoError(t, err)
	require.InDelta(t, (30 * time.Minute).Seconds(), resp.Secret.TTL.Seconds(), 2)
	require.NotEmpty(t, resp.Warnings)
	require.Equal(t, secretTypes[target.Connector], resp.Secret.InternalData["secret_type"])
}

func TestLeaseOfASupersededCredentialKeepsItsEnd(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "ttl", "10m", "max_ttl", "2h")
	lease := issued(e.vend("connector-creds/hr"))
	e.vend("connector-creds/hr")
	for range 2 {
		resp, err := e.renew(lease, time.Hour)
		require.NoError(t, err)
		require.Contains(t, resp.Warnings[0], "superseded by version 2")
		require.LessOrEqual(t, resp.Secret.TTL, 10*time.Minute+time.Second)
		require.Greater(t, resp.Secret.TTL, 9*time.Minute)
		require.LessOrEqual(t, resp.Secret.MaxTTL, 10*time.Minute, "Vault itself extends no further")
		lease.InternalData, lease.MaxTTL = resp.Secret.InternalData, resp.Secret.MaxTTL
	}
}

func TestRequestsWithoutAUsableLeaseAreRefused(t *testing.T) {
	t.Parallel()
	e := configured(t)
	_, err := e.b.renewLease(context.Background(), &logical.Request{}, nil)
	require.ErrorContains(t, err, "no lease")
	_, err = e.b.revokeLease(context.Background(), &logical.Request{Secret: &logical.Secret{
		InternalData: map[string]any{"version": "one"},
	}}, nil)
	require.ErrorContains(t, err, "lease's data")
}

func TestFailingStorageOnRevokeNeverForgetsTheCredential(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "max_retries", 0)
	ref := e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	// C1 refuses and the retirement cannot be stored: Vault must try again.
	e.c1.AddFault(c1test.Fault{Op: "revokeConnectorCredential", Status: 500, Times: 1})
	e.storage.failWhen(func(op, _ string) bool { return op == "put" })
	_, err := e.revoke(resp.Secret)
	require.ErrorIs(t, err, errStorage)
	e.storage.failWhen(nil)
	_, err = e.revoke(resp.Secret)
	require.NoError(t, err)
	require.Empty(t, e.c1.AliveCredentials(ref))

	// C1 revokes and that cannot be stored: the planned end finds it gone.
	second := e.vend("connector-creds/hr")
	e.storage.failWhen(func(op, _ string) bool { return op == "put" })
	_, err = e.revoke(second.Secret)
	require.NoError(t, err)
	e.storage.failWhen(nil)
	e.after(26 * time.Hour)
	require.Empty(t, e.state(connectorTarget(ref)).Retire)
	require.Equal(t, true, e.read("status").Data["healthy"])
}
