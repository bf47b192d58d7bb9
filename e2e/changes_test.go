// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// readsWhile reads a binding over and over, by several readers, while change
// runs, and returns what they got.
func readsWhile(t *testing.T, e *vaulttest.Engine, path string, change func()) (vended []*api.Secret, errs []error) {
	t.Helper()
	const readers, most = 4, 180 // so that history holds them all
	e.Configure(e.Mount, e.Tenant, object{"history_limit": most + 20})
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: 20 * time.Millisecond})
	reading, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for reading.Err() == nil {
				secret, err := e.Read(path)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					vended = append(vended, secret)
				}
				full := len(vended)+len(errs) >= most-readers
				mu.Unlock()
				if full {
					return
				}
			}
		})
	}
	change()
	stop()
	wg.Wait()
	return vended, errs
}

func TestRewritingTheConfigDisturbsNoReader(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended, errs := readsWhile(t, e, "connector-creds/github", func() {
		for _, id := range []c1test.Identity{e.Tenant.NewIdentity(), e.Tenant.PlainIdentity(), e.Tenant.NewIdentity(), e.Tenant.Identity()} {
			e.Configure(e.Mount, e.Tenant, object{"client_id": id.ClientID, "client_secret": id.ClientSecret})
		}
	})
	require.Empty(t, errs)
	require.NotEmpty(t, vended)
	require.Equal(t, len(vended), e.Tenant.Changes(c1test.OpRotateConnector))
	require.Equal(t, 1, e.Tenant.MaxConcurrent(e.Tenant.Connector().ConnectorID))
	requireHealthy(t, e)
}

func TestDeletingAndBindingAnewDuringReadsLosesNoRotation(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	vended, errs := readsWhile(t, e, "connector-creds/github", func() {
		for range 10 {
			_, err := e.Root.Logical().Delete(e.Path("connectors/github"))
			require.NoError(t, err)
			e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
		}
	})
	for _, err := range errs {
		requireRefused(t, err, http.StatusBadRequest, "no connector is bound")
	}
	require.Equal(t, len(vended), e.Tenant.Changes(c1test.OpRotateConnector))
	require.Equal(t, 1, e.Tenant.MaxConcurrent(e.Tenant.Connector().ConnectorID))
	versions := map[int64]bool{}
	for _, secret := range vended {
		versions[integer(t, secret.Data["version"])] = true
	}
	require.Len(t, versions, len(vended), "versions go on over the binding's lives")
	requireHealthy(t, e)
}

func TestTheMountsMaximumCapsLeases(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	_, stderr, code := e.CLI("", "secrets", "tune", "-default-lease-ttl=10m", "-max-lease-ttl=1h", e.Mount)
	require.Zero(t, code, stderr)
	e.BindConnector(e.Mount, "defaults", e.Tenant.NewConnector("Okta"), nil)
	require.Equal(t, 600, e.MustRead("connector-creds/defaults").LeaseDuration)

	answer := e.MustWrite("connectors/long", object{
		"app_id": e.Tenant.Connector().AppID, "connector_id": e.Tenant.Connector().ConnectorID, "rotate_on": "read", "ttl": "2h",
	})
	require.NotNil(t, answer)
	require.Contains(t, fmt.Sprint(answer.Warnings), "maximum of 1h")
	vended := e.MustRead("connector-creds/long")
	require.Equal(t, 3600, vended.LeaseDuration)
	require.NotEmpty(t, vended.Warnings)
}

// While it moves a mount, Vault treats it as one that is about to go.
func TestMovingTheMountEndsLeasesAndKeepsBindings(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	vended := e.MustRead("connector-creds/github")
	bait := e.MustWrite("decoy-creds/bait", nil)
	_, stderr, code := e.CLI("", "secrets", "move", e.Mount, "moved")
	require.Zero(t, code, stderr)
	require.Empty(t, alive(e))

	e.Mount = "moved"
	records := e.Records("connectors/github")
	require.Equal(t, vended.Data["fingerprint_sha256"], records[0]["fingerprint_sha256"])
	require.NotEmpty(t, records[0]["ended_at"])
	found := e.MustWrite("lookup", object{"fingerprint_sha256": bait.Data["fingerprint_sha256"]}).Data
	require.Equal(t, true, found["current"])
	requireHealthy(t, e)
	next := e.MustRead("connector-creds/github")
	require.NoError(t, e.Login(next))
	revoke(t, e, next)
	require.Empty(t, alive(e))
	require.Equal(t, 3, rotations(e))
}
