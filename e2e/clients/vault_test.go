// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// exampleConnector is what the examples run.
const exampleConnector = `"/usr/local/bin/baton-okta"`

func TestVaultAgentAsProcessSupervisor(t *testing.T) {
	follow(t, client{
		name: "Vault Agent, process supervisor", ran: vaultVersion(t),
		needs: "[agent-exec](../examples/agent-exec): AppRole, one file",
		start: func(s *story) {
			config := s.example("agent-exec/agent.hcl")
			require.Contains(s.t, config, exampleConnector)
			s.save("agent.hcl", strings.Replace(s.withAppRole(config), exampleConnector, s.quotedCommand(), 1))
			s.StartAgent(s.dir)
		},
	})
}

func TestConsulTemplate(t *testing.T) {
	consulTemplate := filepath.Join(repositoryBin(t), "consul-template")
	follow(t, client{
		name: "consul-template", ran: programVersion(t, consulTemplate, "-v"),
		needs: "[consul-template](../examples/consul-template): a token, one file",
		start: func(s *story) {
			config := s.example("consul-template/consul-template.hcl")
			require.Contains(s.t, config, exampleConnector)
			s.save("consul-template.hcl", strings.Replace(config, exampleConnector, s.quotedCommand(), 1))
			s.StartProgram("consul-template", s.dir, []string{"VAULT_TOKEN=" + s.token(s.credsPath())},
				consulTemplate, "-config=consul-template.hcl", "-log-level=debug")
		},
	})
}

// A program that can read Vault and not log in asks Vault Proxy.
func TestVaultProxy(t *testing.T) {
	follow(t, client{
		name: "Vault Proxy, and a reader that heeds ttl", ran: vaultVersion(t),
		needs: "[proxy](../examples/proxy): AppRole, one file; a reader of your own",
		start: func(s *story) {
			const listener = "127.0.0.1:8100"
			config, address := s.example("proxy/proxy.hcl"), vaulttest.FreeAddress(s.t)
			require.Contains(s.t, config, listener)
			s.save("proxy.hcl", strings.ReplaceAll(s.withAppRole(config), "address     = \""+listener, "address     = \""+address))
			s.StartProgram("Vault Proxy", s.dir, nil, vaultBinary(s.t), "proxy", "-config=proxy.hcl", "-log-level=debug")
			anonymous, err := api.NewClient(&api.Config{Address: "http://" + address})
			require.NoError(s.t, err)
			anonymous.ClearToken()
			s.eventually("Vault Proxy", func() error { // it listens once it has logged in
				_, err := anonymous.Sys().Health()
				return err
			})
			s.readAgain(func(ctx context.Context) (material, error) { return plainRead(ctx, anonymous, s.Path(s.credsPath())) })
		},
	})
}

// example is a file of examples/, on the story's mount.
func (s *story) example(name string) string {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
	require.NoError(s.t, err)
	return strings.ReplaceAll(string(raw), `"c1/`, `"`+s.Mount+`/`)
}

// quotedCommand is the consumer's command line as a part of a list in HCL.
func (s *story) quotedCommand() string {
	command := s.consumerCommand()
	for i := range command {
		command[i] = strconv.Quote(command[i])
	}
	return strings.Join(command, ", ")
}

// withAppRole has an Agent's or Proxy's configuration log in at the story's mount.
func (s *story) withAppRole(config string) string {
	s.t.Helper()
	const method = `method "approle" {`
	require.Contains(s.t, config, method)
	return strings.Replace(config, method, method+"\n    mount_path = \""+s.approle(s.credsPath())+"\"", 1)
}

// vaultVersion is that of the server and the programs that come with it.
func vaultVersion(t *testing.T) string {
	t.Helper()
	return programVersion(t, vaultBinary(t), "version")
}

// repositoryBin is where make puts the programs that it builds.
func repositoryBin(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	require.NoError(t, err)
	return dir
}

func vaultBinary(t *testing.T) string {
	t.Helper()
	return vaulttest.ServerUnderTest(t).Path
}

// programVersion is the first version in what a program prints of itself.
func programVersion(t *testing.T, program string, args ...string) string {
	t.Helper()
	printed, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err)
	found := regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(string(printed))
	require.NotEmpty(t, found, "%s prints no version", filepath.Base(program))
	return found
}
