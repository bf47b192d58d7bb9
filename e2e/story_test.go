// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

func TestReadRotatesAndVendsALiveCredential(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	require.Zero(t, e.Tenant.Requests("rotateConnector"), "binding rotates nothing")

	first := e.MustRead("connector-creds/github")
	require.NoError(t, e.Login(first))
}
