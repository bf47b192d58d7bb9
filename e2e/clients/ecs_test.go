// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const ecsExample = "../../examples/ecs"

func TestVaultAgentInAnECSTask(t *testing.T) {
	follow(t, client{
		name: "Vault Agent in an ECS task, process supervisor", ran: vaultVersion(t) + "; its login by AppRole",
		needs: "[ecs](../examples/ecs): AWS's task role, an image, a task definition",
		start: func(s *story) {
			config := regexp.MustCompile(`(?s)method "aws" \{.*?\n  \}`).ReplaceAllLiteralString(s.example("ecs/agent.hcl"), `method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false
    }
  }`)
			config = s.replace(s.withAppRole(config), exampleConnector, s.quotedCommand())
			s.save("c1/agent.hcl", config)
			command := entrypoint(s.t)
			require.Equal(s.t, []string{"/bin/vault", "agent", "-config=/etc/c1/agent.hcl"}, command)
			s.StartProgram("the Agent", s.dir, nil, vaultBinary(s.t), "agent", "-config=c1/agent.hcl", "-log-level=trace")
			s.requireOneConsumer()
		},
	})
}

// entrypoint is that of the example's image, whose files are checked on the way.
func entrypoint(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(ecsExample, "Dockerfile"))
	require.NoError(t, err)
	var command []string
	for line := range strings.Lines(string(raw)) {
		switch fields := strings.Fields(line); {
		case len(fields) == 0:
		case fields[0] == "COPY" && !strings.HasPrefix(fields[1], "--from="):
			require.FileExists(t, filepath.Join(ecsExample, fields[1]))
		case fields[0] == "ENTRYPOINT":
			require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "ENTRYPOINT ")), &command))
		}
	}
	require.Contains(t, string(raw), "COPY agent.hcl /etc/c1/agent.hcl\n")
	return command
}

// The SDK's own type has every field, and sends the same document again: a name that
// it does not know, or knows in another spelling, would be missing in that.
func TestECSTakesTheTaskDefinition(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(ecsExample, "task-definition.json"))
	require.NoError(t, err)
	var input ecs.RegisterTaskDefinitionInput
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&input))

	var sent []byte
	client := ecs.New(ecs.Options{
		Region: "eu-central-1", RetryMaxAttempts: 1,
		Credentials: aws.AnonymousCredentials{},
		HTTPClient: answering(func(rq *http.Request) string {
			sent, err = io.ReadAll(rq.Body)
			require.NoError(t, err)
			return "{}"
		}),
	})
	_, err = client.RegisterTaskDefinition(t.Context(), &input)
	require.NoError(t, err)
	require.JSONEq(t, string(raw), string(sent))

	require.Contains(t, types.NetworkModeAwsvpc.Values(), input.NetworkMode)
	for _, one := range input.RequiresCompatibilities {
		require.Contains(t, one.Values(), one)
	}
	require.Len(t, input.ContainerDefinitions, 1)
	container := input.ContainerDefinitions[0]
	require.Contains(t, container.LogConfiguration.LogDriver.Values(), container.LogConfiguration.LogDriver)
	require.True(t, *container.Essential, "the task has to end with the Agent")
	require.Empty(t, container.EntryPoint, "it is the image's")
	require.Greater(t, time.Duration(*container.StopTimeout)*time.Second, 30*time.Second, "which the Agent gives the connector to stop")
	require.False(t, slices.ContainsFunc(container.Environment, func(pair types.KeyValuePair) bool {
		return strings.Contains(*pair.Name, "SECRET") || strings.Contains(*pair.Name, "TOKEN")
	}), "a task definition is no place for secrets")
}

// answering is an HTTP client that answers without a server.
type answering func(*http.Request) string

func (a answering) Do(rq *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(a(rq))), Request: rq}, nil
}

// The configuration as it stands, and a Vault that knows AWS's method: it is asked for
// a login of the role with a request that was signed for it.
func TestTheAgentOfTheECSTaskLogsInWithTheTasksRole(t *testing.T) {
	t.Parallel()
	asked := make(chan map[string]any, 10)
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body map[string]any
		if r.URL.Path == "/v1/auth/aws/login" && json.Unmarshal(raw, &body) == nil {
			asked <- body
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(vault.Close)
	s := vaulttest.Shared(t)
	s.StartProgram("the Agent", t.TempDir(), []string{
		"VAULT_ADDR=" + vault.URL, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=example",
	}, vaultBinary(t), "agent", "-config="+absolute(t, filepath.Join(ecsExample, "agent.hcl")))

	select {
	case body := <-asked:
		require.Equal(t, "c1-okta", body["role"])
		require.Equal(t, http.MethodPost, body["iam_http_request_method"])
		encoded, _ := body["iam_request_headers"].(string)
		headers, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		var signed http.Header
		require.NoError(t, json.Unmarshal(headers, &signed))
		require.Equal(t, []string{"vault.example.com"}, signed["X-Vault-Aws-Iam-Server-Id"])
		require.Contains(t, signed.Get("Authorization"), "x-vault-aws-iam-server-id", "the header is signed")
	case <-time.After(time.Minute):
		t.Fatal("the Agent did not log in")
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	found, err := filepath.Abs(path)
	require.NoError(t, err)
	return found
}
