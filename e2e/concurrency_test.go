// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestHundredReadersRotateHundredTimesOneAtATime(t *testing.T) {
	t.Parallel()
	const readers = 100
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, semantics c1test.Semantics) {
		connector := e.Tenant.Connector()
		e.BindConnector(e.Mount, "github", connector, nil)
		e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: 5 * time.Millisecond})

		vended := make([]*api.Secret, readers)
		errs := make([]error, readers)
		var wg sync.WaitGroup
		for i := range readers {
			wg.Go(func() { vended[i], errs[i] = e.Read("connector-creds/github") })
		}
		wg.Wait()

		versions := map[int64]*api.Secret{}
		for i := range readers {
			require.NoError(t, errs[i])
			versions[integer(t, vended[i].Data["version"])] = vended[i]
		}
		require.Len(t, versions, readers, "each reader got a version of its own")
		require.Equal(t, readers, e.Tenant.Requests(c1test.OpRotateConnector))
		require.Equal(t, 1, e.Tenant.MaxConcurrent(connector.ConnectorID))
		require.LessOrEqual(t, e.Tenant.Requests(c1test.OpToken), 2, "one access token serves them all")

		last := versions[readers]
		require.NotNil(t, last)
		require.NoError(t, e.Login(last))
		left := alive(e)
		require.Equal(t, last.Data["credential_id"], left[len(left)-1])
		if semantics == c1test.Exclusive {
			require.Len(t, left, 1)
		}
		requireHealthy(t, e)
	})
}
