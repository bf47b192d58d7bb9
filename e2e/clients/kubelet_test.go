// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// deployed is a story whose consumer is the Deployment of examples/kubernetes, in a
// namespace of its own.
type deployed struct {
	*story
	cluster   *cluster
	namespace string
	authMount string // the path of the JWT auth method at Vault
}

// deploy brings the connector into the cluster, and lets its service account log in
// at Vault and read these paths below the mount.
func (s *story) deploy(c *cluster, paths ...string) *deployed {
	s.t.Helper()
	d := &deployed{story: s, cluster: c, namespace: s.Mount, authMount: s.Mount + "-k8s"}
	require.NoError(s.t, s.Root.Sys().EnableAuthWithOptions(d.authMount, &api.EnableAuthOptions{Type: "jwt"}))
	d.writeAuth("config", map[string]any{
		"jwks_url": c.url + "/openid/v1/jwks", "jwks_ca_pem": string(c.ca.pem), "bound_issuer": issuer,
	})
	d.writeAuth("role/okta", map[string]any{
		"role_type": "jwt", "bound_audiences": "vault", "user_claim": "sub",
		"bound_subject":  "system:serviceaccount:" + d.namespace + ":okta",
		"token_policies": s.policy(paths...), "token_period": "1h",
	})
	require.NoError(s.t, c.applyFile(s.t.Context(), "connector.yaml", d.adapt))
	return d
}

func (d *deployed) writeAuth(path string, data map[string]any) {
	d.t.Helper()
	_, err := d.Root.Logical().Write("auth/"+d.authMount+"/"+path, data)
	require.NoError(d.t, err)
}

// adapt changes the names and addresses in an example to the story's.
func (d *deployed) adapt(manifests string) string {
	return strings.NewReplacer(
		"https://vault.example.com:8200", d.Addr(),
		"namespace: baton\n", "namespace: "+d.namespace+"\n",
		"kind: Namespace\nmetadata:\n  name: baton\n", "kind: Namespace\nmetadata:\n  name: "+d.namespace+"\n",
		"path: k8s\n", "path: "+d.authMount+"\n", "mount: k8s\n", "mount: "+d.authMount+"\n",
		"path: c1\n", "path: "+d.Mount+"\n", "mount: c1\n", "mount: "+d.Mount+"\n",
		"path: c1/", "path: "+d.Mount+"/",
		": c1/connector-creds", ": "+d.Mount+"/connector-creds", `"c1/`, `"`+d.Mount+`/`, ": auth/k8s\n", ": auth/"+d.authMount+"\n",
		"refreshInterval: 1m ", "refreshInterval: "+refreshInterval.String()+" ",
		"refreshAfter: 1m ", "refreshAfter: "+refreshInterval.String()+" ",
	).Replace(manifests)
}

// apply brings one of the examples into the cluster, as it stands but for names.
func (d *deployed) apply(example string) {
	d.t.Helper()
	for _, document := range d.documents(example) {
		d.applyText(document)
	}
}

// documents are an example's manifests, with the story's names.
func (d *deployed) documents(example string) []string {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join(kubernetesExamples, example))
	require.NoError(d.t, err)
	return documents(d.adapt(string(raw)))
}

// applyText brings a manifest into the cluster, until the test ends: an operator
// would try to read for ever from a mount that is gone.
func (d *deployed) applyText(manifest string) {
	d.t.Helper()
	require.NoError(d.t, d.cluster.apply(d.t.Context(), manifest, nil))
	d.t.Cleanup(func() {
		require.NoError(d.t, d.cluster.remove(context.WithoutCancel(d.t.Context()), manifest))
	})
}

// Where the objects of the story are.
func (d *deployed) deployments() string {
	return "/apis/apps/v1/namespaces/" + d.namespace + "/deployments"
}
func (d *deployed) secrets() string { return "/api/v1/namespaces/" + d.namespace + "/secrets" }

// reloaderAnnotation is what Reloader reads (README.md of stakater/Reloader).
const reloaderAnnotation = "reloader.stakater.com/auto"

// deployment is what a kubelet, and Reloader, heed of one.
type deployment struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Template json.RawMessage `json:"template"`
	} `json:"spec"`
}

// playKubelet stands in for the Deployment controller and a kubelet, until the test ends:
// the consumer is started once its Secret is there, and anew when the template of the
// pod changes. With reloader it also stands in for Reloader, and the consumer is
// started anew when the Secret changes.
func (d *deployed) playKubelet(reloader bool) {
	d.t.Helper()
	ctx, stop := context.WithCancel(d.t.Context())
	changed := make(chan struct{}, 1)
	var running sync.WaitGroup
	d.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	for _, collection := range []string{d.deployments(), d.secrets()} {
		running.Go(func() {
			if err := d.cluster.watch(ctx, collection, "okta", changed); err != nil && ctx.Err() == nil {
				d.t.Errorf("watching %s: %v", collection, err)
			}
		})
	}
	running.Go(func() {
		var last string
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			pod, err := d.pod(ctx, reloader)
			switch {
			case errors.Is(err, errNotFound) || ctx.Err() != nil:
			case err != nil:
				d.t.Errorf("playing the kubelet: %v", err)
			case pod.state != last:
				last = pod.state
				d.deliver(pod.clientID, pod.clientSecret)
			}
		}
	})
}

// pod is what the container of the Deployment would be started with, and the state of
// the cluster that it comes from.
type pod struct{ clientID, clientSecret, state string }

func (d *deployed) pod(ctx context.Context, reloader bool) (pod, error) {
	var found deployment
	if err := d.cluster.do(ctx, http.MethodGet, d.deployments()+"/okta", nil, &found); err != nil {
		return pod{}, err
	}
	var template struct {
		Spec struct {
			Containers []struct {
				EnvFrom []struct {
					SecretRef struct {
						Name string `json:"name"`
					} `json:"secretRef"`
				} `json:"envFrom"`
			} `json:"containers"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(found.Spec.Template, &template); err != nil {
		return pod{}, err
	}
	environment := map[string]string{}
	for _, container := range template.Spec.Containers {
		for _, from := range container.EnvFrom {
			data, err := d.cluster.secret(ctx, d.namespace, from.SecretRef.Name)
			if err != nil {
				return pod{}, err // so a container waits for its Secret
			}
			for name, value := range data {
				environment[name] = string(value)
			}
		}
	}
	p := pod{environment["BATON_CLIENT_ID"], environment["BATON_CLIENT_SECRET"], string(found.Spec.Template)}
	if len(environment) != 2 || p.clientID == "" || p.clientSecret == "" {
		return pod{}, fmt.Errorf("the Secret holds %d keys, and should hold the two that a connector reads", len(environment))
	}
	if reloader && found.Metadata.Annotations[reloaderAnnotation] == "true" {
		p.state += p.clientID + p.clientSecret
	}
	return p, nil
}
