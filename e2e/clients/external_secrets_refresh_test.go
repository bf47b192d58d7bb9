// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	// often is the refreshInterval of these tests, which wait for refreshes.
	often    = "2s"
	periodic = "refreshPolicy: Periodic\n  refreshInterval: " + often
)

func TestExternalSecretsReadsAgainAsItsRefreshPolicySays(t *testing.T) {
	t.Parallel()
	d := newRefreshed(t, "data/connector-creds/slow")
	d.bind("slow", map[string]any{"rotate_on": "schedule", "rotation_period": "24h", "grace_period": "1h", "keys_preset": "baton"})
	d.applyText(d.documents("external-secrets-kv2.yaml")[0])
	for name, policy := range map[string]string{
		"periodic": periodic,
		"zero":     "refreshPolicy: Periodic\n  refreshInterval: 0s",
		"onchange": "refreshPolicy: OnChange\n  refreshInterval: " + often,
		"once":     "refreshPolicy: CreatedOnce\n  refreshInterval: " + often,
	} {
		d.externalSecret("external-secrets-kv2.yaml", name, "slow", policy)
	}
	first := d.clientID("slow")
	for _, name := range []string{"periodic", "zero", "onchange", "once"} {
		d.eventuallyHolds(name, first)
	}

	d.MustWrite("connectors/slow/rotate", nil)
	second := d.clientID("slow")
	require.NotEqual(t, first, second)
	d.eventuallyHolds("periodic", second)
	d.refreshes("periodic", 3)
	for _, name := range []string{"zero", "onchange", "once"} {
		require.NoError(t, d.holds(name, first), "%s reads no more", name)
	}

	for _, name := range []string{"zero", "onchange", "once"} {
		d.annotate(name)
	}
	d.eventuallyHolds("onchange", second)
	d.refreshes("periodic", 3)
	for _, name := range []string{"zero", "once"} {
		require.NoError(t, d.holds(name, first), "%s reads no more", name)
	}
	require.Equal(t, 2, d.rotations("slow"), "the operator rotates nothing")
}

// What the operations guide warns of: bindings that rotate when they are read.
func TestExternalSecretsOnBindingsThatEachReadRotates(t *testing.T) {
	t.Parallel()
	d := newRefreshed(t, "data/connector-creds/kv", "connector-creds/entries", "connector-creds/generated")
	for _, name := range []string{"kv", "entries", "generated"} {
		d.bind(name, map[string]any{"rotate_on": "read"})
	}

	// By version 2 of the KV API the engine refuses it.
	d.applyText(d.documents("external-secrets-kv2.yaml")[0])
	d.externalSecret("external-secrets-kv2.yaml", "kv", "kv", periodic)
	d.eventually("the refusal", func() error {
		if ready := d.status("kv").Ready; ready != "False" {
			return fmt.Errorf("the ExternalSecret says of ready: %q", ready)
		}
		return nil
	})
	require.Zero(t, d.rotations("kv"))
	_, err := d.Read("data/connector-creds/kv")
	require.ErrorContains(t, err, "rotate_on")

	// By version 1 each entry rotates, and the Secret is torn.
	d.applyText(strings.ReplaceAll(d.documents("external-secrets-kv1.yaml")[0], "name: c1\n", "name: kv1\n"))
	d.applyText(d.adapt(entriesOfOneSecret))
	var data map[string][]byte
	d.eventually("the Secret", func() (err error) {
		data, err = d.cluster.secret(t.Context(), d.namespace, "entries")
		return err
	})
	require.GreaterOrEqual(t, d.rotations("entries"), 2)
	require.Error(t, d.Tenant.Login(t.Context(), string(data["BATON_CLIENT_ID"]), string(data["BATON_CLIENT_SECRET"])),
		"the ID and the secret come from two rotations")
	t.Logf("a Secret with two entries: %d rotations", d.rotations("entries"))

	// The generator rotates with each refresh.
	d.applyText(strings.ReplaceAll(d.documents("external-secrets-generator.yaml")[0], "/okta\n", "/generated\n"))
	d.externalSecret("external-secrets-generator.yaml", "generated", "okta", periodic)
	d.refreshes("generated", 3)
	d.deleteExternalSecret("generated") // it would go on
	require.GreaterOrEqual(t, d.rotations("generated"), 3)
	t.Logf("a generator: %d rotations, %d credentials alive", d.rotations("generated"), len(d.Tenant.AliveCredentials(d.connectors["generated"])))
}

// entriesOfOneSecret reads two fields of one credential, each by itself.
const entriesOfOneSecret = `apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: entries
  namespace: baton
spec:
  refreshInterval: 1h
  secretStoreRef:
    kind: SecretStore
    name: kv1
  data:
    - secretKey: BATON_CLIENT_ID
      remoteRef:
        key: connector-creds/entries
        property: client_id
    - secretKey: BATON_CLIENT_SECRET
      remoteRef:
        key: connector-creds/entries
        property: client_secret
`

