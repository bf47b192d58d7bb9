// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// bothSemantics runs a test against a C1 whose rotations end the previous
// credential and against one whose rotations leave it alive.
func bothSemantics(t *testing.T, test func(*testing.T, *vaulttest.Engine, c1test.Semantics)) {
	for _, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			e.Tenant.SetSemantics(semantics)
			test(t, e, semantics)
		})
	}
}

// revoke ends a lease, and returns once it is done.
func revoke(t *testing.T, e *vaulttest.Engine, leased *api.Secret) {
	t.Helper()
	require.NoError(t, e.Root.Sys().RevokeWithOptions(&api.RevokeOptions{LeaseID: leased.LeaseID, Sync: true}))
}

// expiry returns when a lease ends.
func expiry(t *testing.T, e *vaulttest.Engine, leased *api.Secret) time.Time {
	t.Helper()
	lease, err := e.Root.Logical().Write("sys/leases/lookup", object{"lease_id": leased.LeaseID})
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339, lease.Data["expire_time"].(string))
	require.NoError(t, err)
	return at
}

func TestRevokingALeaseEndsExactlyItsCredential(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, semantics c1test.Semantics) {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
		first := e.MustRead("connector-creds/github")
		second := e.MustRead("connector-creds/github")
		if semantics == c1test.Exclusive {
			require.Equal(t, []any{second.Data["credential_id"]}, alive(e))
		} else {
			require.Equal(t, []any{first.Data["credential_id"], second.Data["credential_id"]}, alive(e))
		}

		revoke(t, e, first)
		require.Equal(t, []any{second.Data["credential_id"]}, alive(e))
		require.Error(t, e.Login(first))
		require.NoError(t, e.Login(second))

		revoke(t, e, second)
		require.Empty(t, alive(e))
		requireHealthy(t, e)
		require.Empty(t, leasesBelow(t, e), "nothing is left to revoke")
	})
}

func TestALeaseThatExpiresEndsItsCredential(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, _ c1test.Semantics) {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"ttl": "2s"})
		vended := e.MustRead("connector-creds/github")
		require.Equal(t, 2, vended.LeaseDuration)
		require.NoError(t, e.Login(vended))
		vaulttest.Eventually(t, 30*time.Second, func() error {
			if left := alive(e); len(left) > 0 {
				return fmt.Errorf("%v is alive", left)
			}
			return nil
		})
		requireHealthy(t, e)
	})
}

func TestRevokingATokenEndsWhatItRead(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	token := tokenFor(t, e.Server, e.Mount+"-app", examplePolicy(t, e, "policies/app.hcl"))
	vended, err := e.Client(token).Logical().Read(e.Path("connector-creds/github"))
	require.NoError(t, err)
	require.NoError(t, e.Login(vended))
	require.NoError(t, e.Root.Auth().Token().RevokeTree(token))
	vaulttest.Eventually(t, 30*time.Second, func() error {
		if e.Login(vended) == nil {
			return errors.New("the credential outlives the token")
		}
		return nil
	})
	requireHealthy(t, e)
}

// Vault hands no lease to a token that dies of the request, and says so.
func TestATokensLastUseLeavesNothingAlive(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	require.NoError(t, e.Root.Sys().PutPolicy(e.Mount+"-app", examplePolicy(t, e, "policies/app.hcl")))
	token, err := e.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{e.Mount + "-app"}, NumUses: 1})
	require.NoError(t, err)
	_, err = e.Client(token.Auth.ClientToken).Logical().Read(e.Path("connector-creds/github"))
	requireRefused(t, err, http.StatusBadRequest, "one use left")
	vaulttest.Eventually(t, 30*time.Second, func() error {
		if left := alive(e); len(left) > 0 {
			return fmt.Errorf("%v is alive", left)
		}
		return nil
	})
	requireHealthy(t, e)
}

func TestRevokingByPrefixEndsAllThatWasVended(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, _ c1test.Semantics) {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
		for range 5 {
			e.MustRead("connector-creds/github")
		}
		_, stderr, code := e.CLI("", "lease", "revoke", "-sync", "-prefix", e.Path("connector-creds/github"))
		require.Zero(t, code, stderr)
		require.Empty(t, alive(e))
		require.EqualValues(t, 0, integer(t, e.MustRead("connectors/github").Data["live_leases"]))
	})
}

func TestALeaseIsRenewedUpToItsMaximum(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"ttl": "60s", "max_ttl": "300s"})
	vended := e.MustRead("connector-creds/github")
	require.Equal(t, 60, vended.LeaseDuration)

	renewed, err := e.Root.Sys().Renew(vended.LeaseID, 120)
	require.NoError(t, err)
	require.Equal(t, 120, renewed.LeaseDuration)
	require.Empty(t, renewed.Warnings)

	renewed, err = e.Root.Sys().Renew(vended.LeaseID, 3600)
	require.NoError(t, err)
	require.InDelta(t, 300, renewed.LeaseDuration, 10)
	require.NotEmpty(t, renewed.Warnings, "it says that it was shortened")
	require.NoError(t, e.Login(vended))
	require.Equal(t, 1, rotations(e), "renewing rotates nothing")
}

