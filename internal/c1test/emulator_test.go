// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestRotatedConnectorCredentialLogsInUntilItEnds(t *testing.T) {
	t.Parallel()
	for semantics, alive := range map[c1test.Semantics]int{c1test.Exclusive: 1, c1test.Overlapping: 2} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			c1 := c1test.StartT(t, c1test.Options{TLS: true, Semantics: semantics}).Default()
			first := c1.RotateConnector(c1.Connector())
			require.NoError(t, c1.Login(t.Context(), first.ClientID, first.ClientSecret))

			second := c1.RotateConnector(c1.Connector())
			require.Len(t, c1.AliveCredentials(c1.Connector()), alive)
			require.NoError(t, c1.Login(t.Context(), second.ClientID, second.ClientSecret))
			if semantics == c1test.Exclusive {
				require.EqualError(t, c1.Login(t.Context(), first.ClientID, first.ClientSecret), "invalid_client")
			}

			require.True(t, c1.RevokeCredential(second.ID))
			require.EqualError(t, c1.Login(t.Context(), second.ClientID, second.ClientSecret), "invalid_client")
		})
	}
}