// refreshedSecrets are a namespace with ExternalSecrets, and connectors to bind.
type refreshedSecrets struct {
	*deployed
	connectors map[string]c1test.ConnectorRef
}

func newRefreshed(t *testing.T, paths ...string) *refreshedSecrets {
	t.Helper()
	d := &refreshedSecrets{newStory(t, client{}, c1test.Overlapping).deploy(kubernetes(t), paths...), map[string]c1test.ConnectorRef{}}
	d.startExternalSecrets()
	return d
}

func (d *refreshedSecrets) bind(name string, fields map[string]any) {
	d.t.Helper()
	d.connectors[name] = d.Tenant.NewConnector(name)
	d.BindConnector(d.Mount, name, d.connectors[name], fields)
}

// rotations counts what C1 has minted for one of the connectors.
func (d *refreshedSecrets) rotations(name string) int {
	n := 0
	for _, entry := range d.Tenant.Journal() {
		if entry.Op == c1test.OpRotateConnector && entry.Object == d.connectors[name].ConnectorID {
			n++
		}
	}
	return n
}

// clientID is that of a binding's current credential.
func (d *refreshedSecrets) clientID(name string) (id string) {
	d.t.Helper()
	d.eventually("the first version", func() error {
		secret, err := d.Read("connector-creds/" + name)
		if err == nil {
			id, _ = secret.Data["client_id"].(string)
		}
		return err
	})
	return id
}

// externalSecret makes an example's ExternalSecret read another binding under another
// name, by another policy.
func (d *refreshedSecrets) externalSecret(example, name, binding, policy string) {
	d.t.Helper()
	document := d.documents(example)[1]
	for _, change := range [][2]string{
		{"\nmetadata:\n  name: okta\n", "\nmetadata:\n  name: " + name + "\n"},
		{"\n  target:\n    name: okta\n", "\n  target:\n    name: " + name + "\n"},
		{"refreshPolicy: Periodic\n  refreshInterval: 15s", policy},
	} {
		require.Contains(d.t, document, change[0])
		document = strings.Replace(document, change[0], change[1], 1)
	}
	d.applyText(strings.Replace(document, "connector-creds/okta", "connector-creds/"+binding, 1))
}

func (d *refreshedSecrets) eventuallyHolds(name, clientID string) {
	d.t.Helper()
	d.eventually(name, func() error { return d.holds(name, clientID) })
}

func (d *refreshedSecrets) holds(name, clientID string) error {
	data, err := d.cluster.secret(d.t.Context(), d.namespace, name)
	if err == nil && string(data["BATON_CLIENT_ID"]) != clientID {
		err = errors.New("the Secret holds another client ID")
	}
	return err
}

func (d *refreshedSecrets) externalSecretPath(name string) string {
	return "/apis/external-secrets.io/v1/namespaces/" + d.namespace + "/externalsecrets/" + name
}

// annotate changes the ExternalSecret's metadata.
func (d *refreshedSecrets) annotate(name string) {
	d.t.Helper()
	patch := []byte(`{"metadata":{"annotations":{"example.com/changed":"yes"}}}`)
	require.NoError(d.t, d.cluster.send(d.t.Context(), http.MethodPatch, d.externalSecretPath(name), asMergePatch, patch, nil))
}

func (d *refreshedSecrets) deleteExternalSecret(name string) {
	d.t.Helper()
	require.NoError(d.t, d.cluster.do(d.t.Context(), http.MethodDelete, d.externalSecretPath(name), nil, nil))
}

// synced is what the operator says of an ExternalSecret.
type synced struct{ Ready, RefreshTime string }

func (d *refreshedSecrets) status(name string) synced {
	d.t.Helper()
	var found struct {
		Status struct {
			RefreshTime string      `json:"refreshTime"`
			Conditions  []condition `json:"conditions"`
		} `json:"status"`
	}
	require.NoError(d.t, d.cluster.do(d.t.Context(), http.MethodGet, d.externalSecretPath(name), nil, &found))
	says := synced{RefreshTime: found.Status.RefreshTime}
	for _, condition := range found.Status.Conditions {
		if condition.Type == "Ready" {
			says.Ready = condition.Status
		}
	}
	return says
}

// refreshes waits until the operator has read so many times more.
func (d *refreshedSecrets) refreshes(name string, times int) {
	d.t.Helper()
	last := d.status(name).RefreshTime
	for range times {
		d.eventually("a refresh of "+name, func() error {
			now := d.status(name).RefreshTime
			if now == last {
				return errors.New("not yet")
			}
			last = now
			return nil
		})
	}
}
