// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

var buildBatonRunner = building("batonrunner")

func TestBatonRunnerReadsByKVVersion1(t *testing.T) {
	followByBatonRunner(t, 1)
}

func TestBatonRunnerReadsByKVVersion2(t *testing.T) {
	followByBatonRunner(t, 2)
}

func followByBatonRunner(t *testing.T, kv int) {
	program, err := buildBatonRunner()
	require.NoError(t, err)
	follow(t, client{
		name: fmt.Sprintf("C1's baton-runner, KV v%d, under Vault Agent", kv), ran: "requests replayed from C1's docs",
		needs: "[baton-runner](../examples/baton-runner): userpass, `config.yaml`; AppRole and one file for the Agent",
		start: func(s *story) {
			path, fields := s.credsPath(), []string{}
			if kv == 2 {
				path = "data/" + path
			} else { // keys_preset names the fields of version 2 alone
				fields = []string{"kvapi: 2", "kvapi: 1", "okta:BATON_CLIENT_ID", "okta:client_id", "okta:BATON_CLIENT_SECRET", "okta:client_secret"}
			}
			s.save("config.yaml", s.replace(s.example("baton-runner/config.yaml"), append(fields,
				"https://vault.example.com:8200", s.Addr(), "mount: c1\n", "mount: "+s.Mount+"\n", "/usr/local/bin/baton-okta", s.consumerScript())...))
			s.save("vaultcreds.yaml", s.userpass(path))
			s.save("agent.hcl", s.replace(s.withAppRole(s.example("baton-runner/agent.hcl")), "/usr/local/bin/baton-runner", program))
			s.StartAgent(s.dir)
			s.requireOneConsumer()
		},
	})
}

// userpass makes a user who may read a path below the mount, and returns the file that
// tells baton-runner of it.
func (s *story) userpass(path string) string {
	s.t.Helper()
	err := s.Root.Sys().EnableAuthWithOptions("userpass", &api.EnableAuthOptions{Type: "userpass"})
	if err != nil && !strings.Contains(err.Error(), "path is already in use") { // by another story on this server
		require.NoError(s.t, err)
	}
	name, password := s.Mount+"-runner", rand.Text()
	rule := fmt.Sprintf("path %q { capabilities = [\"read\"] }", s.Path(path))
	require.NoError(s.t, s.Root.Sys().PutPolicy(name, rule))
	_, err = s.Root.Logical().Write("auth/userpass/users/"+name, map[string]any{"password": password, "token_policies": name, "token_ttl": "1h"})
	require.NoError(s.t, err)
	return fmt.Sprintf("username: %s\npassword: %s\n", name, password)
}
