// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

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
			command := s.consumerCommand()
			for i := range command {
				command[i] = strconv.Quote(command[i])
			}
			require.Contains(s.t, config, exampleConnector)
			s.save("agent.hcl", strings.Replace(s.withAppRole(config), exampleConnector, strings.Join(command, ", "), 1))
			s.StartAgent(s.dir)
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

func vaultBinary(t *testing.T) string {
	t.Helper()
	binary, err := vaulttest.VaultBinary()
	require.NoError(t, err)
	return binary
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
