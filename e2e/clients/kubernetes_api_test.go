// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// The content types of Kubernetes' API that are used here.
const (
	asJSON       = "application/json"
	asApply      = "application/apply-patch+yaml"
	asMergePatch = "application/merge-patch+json"
)

var errNotFound = errors.New("not found")

// do sends a request as the administrator, with JSON for a body.
func (c *cluster) do(ctx context.Context, method, path string, in, out any) error {
	if in == nil {
		return c.send(ctx, method, path, "", nil, out)
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.send(ctx, method, path, asJSON, raw, out)
}

// send sends a request. Its error says what the API server says of it.
func (c *cluster) send(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	answer, err := c.open(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, answer)
		return err
	}
	return json.NewDecoder(answer).Decode(out)
}

func (c *cluster) open(ctx context.Context, method, path, contentType string, body []byte) (io.ReadCloser, error) {
	rq, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		rq.Header.Set("Content-Type", contentType)
	}
	answer, err := c.admin.Do(rq)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s %s: %w", method, path, errNotFound)
	}
	var status struct {
		Message string `json:"message"`
	}
	_ = json.NewDecoder(answer.Body).Decode(&status) // as good as it gets
	return nil, fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, status.Message)
}

// object is one of Kubernetes', as far as it has to be known to find it.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
}

// path is where the API server has the object. The plural of every kind used here
// ends with an s.
func (o object) path() string {
	root := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		root = "/api/" + o.APIVersion
	}
	if o.Metadata.Namespace != "" {
		root += "/namespaces/" + o.Metadata.Namespace
	}
	return root + "/" + strings.ToLower(o.Kind) + "s/" + o.Metadata.Name
}

// documents splits a file of manifests.
func documents(manifests string) []string {
	return strings.Split(manifests, "\n---\n")
}

// apply brings manifests into the cluster. A field that the API server does not know
// is an error.
func (c *cluster) apply(ctx context.Context, manifests string, query url.Values) error {
	for _, document := range documents(manifests) {
		var o object
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			return err
		}
		if o == (object{}) {
			continue // comments before the first
		}
		values := url.Values{"fieldManager": {"test"}, "force": {"true"}, "fieldValidation": {"Strict"}}
		for name := range query {
			values[name] = query[name]
		}
		if err := c.send(ctx, http.MethodPatch, o.path()+"?"+values.Encode(), asApply, []byte(document), nil); err != nil {
			return err
		}
	}
	return nil
}

// applyFile is apply of a file of examples/kubernetes.
func (c *cluster) applyFile(ctx context.Context, name string, change func(string) string) error {
	raw, err := os.ReadFile(filepath.Join(kubernetesExamples, name))
	if err != nil {
		return err
	}
	text := string(raw)
	if change != nil {
		text = change(text)
	}
	return c.apply(ctx, text, nil)
}

// remove deletes what apply brought into the cluster.
func (c *cluster) remove(ctx context.Context, manifests string) error {
	for _, document := range documents(manifests) {
		var o object
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			return err
		}
		if err := c.do(ctx, http.MethodDelete, o.path(), nil, nil); err != nil && !errors.Is(err, errNotFound) {
			return err
		}
	}
	return nil
}

// installCRDs brings the definitions in a directory into the cluster, once, and waits
// until the API server serves them.
func (c *cluster) installCRDs(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no definitions in %s", dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	var installed []object
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		_, text, begins := strings.Cut("\n"+string(raw), "\n---\n")
		if !begins {
			text = string(raw)
		}
		var o object
		require.NoError(t, yaml.Unmarshal([]byte(text), &o))
		if o.Kind != "CustomResourceDefinition" {
			continue
		}
		require.NoError(t, c.apply(t.Context(), text, url.Values{"fieldValidation": {"Ignore"}}))
		installed = append(installed, o)
	}
	require.NotEmpty(t, installed)
	vaulttest.Eventually(t, clusterTimeout, func() error {
		for _, o := range installed {
			if err := c.established(t.Context(), o); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cluster) established(ctx context.Context, definition object) error {
	var found struct {
		Status struct {
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	}
	if err := c.do(ctx, http.MethodGet, definition.path(), nil, &found); err != nil {
		return err
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type == "Established" && condition.Status == "True" {
			return nil
		}
	}
	return fmt.Errorf("%s is not established", definition.Metadata.Name)
}

// condition is one of an object's status.
type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// secret returns the data of a Secret.
func (c *cluster) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	var found struct {
		Data map[string][]byte `json:"data"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/secrets/"+name, nil, &found)
	return found.Data, err
}

// token asks for a token of a service account, as a kubelet or an operator does.
func (c *cluster) token(ctx context.Context, namespace, account string, audiences ...string) (string, error) {
	var token struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	err := c.do(ctx, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{"audiences": audiences, "expirationSeconds": 600},
	}, &token)
	return token.Status.Token, err
}

// watch sends something whenever an object changes, until the context ends.
func (c *cluster) watch(ctx context.Context, collection, name string, changed chan<- struct{}) error {
	query := url.Values{"watch": {"true"}, "fieldSelector": {"metadata.name=" + name}}
	for ctx.Err() == nil {
		stream, err := c.open(ctx, http.MethodGet, collection+"?"+query.Encode(), "", nil)
		if err != nil {
			return err
		}
		events := json.NewDecoder(stream)
		for {
			var event json.RawMessage
			if err := events.Decode(&event); err != nil {
				break // the API server ends a watch after some time
			}
			select {
			case changed <- struct{}{}:
			default: // somebody is told already
			}
		}
		_ = stream.Close()
	}
	return nil
}