func TestRenewingASupersededLeaseWarnsAndDoesNotExtend(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, _ c1test.Semantics) {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"ttl": "60s", "max_ttl": "600s"})
		first := e.MustRead("connector-creds/github")
		before := expiry(t, e, first)
		second := e.MustRead("connector-creds/github")

		renewed, err := e.Root.Sys().Renew(first.LeaseID, 500)
		require.NoError(t, err)
		require.Contains(t, strings.Join(renewed.Warnings, "\n"), "superseded by version 2")
		require.WithinDuration(t, before, expiry(t, e, first), 2*time.Second)
		require.LessOrEqual(t, renewed.LeaseDuration, 60)

		renewed, err = e.Root.Sys().Renew(second.LeaseID, 500)
		require.NoError(t, err)
		require.Equal(t, 500, renewed.LeaseDuration, "the newest one is extended")
	})
}

func TestALeaseEndsWithItsCredentialAtC1(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.Tenant.SetCredentialTTL(90 * time.Second)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"ttl": "10m"})
	vended := e.MustRead("connector-creds/github")
	require.InDelta(t, 90, vended.LeaseDuration, 5)
	require.Contains(t, strings.Join(vended.Warnings, "\n"), "the lease ends with the credential")
	require.NotEmpty(t, vended.Data["expires_at"])

	renewed, err := e.Root.Sys().Renew(vended.LeaseID, 600)
	require.NoError(t, err)
	require.LessOrEqual(t, renewed.LeaseDuration, 90)
}

func TestOnLeaseEndKeepLeavesTheCredentialAlive(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"on_lease_end": "keep"})
	vended := e.MustRead("connector-creds/github")
	revoke(t, e, vended)
	require.NoError(t, e.Login(vended))
}

func TestOnLeaseEndRotateEndsTheVendedCopyOnlyIfItIsCurrent(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	id := e.Tenant.Decoy(c1test.KindConnectorClient)
	e.BindDecoy(e.Mount, "bait", id, object{"on_lease_end": "rotate"})
	first := e.MustWrite("decoy-creds/bait", nil)
	second := e.MustWrite("decoy-creds/bait", nil)

	revoke(t, e, first)
	require.Equal(t, second.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(id), "it was dead already")
	require.Equal(t, 2, rotations(e))

	revoke(t, e, second)
	require.NotEqual(t, second.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(id))
	require.Equal(t, 3, rotations(e))
	newest := e.Records("decoys/bait")[0]
	require.Equal(t, "discarded", newest["outcome"])
	require.Equal(t, "lease_end", newest["reason"])
	found := e.MustWrite("lookup", object{"fingerprint_sha256": second.Data["fingerprint_sha256"]}).Data
	require.Equal(t, false, found["current"])
	requireHealthy(t, e)
}

func TestALeaseIsRevokedAfterItsBindingIsGoneAndTheConfigWasRewritten(t *testing.T) {
	t.Parallel()
	for name, identity := range map[string]func(*c1test.Tenant) c1test.Identity{
		"another identity": func(tenant *c1test.Tenant) c1test.Identity { return tenant.NewIdentity() },
		"a plain secret":   func(tenant *c1test.Tenant) c1test.Identity { return tenant.PlainIdentity() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
			decoy := e.Tenant.Decoy(c1test.KindAccessToken)
			e.BindDecoy(e.Mount, "bait", decoy, object{"on_lease_end": "rotate"})
			credential := e.MustRead("connector-creds/github")
			bait := e.MustWrite("decoy-creds/bait", nil)

			for _, binding := range []string{"connectors/github", "decoys/bait"} {
				_, err := e.Root.Logical().Delete(e.Path(binding))
				require.NoError(t, err)
			}
			id := identity(e.Tenant)
			e.Configure(e.Mount, e.Tenant, object{"client_id": id.ClientID, "client_secret": id.ClientSecret})
			require.NoError(t, e.Login(credential))

			_, err := e.Root.Sys().Renew(credential.LeaseID, 60)
			require.NoError(t, err)
			revoke(t, e, credential)
			revoke(t, e, bait)
			require.Empty(t, alive(e))
			require.NotEqual(t, bait.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(decoy))
			requireHealthy(t, e)
		})
	}
}

func TestDisablingTheMountEndsWhatItVended(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, _ c1test.Semantics) {
		mount := e.Mount + "-gone"
		e.Server.Mount(mount)
		e.Configure(mount, e.Tenant, nil)
		e.BindConnector(mount, "github", e.Tenant.Connector(), nil)
		for range 3 {
			_, err := e.Root.Logical().Read(mount + "/connector-creds/github")
			require.NoError(t, err)
		}
		require.NotEmpty(t, alive(e))
		require.NoError(t, e.Root.Sys().Unmount(mount))
		require.Empty(t, alive(e))
	})
}

// leasesBelow lists what Vault still holds as leases of the engine.
func leasesBelow(t *testing.T, e *vaulttest.Engine) []any {
	t.Helper()
	list, err := e.Root.Logical().List("sys/leases/lookup/" + e.Path("connector-creds/github"))
	require.NoError(t, err)
	if list == nil {
		return nil
	}
	keys, _ := list.Data["keys"].([]any)
	return keys
}
