// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"os"
	"testing"
)

const (
	// vsoVariable names a Vault Secrets Operator (its manager), which cannot be built
	// from the Go module proxy, and vsoCRDsVariable the directory with its
	// definitions (chart/crds in its repository).
	vsoVariable     = "C1_CLIENTS_VSO"
	vsoCRDsVariable = "C1_CLIENTS_VSO_CRDS"
)

// vsoKinds are the ways by which the Vault Secrets Operator reads a binding.
var vsoKinds = []struct{ test, part, example, path string }{
	{"VaultDynamicSecret", "VaultDynamicSecret", "vault-secrets-operator-dynamic.yaml", "connector-creds/okta"},
	{"KV1", "VaultStaticSecret, KV version 1", "vault-secrets-operator-kv1.yaml", "connector-creds/okta"},
	{"KV2", "VaultStaticSecret, KV version 2", "vault-secrets-operator-kv2.yaml", "data/connector-creds/okta"},
}

func TestTheReplayedVaultSecretsOperator(t *testing.T) {
	t.Parallel()
	for _, kind := range vsoKinds {
		t.Run(kind.test, func(t *testing.T) {
			follow(t, client{
				name: "Vault Secrets Operator, " + kind.part, ran: "requests of " + vsoReplayed + ", replayed",
				needs: "[kubernetes](../examples/kubernetes): JWT auth, three objects",
				start: func(s *story) {
					d := s.deploy(kubernetes(s.t), kind.path)
					d.playKubelet(false)
					d.replayVaultSecretsOperator(kind.example)
				},
			})
		})
	}
}

func TestTheVaultSecretsOperator(t *testing.T) {
	t.Parallel()
	manager, definitions := os.Getenv(vsoVariable), os.Getenv(vsoCRDsVariable)
	if manager == "" || definitions == "" {
		t.Skip("the Vault Secrets Operator is no Go module: name a build of it in " + vsoVariable + " and its definitions in " + vsoCRDsVariable)
	}
	for _, kind := range vsoKinds {
		t.Run(kind.test, func(t *testing.T) {
			follow(t, client{
				name: "Vault Secrets Operator, " + kind.part, ran: programVersion(t, manager, "-version"),
				needs: "[kubernetes](../examples/kubernetes): JWT auth, three objects",
				start: func(s *story) {
					d := s.deploy(kubernetes(s.t), kind.path)
					d.cluster.installCRDs(s.t, definitions)
					d.cluster.operator(s, manager, "-leader-elect=false", "-metrics-bind-address=0", "-health-probe-bind-address=0")
					d.playKubelet(false)
					d.apply(kind.example)
				},
			})
		})
	}
}
