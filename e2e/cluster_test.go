// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// on is the engine as clients of another node of the cluster see it.
func on(e *vaulttest.Engine, node *vaulttest.Server) *vaulttest.Engine {
	other := *e
	other.Server = node
	return &other
}

func TestEachNodeOfAClusterServesAndAFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	active := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	bindExamples(active)
	var nodes []*vaulttest.Engine
	for _, node := range active.Join(2) {
		nodes = append(nodes, on(active, node))
	}
	standby := nodes[0]

	// Every kind of request, by way of a node that stands by.
	standby.Configure(standby.Mount, standby.Tenant, object{"max_retries": 2})
	standby.BindConnector(standby.Mount, "other", standby.Tenant.NewConnector("Other"), nil)
	first := standby.MustRead("connector-creds/github")
	require.NoError(t, standby.Login(first))
	client := standby.Client(standby.Root.Token())
	client.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped, err := client.Logical().Read(standby.Path("connector-creds/github"))
	require.NoError(t, err)
	second, err := standby.Root.Logical().Unwrap(wrapped.WrapInfo.Token)
	require.NoError(t, err)
	bait := standby.MustWrite("decoy-creds/bait", object{"placement": "web-1"})
	_, err = standby.Root.Sys().Renew(second.LeaseID, 120)
	require.NoError(t, err)
	revoke(t, standby, first)
	require.Equal(t, []any{second.Data["credential_id"]}, alive(active))
	found := standby.MustWrite("lookup", object{"fingerprint_sha256": bait.Data["fingerprint_sha256"]}).Data
	require.Equal(t, "web-1", found["placement"])
	require.Equal(t, "127.0.0.1", found["remote_address"])
	requireHealthy(t, standby)
	scraped, err := standby.Root.Logical().ReadRawWithContext(t.Context(), standby.Path("metrics"))
	require.NoError(t, err)
	figures, err := io.ReadAll(scraped.Body)
	require.NoError(t, errors.Join(err, scraped.Body.Close()))
	require.Contains(t, string(figures), "\nvault_c1_bindings 3\n", "the figures are those of the node that acts")
	history := active.Records("connectors/github")
	standby.Shows(func() error {
		if shown := standby.Records("connectors/github"); !reflect.DeepEqual(shown, history) {
			return fmt.Errorf("the standby's history is another: %v", shown)
		}
		return nil
	})
	require.Equal(t, 3, rotations(active))

	// The active node dies while C1 is about to rotate.
	barrier := active.Tenant.Hold(c1test.OpRotateConnector, c1test.AfterCommit)
	lost := make(chan error, 1)
	go func() {
		_, err := standby.Read("connector-creds/other")
		lost <- err
	}()
	<-barrier.Arrived()
	active.Kill()
	barrier.Release()
	require.Error(t, <-lost)

	var leader *vaulttest.Engine
	vaulttest.Eventually(t, time.Minute, func() error {
		for _, node := range nodes {
			if node.Active() {
				leader = node
				return nil
			}
		}
		return errors.New("nobody took over")
	})
	leader.Ready()
	require.Equal(t, history, leader.Records("connectors/github"))
	require.Equal(t, 4, rotations(active), "nothing rotates because a node became active")
	require.NotEqual(t, "ready", leader.MustRead("connectors/other").Data["state"], "its outcome is unknown")
	revoke(t, leader, second)
	require.Empty(t, alive(active))

	require.NoError(t, leader.Login(leader.MustRead("connector-creds/other")), "the next read heals it")
	require.NoError(t, leader.Login(leader.MustRead("connector-creds/github")))
	requireHealthy(t, leader)
}
