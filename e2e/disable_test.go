// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// A server of its own: while Vault disables a mount, requests to others wait.
func TestDisablingTheMountEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	server := vaulttest.New(t, vaulttest.Options{})
	for _, when := range []c1test.When{c1test.BeforeCommit, c1test.AfterCommit} {
		t.Run(string(when), func(t *testing.T) {
			e := server.With(t)
			mount := "gone-" + string(when)
			e.Server.Mount(mount)
			e.Configure(mount, e.Tenant, object{"request_timeout": "20s"})
			e.BindConnector(mount, "github", e.Tenant.Connector(), nil)
			barrier := e.Tenant.Hold(c1test.OpRotateConnector, when)

			var wg sync.WaitGroup
			var vended *api.Secret
			wg.Go(func() { vended, _ = e.Root.Logical().Read(mount + "/connector-creds/github") })
			<-barrier.Arrived()
			var disabled error
			wg.Go(func() { disabled = e.Root.Sys().Unmount(mount) })
			vaulttest.Eventually(t, 10*time.Second, func() error { // until other requests wait or are refused
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if status, _ := e.Root.Logical().ReadWithContext(ctx, mount+"/status"); status != nil {
					return errors.New("Vault has not begun to disable it")
				}
				return nil
			})
			barrier.Release()
			wg.Wait()

			require.NoError(t, disabled)
			vaulttest.Eventually(t, 10*time.Second, func() error {
				if left := alive(e); len(left) > 0 {
					return fmt.Errorf("alive, and forgotten: %v (the reader got an answer: %t)", left, vended != nil)
				}
				return nil
			})
		})
	}
}
