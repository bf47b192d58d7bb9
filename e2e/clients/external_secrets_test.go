// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	esoModule = "github.com/external-secrets/external-secrets"
	// esoVariable names another External Secrets Operator than the pinned one, and
	// esoCRDsVariable the directory with its definitions.
	esoVariable     = "C1_CLIENTS_ESO"
	esoCRDsVariable = "C1_CLIENTS_ESO_CRDS"
)

func TestExternalSecretsByVersion1OfTheKVAPI(t *testing.T) {
	followExternalSecrets(t, "SecretStore, KV version 1", "external-secrets-kv1.yaml", "connector-creds/okta")
}

func TestExternalSecretsByVersion2OfTheKVAPI(t *testing.T) {
	followExternalSecrets(t, "SecretStore, KV version 2", "external-secrets-kv2.yaml", "data/connector-creds/okta")
}

func TestExternalSecretsByItsGenerator(t *testing.T) {
	followExternalSecrets(t, "generator VaultDynamicSecret", "external-secrets-generator.yaml", "connector-creds/okta")
}

func followExternalSecrets(t *testing.T, part, example, path string) {
	t.Helper()
	follow(t, client{
		name: "External Secrets Operator, " + part, ran: builtFrom(t, esoBinary(t)),
		needs: "[kubernetes](../examples/kubernetes): JWT auth, two objects, Reloader",
		start: func(s *story) {
			d := s.deploy(kubernetes(s.t), path)
			d.startExternalSecrets()
			d.playKubelet(true)
			d.apply(example)
		},
	})
}

// startExternalSecrets starts the operator, which the stories share.
func (d *deployed) startExternalSecrets() {
	d.t.Helper()
	d.cluster.installCRDs(d.t, esoCRDs(d.t))
	d.cluster.operator(d.story, esoBinary(d.t), "--metrics-addr=127.0.0.1:0", "--loglevel=debug")
}

func esoBinary(t *testing.T) string {
	t.Helper()
	path, err := built("external-secrets", esoVariable)
	require.NoError(t, err)
	return path
}

// esoCRDs is the directory with the operator's definitions: in the module that it is
// built from.
func esoCRDs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(esoCRDsVariable); dir != "" {
		return dir
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", esoModule)
	list.Dir = filepath.Join("..", "..", "tools", "external-secrets")
	printed, err := list.Output()
	require.NoError(t, err)
	return filepath.Join(strings.TrimSpace(string(printed)), "config", "crds", "bases")
}
