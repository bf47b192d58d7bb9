// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// bridgeConfig is the part of bridge-client's configuration that is about Vault, as
// C1's guide to it describes it.
type bridgeConfig struct {
	SecretBackend struct {
		Type  string
		Vault struct {
			URL, Mount string
			KVAPI      int `yaml:"kvapi"`
			Token      string
			Userpass   struct{ Username, Password string }
		}
	} `yaml:"secret_backend"`
	Secrets map[string]string // field: "secret-id:key"
}

// resolve replays what bridge-client does with it when it starts. The environment's
// token comes first, as the guide says.
func (c bridgeConfig) resolve(ctx context.Context, environmentToken string) (map[string]string, error) {
	vault := c.SecretBackend.Vault
	settings := api.DefaultConfig()
	settings.Address = vault.URL
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, err
	}
	token := cmp.Or(environmentToken, vault.Token)
	if token == "" {
		login, err := client.Logical().WriteWithContext(ctx, "auth/userpass/login/"+vault.Userpass.Username, map[string]any{"password": vault.Userpass.Password})
		if err != nil {
			return nil, err
		}
		token = login.Auth.ClientToken
	}
	client.SetToken(token)
	get := client.KVv2(vault.Mount).Get
	if vault.KVAPI == 1 {
		get = client.KVv1(vault.Mount).Get
	}
	values := map[string]string{}
	for field, locator := range c.Secrets {
		id, key, _ := strings.Cut(locator, ":")
		secret, err := get(ctx, id)
		if err != nil {
			return nil, err
		}
		value, ok := secret.Data[key].(string)
		if !ok {
			return nil, fmt.Errorf("%s: no text under %s", id, key)
		}
		values[field] = value
	}
	return values, nil
}

// bridge-client reads at its start and never again, so something has to restart it
// after a rotation; what that may be does not depend on the client.
func TestBridgeClientReadsTheCurrentVersionWhenItStarts(t *testing.T) {
	t.Parallel()
	for kv, path := range map[int]string{1: "connector-creds/okta", 2: "data/connector-creds/okta"} {
		t.Run(fmt.Sprintf("KV version %d", kv), func(t *testing.T) {
			t.Parallel()
			e := vaulttest.Shared(t).Engine(fmt.Sprintf("c1-%d", mounts.Add(1)), c1test.Options{})
			connector := e.Tenant.Connector()
			e.BindConnector(e.Mount, "okta", connector, map[string]any{"rotate_on": "schedule", "rotation_period": "24h"})
			s := &story{Engine: e, t: t}
			var config bridgeConfig
			require.NoError(t, yaml.Unmarshal([]byte(fmt.Sprintf(`
secret_backend:
  type: vault
  vault:
    url: %q
    mount: %q
    kvapi: %d
secrets:
  client_id: "connector-creds/okta:client_id"
  client_secret: "connector-creds/okta:client_secret"
`, e.Addr(), e.Mount, kv)), &config))
			token := s.token(path)

			starts := func(version int) map[string]string {
				t.Helper()
				var values map[string]string
				s.eventually("the read of a start", func() (err error) {
					values, err = config.resolve(t.Context(), token)
					return err
				})
				require.NoError(t, e.Login(&api.Secret{Data: map[string]any{"client_id": values["client_id"], "client_secret": values["client_secret"]}}))
				rotated := e.Tenant.Changes(c1test.OpRotateConnector)
				require.Equal(t, version, rotated, "a start rotates nothing")
				return values
			}
			first := starts(1)
			require.Equal(t, first, starts(1))
			e.MustWrite("connectors/okta/rotate", nil)
			second := starts(2)
			require.NotEqual(t, first["client_secret"], second["client_secret"])
			require.NotEqual(t, first["client_id"], second["client_id"])

			require.NoError(t, yaml.Unmarshal([]byte(s.userpass(path)), &config.SecretBackend.Vault.Userpass))
			token = ""
			require.Equal(t, second, starts(2), "by userpass as by a token")
			config.SecretBackend.Vault.Token = s.token(path)
			require.Equal(t, second, starts(2), "by a token of its own")
		})
	}
}
