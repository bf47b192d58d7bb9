// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
					d.checkRequests(kind.path)
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
					d.checkRequests(kind.path)
					d.cluster.installCRDs(s.t, definitions)
					d.cluster.operator(s, manager, "-leader-elect=false", "-metrics-bind-address=0", "-health-probe-bind-address=0")
					d.playKubelet(false)
					d.apply(kind.example)
				},
			})
		})
	}
}

// checkRequests sees at the end of the story to it that the operator, or its replay, has
// asked Vault for what the binding's path answers, and for nothing else with its token
// but to renew it.
func (d *deployed) checkRequests(path string) {
	d.t.Helper()
	d.t.Cleanup(func() {
		asked := d.requests()
		d.t.Logf("requests: %v", asked)
		// The real one, when its VaultDynamicSecret is deleted: of no lease, and in vain.
		delete(asked, "update sys/leases/revoke")
		require.ElementsMatch(d.t, []string{"update auth/token/renew-self", "read " + d.Path(path)}, slices.Collect(maps.Keys(asked)))
		require.Equal(d.t, 2, asked["update auth/token/renew-self"], "by the operator after its login, and by the library that renews from then on")
	})
}

// requests counts, from the audit log, what was asked with tokens of the story's auth
// method.
func (d *deployed) requests() map[string]int {
	d.t.Helper()
	asked := map[string]int{}
	for text := range strings.Lines(d.AuditLog()) {
		var entry struct {
			Type string `json:"type"`
			Auth struct {
				DisplayName string `json:"display_name"`
			} `json:"auth"`
			Request struct {
				Operation string `json:"operation"`
				Path      string `json:"path"`
			} `json:"request"`
		}
		if json.Unmarshal([]byte(text), &entry) != nil {
			continue // half of the last line, so far
		}
		if entry.Type == "request" && strings.HasPrefix(entry.Auth.DisplayName, d.authMount+"-") {
			asked[entry.Request.Operation+" "+entry.Request.Path]++
		}
	}
	return asked
}
