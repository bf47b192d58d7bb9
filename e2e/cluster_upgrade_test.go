// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	// upgradeFromEnv and upgradeToEnv name the two binaries of an upgrade. Without
	// them both are built from the sources as they are, in two versions.
	upgradeFromEnv = "C1_E2E_UPGRADE_FROM"
	upgradeToEnv   = "C1_E2E_UPGRADE_TO"

	upgradeOwners = 6 // of leased bindings, on each mount
	vendEvery     = time.Second
)

// owner is a program that has a leased binding for itself, and rotates it all the time.
type owner struct {
	*vaulttest.Engine
	name      string
	connector c1test.ConnectorRef
	got       []*api.Secret
	refused   int
}

// TestAClusterIsUpgradedNodeByNodeUnderLoad does what docs/operations.md says of an
// upgrade: no rotation is lost, none is doubled, and no lease is lost.
func TestAClusterIsUpgradedNodeByNodeUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := vaulttest.NewCluster(t, 3)
	from := cluster.InstallPlugin("v0.1.1-test", os.Getenv(upgradeFromEnv))
	to := cluster.InstallPlugin("v0.2.0-test", os.Getenv(upgradeToEnv))
	require.NotEqual(t, from, to)

	first := cluster.Nodes[0]
	var engines []*vaulttest.Engine
	var owners []*owner
	for i, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		e := first.Engine(fmt.Sprintf("c1-%d", i), c1test.Options{Semantics: semantics})
		runVersion(t, e, from)
		e.Configure(e.Mount, e.Tenant, object{"history_limit": 1000})
		engines = append(engines, e)
		for j := range upgradeOwners {
			o := &owner{Engine: e, name: fmt.Sprintf("leased%d", j)}
			o.connector = e.Tenant.NewConnector(o.name)
			e.BindConnector(e.Mount, o.name, o.connector, object{"ttl": "1h"})
			owners = append(owners, o)
		}
	}
	const bindings = 20
	targets := bindSoak(t, engines, bindings)

	load, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for _, o := range owners {
		group.Go(func() { o.work(load, cluster) })
	}
	readers := startSoakReaders(load, &group, cluster, targets)

	for _, e := range engines {
		require.NoError(t, on(e, cluster.Leader()).Root.Sys().TuneMountAllowNil(e.Mount, api.TuneMountConfigInput{PluginVersion: &to}))
	}
	for _, node := range cluster.Nodes { // each goes down once, as for an upgrade of Vault itself
		if node.Active() {
			cluster.StepDown()
		}
		node.Stop()
		cluster.Leader()
		node.Return()
	}
	until(time.Now().Add(shortestPeriod * time.Second)) // a turn of each schedule under the new version
	stop()
	group.Wait()

	leader := cluster.Leader()
	for _, e := range engines {
		require.Equal(t, to, on(e, leader).MustRead("status").Data["version"])
	}
	require.Empty(t, readers.wrong, "what readers were given meanwhile")
	requireSoakHeals(t, cluster, targets, upgradeOwners, time.Now())
	rotations, failed := 0, 0
	for _, target := range targets {
		n, m := requireSoakOnRecord(t, cluster.Leader(), target)
		rotations, failed = rotations+n, failed+m
	}
	vended, refused := 0, 0
	for _, o := range owners {
		o.Engine = on(o.Engine, leader)
		o.requireNothingLost(t)
		vended, refused = vended+len(o.got), refused+o.refused
	}
	t.Logf("from %s to %s: %d leased rotations (%d requests had no answer or a refusal), %d scheduled ones (%d failed or unknown), %d reads",
		from, to, vended, refused, rotations, failed, readers.answers.Load())
}

// runVersion has a mount run a version of the plugin.
func runVersion(t *testing.T, e *vaulttest.Engine, version string) {
	t.Helper()
	require.NoError(t, e.Root.Sys().TuneMountAllowNil(e.Mount, api.TuneMountConfigInput{PluginVersion: &version}))
	_, err := e.Root.Sys().ReloadPlugin(&api.ReloadPluginInput{Mounts: []string{e.Mount}})
	require.NoError(t, err)
	require.Equal(t, version, e.MustRead("status").Data["version"])
}

// work rotates by a read at any node, again and again, and keeps what it was given.
func (o *owner) work(ctx context.Context, cluster *vaulttest.Cluster) {
	var clients []*api.Client
	for _, node := range cluster.Nodes {
		client := node.Client(node.Root.Token())
		client.SetMaxRetries(0)
		clients = append(clients, client)
	}
	pause := time.NewTicker(vendEvery)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		// Not with ctx: who hangs up has an answer that he does not know of.
		client := clients[rand.IntN(len(clients))]
		switch vended, err := client.Logical().ReadWithContext(context.WithoutCancel(ctx), o.Path("connector-creds/"+o.name)); {
		case err == nil && vended != nil:
			o.got = append(o.got, vended)
		default:
			o.refused++
		}
	}
}

// requireNothingLost says that what C1 minted is on record and was handed out once, or
// nobody was said to have it, and that each lease is there and ends its credential.
func (o *owner) requireNothingLost(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, o.got)
	last := o.MustRead("connector-creds/" + o.name) // heals what an answer that was lost has left
	require.NoError(t, o.Login(last))
	o.got = append(o.got, last)

	var records []record
	require.NoError(t, convert(o.MustRead("connectors/" + o.name + "/history").Data["records"], &records))
	onRecord, unknown, requests := map[string]record{}, 0, map[string]bool{}
	for _, r := range records {
		if r.Outcome == "superseded" {
			unknown++
			continue
		}
		if r.Fingerprint == "" {
			continue // C1 refused it
		}
		onRecord[r.Fingerprint] = r
		require.False(t, requests[r.RequestID], "request %s rotated twice", r.RequestID)
		requests[r.RequestID] = true
	}
	lost := 0
	for _, entry := range rotated(o.Tenant) {
		if _, there := onRecord[entry.Fingerprint]; entry.Object == o.connector.ConnectorID && !there {
			lost++
		}
	}
	require.LessOrEqual(t, lost, unknown, "%s: C1 rotated more often than is on record or said to be unknown", o.name)

	version := 0
	for _, vended := range o.got {
		r, there := onRecord[text(vended.Data["fingerprint_sha256"])]
		require.True(t, there)
		require.Equal(t, "issued", r.Outcome, "version %d was handed out", r.Version)
		require.Greater(t, r.Version, version, "nothing is handed out twice")
		version = r.Version
		vaulttest.Eventually(t, time.Minute, func() error {
			if _, err := o.Root.Sys().Renew(vended.LeaseID, 60); err != nil {
				return fmt.Errorf("the lease of version %d: %w", r.Version, err)
			}
			return nil
		})
		vaulttest.Eventually(t, time.Minute, func() error { return o.Root.Sys().Revoke(vended.LeaseID) })
	}
	vaulttest.Eventually(t, afterwards, func() error { // what nobody got is ended by the clock
		alive := o.Tenant.AliveCredentials(o.connector)
		alive = slices.DeleteFunc(alive, func(c c1test.Credential) bool {
			_, there := onRecord[c.Fingerprint]
			return !there // and so in the history as of unknown outcome
		})
		if len(alive) > 0 {
			return fmt.Errorf("%d credentials are alive after their leases", len(alive))
		}
		return nil
	})
	vaulttest.Eventually(t, time.Minute, func() error {
		shown, err := o.Read("connectors/" + o.name)
		if err == nil && shown.Data["state"] != "ready" {
			err = fmt.Errorf("%s is %v: %v", o.name, shown.Data["state"], shown.Data["problems"])
		}
		return err
	})
}
