// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// object is a JSON object.
type object = map[string]any

// requireRefused checks that an answer has this status and says all of these.
func requireRefused(t *testing.T, err error, status int, says ...string) {
	t.Helper()
	var refused *api.ResponseError
	require.ErrorAs(t, err, &refused)
	message := strings.Join(refused.Errors, "\n")
	require.Equal(t, status, refused.StatusCode, message)
	for _, part := range says {
		require.Contains(t, message, part)
	}
}

// fingerprint is the hex SHA-256 of a secret, as C1's findings name it.
func fingerprint(secret any) string {
	sum := sha256.Sum256([]byte(secret.(string)))
	return hex.EncodeToString(sum[:])
}

// integer reads a number of one of Vault's answers.
func integer(t *testing.T, value any) int64 {
	t.Helper()
	n, ok := value.(json.Number)
	require.True(t, ok, "%v is no number", value)
	i, err := n.Int64()
	require.NoError(t, err)
	return i
}

// alive returns the IDs of the credentials that the seeded connector could log
// in with, oldest first.
func alive(e *vaulttest.Engine) []any {
	ids := []any{}
	for _, c := range e.Tenant.AliveCredentials(e.Tenant.Connector()) {
		ids = append(ids, c.ID)
	}
	return ids
}

// rotations counts what arrived at C1 to rotate anything.
func rotations(e *vaulttest.Engine) int {
	return e.Tenant.Requests(c1test.OpRotateConnector) + e.Tenant.Requests(c1test.OpRotateDecoy)
}

// requireHealthy checks that status shows nothing that needs a person.
func requireHealthy(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	status := e.MustRead("status").Data
	require.Equal(t, true, status["healthy"], "attention: %v", status["attention"])
	require.Empty(t, status["attention"])
}

// tokenFor makes a token with one policy, as `vault token create` does.
func tokenFor(t *testing.T, s *vaulttest.Server, name, rules string) string {
	t.Helper()
	require.NoError(t, s.Root.Sys().PutPolicy(name, rules))
	secret, err := s.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{name}, DisplayName: name})
	require.NoError(t, err)
	return secret.Auth.ClientToken
}
