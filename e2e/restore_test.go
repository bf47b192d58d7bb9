// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// What the engine remembers goes with the storage that it was read from: after a
// restore it serves what is in the snapshot, and tells in time that C1 has
// something else.
func TestARestoredSnapshotIsServedAtOnceAndNoticed(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	e.Tenant.SetSemantics(c1test.Exclusive)
	e.Configure(e.Mount, e.Tenant, object{"drift_check_period": "1m"})
	e.BindConnector(e.Mount, "app", e.Tenant.Connector(), object{"rotate_on": "schedule", "rotation_period": "24h"})
	version := func() int { return number(e.MustRead("connector-creds/app").Data["version"]) }
	require.Equal(t, 1, version())
	var snapshot bytes.Buffer
	require.NoError(t, e.Root.Sys().RaftSnapshot(&snapshot))

	for want := 2; want <= 5; want++ {
		e.MustWrite("connectors/app/rotate", nil)
		require.Equal(t, want, version())
		require.Equal(t, want, version(), "also as remembered")
	}
	require.NoError(t, e.Root.Sys().RaftSnapshotRestore(&snapshot, false))
	restored := false
	eventuallyWithin(t, time.Minute, func() error {
		secret, err := e.Read("connector-creds/app")
		if err != nil || secret == nil {
			return fmt.Errorf("not back yet: %w", err)
		}
		switch n := number(secret.Data["version"]); {
		case n == 1:
			restored = true
			return nil
		case restored || n != 5:
			t.Fatalf("version %d after the restore", n)
			return nil
		default:
			return fmt.Errorf("not restored yet: version %d", n)
		}
	})
	eventuallyWithin(t, 3*time.Minute, func() error {
		if state := text(e.MustRead("connectors/app").Data["state"]); state != "drifted" {
			return fmt.Errorf("the state is %s", state)
		}
		return nil
	})
	require.Equal(t, 1, version())
	require.NotEmpty(t, e.MustRead("connector-creds/app").Warnings)
}
