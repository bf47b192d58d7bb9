// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// TestRecoveryMountIsNotDisabledWhileC1IsDown: with its storage Vault would
// erase all that is known of what is alive at C1.
func TestRecoveryMountIsNotDisabledWhileC1IsDown(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	for _, s := range newSites(t, server, []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint}) {
		t.Run(s.name, func(t *testing.T) {
			if s.isDecoy() {
				s.bind(map[string]any{"on_lease_end": "rotate"})
			}
			vends := []vended{s.mustVend(t), s.mustVend(t), s.mustVend(t)}
			last := vends[len(vends)-1]
			s.c1.SetDown(true)

			err := server.Root.Sys().Unmount(s.mount)
			require.Error(t, err)
			require.ErrorContains(t, err, "still alive at C1")
			mounts, err := server.Root.Sys().ListMounts()
			require.NoError(t, err)
			require.Contains(t, mounts, s.mount+"/")
			require.Contains(t, s.leases(t), last.LeaseID[len(s.credsPath())+1:])
			require.True(t, s.alive(last))

			s.c1.SetDown(false)
			// Once C1 has not answered five times in a row, nothing is sent for a while.
			vaulttest.Eventually(t, time.Minute, func() error { return server.Root.Sys().Unmount(s.mount) })
			for _, v := range vends {
				require.False(t, s.alive(v), "version %d outlived its mount", v.Version)
			}
			if !s.isDecoy() {
				require.NoError(t, s.nothingAlive(t))
			}
			mounts, err = server.Root.Sys().ListMounts()
			require.NoError(t, err)
			require.NotContains(t, mounts, s.mount+"/")
		})
	}
}

// TestRecoveryDisabledMountEndsWhatIsPending: the lease ended while C1 was down,
// so Vault has nothing left to ask for when the mount goes.
func TestRecoveryDisabledMountEndsWhatIsPending(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	for _, s := range newSites(t, server, []subject{overlappingConnector, decoyWithFingerprint}) {
		t.Run(s.name, func(t *testing.T) {
			if s.isDecoy() {
				s.bind(map[string]any{"on_lease_end": "rotate"})
			}
			v := s.mustVend(t)
			s.c1.SetDown(true)
			require.NoError(t, server.Root.Sys().Revoke(v.LeaseID))
			require.Equal(t, 1, s.mustHealth(t).Retiring)
			s.c1.SetDown(false)

			require.NoError(t, server.Root.Sys().Unmount(s.mount))
			require.False(t, s.alive(v), "it outlived the mount, and nobody knows of it any more")
		})
	}
}
