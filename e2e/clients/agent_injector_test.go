// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const (
	// injectorRelease is the release of hashicorp/vault-k8s whose source says what the
	// injector makes of annotations.
	injectorRelease = "1.7.6"
	annotationsRoot = "vault.hashicorp.com/"
	// Where the injector and the example have files in the pod.
	injectedSecrets = "/vault/secrets"
	injectedToken   = "/var/run/secrets/vault.hashicorp.com/serviceaccount/token"
	// How the example ends the connector, and how it starts it.
	endsConnector = "pkill -TERM -x baton-okta || true"
	runsConnector = "/usr/local/bin/baton-okta"
)

// injectorAnnotations are names that the injector knows, and injectorPrefixes those
// that the name of a file or a parameter follows: agent-inject/agent/annotations.go.
var (
	injectorAnnotations = []string{
		"agent-inject", "auth-type", "auth-path", "role", "agent-service-account-token-volume-name",
		"agent-share-process-namespace", "agent-run-as-same-user",
	}
	injectorPrefixes = []string{"agent-inject-secret-", "agent-inject-template-", "agent-inject-command-", "auth-config-"}
)

func TestTheInjectorKnowsTheAnnotationsOfItsExample(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(kubernetesExamples, "agent-injector.yaml"))
	require.NoError(t, err)
	example := readInjected(t, string(raw))
	require.Equal(t, "true", example.annotation("agent-inject"))
	for name := range example.annotations() {
		short, ours := strings.CutPrefix(name, annotationsRoot)
		require.True(t, ours, name)
		known := slices.Contains(injectorAnnotations, short) ||
			slices.ContainsFunc(injectorPrefixes, func(prefix string) bool { return strings.HasPrefix(short, prefix) })
		require.True(t, known, "the injector knows no %s", name)
	}
}

// The injector is no Go module, so its part is replayed: the Agent gets the
// configuration that it writes for the example. The Agent is a real one, and so are its
// token and the shell.
func TestTheAgentThatTheInjectorAdds(t *testing.T) {
	follow(t, client{
		name: "Vault Agent Injector", ran: "Agent " + vaultVersion(t) + ", configured as injector " + injectorRelease + " does",
		needs: "[kubernetes](../examples/kubernetes): JWT auth, annotations",
		start: func(s *story) {
			d := s.deploy(kubernetes(s.t), s.credsPath())
			d.apply("agent-injector.yaml")
			raw, err := os.ReadFile(filepath.Join(kubernetesExamples, "agent-injector.yaml"))
			require.NoError(s.t, err)
			example := readInjected(s.t, d.adapt(string(raw)))
			p := &injectedPod{deployed: d, out: filepath.Join(s.dir, "out"), pidFile: filepath.Join(s.dir, "pid")}
			p.startAgent(example)
			p.startConnector(example)
		},
	})
}

// injected is what the example says of its pod.
type injected struct {
	Spec struct {
		Template struct {
			Metadata struct {
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"metadata"`
			Spec struct {
				Containers []struct {
					Command []string `yaml:"command"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

func readInjected(t *testing.T, manifest string) injected {
	t.Helper()
	var example injected
	require.NoError(t, yaml.Unmarshal([]byte(manifest), &example))
	require.Len(t, example.Spec.Template.Spec.Containers, 1)
	return example
}

func (i injected) annotations() map[string]string { return i.Spec.Template.Metadata.Annotations }

func (i injected) annotation(name string) string { return i.annotations()[annotationsRoot+name] }

// injectedPod is the pod: an Agent, and a container that is started again whenever it
// ends.
type injectedPod struct {
	*deployed
	out     string // in the place of /vault/secrets
	pidFile string // of the connector, which the Agent ends
}

// startAgent runs the Agent with what agent-inject/agent/config.go makes of the
// annotations.
func (p *injectedPod) startAgent(example injected) {
	p.t.Helper()
	const file = "okta.env"
	require.NoError(p.t, os.MkdirAll(p.out, 0o700))
	token, err := p.cluster.token(p.t.Context(), p.namespace, "okta", "vault")
	require.NoError(p.t, err)
	tokenFile := p.save("out/token", token)
	login := map[string]any{"role": example.annotation("role"), "token_path": tokenFile} // annotations.go, authConfig
	for name, value := range example.annotations() {
		if parameter, ok := strings.CutPrefix(name, annotationsRoot+"auth-config-"); ok {
			login[strings.ReplaceAll(parameter, "-", "_")] = strings.ReplaceAll(value, injectedToken, tokenFile)
		}
	}
	require.Equal(p.t, tokenFile, login["path"])
	command := example.annotation("agent-inject-command-" + file)
	require.Equal(p.t, endsConnector, command)
	config, err := json.Marshal(map[string]any{
		"exit_after_auth": false, "pid_file": filepath.Join(p.out, ".pid"),
		"vault": map[string]any{"address": p.Addr()},
		"auto_auth": map[string]any{
			"method": map[string]any{
				"type": example.annotation("auth-type"), "mount_path": example.annotation("auth-path"), "config": login,
			},
			"sink": []any{map[string]any{"type": "file", "config": map[string]any{"path": filepath.Join(p.out, ".vault-token")}}},
		},
		"template": []any{map[string]any{
			"contents": example.annotation("agent-inject-template-" + file), "destination": filepath.Join(p.out, file),
			"command":        "kill -TERM $(cat " + p.pidFile + ") || true", // by its ID, not by its name
			"left_delimiter": "{{", "right_delimiter": "}}",
			"error_on_missing_key": false,
		}},
		"template_config": map[string]any{"exit_on_retry_failure": true},
	})
	require.NoError(p.t, err)
	p.save("agent.hcl", string(config))
	p.StartAgent(p.dir)
}

// startConnector runs the container's command once the file is there, and again
// whenever it has ended, until the test ends.
func (p *injectedPod) startConnector(example injected) {
	p.t.Helper()
	command := slices.Clone(example.Spec.Template.Spec.Containers[0].Command)
	last := len(command) - 1
	require.Contains(p.t, command[last], runsConnector)
	for old, replacement := range map[string]string{injectedSecrets: p.out, runsConnector: strings.Join(p.consumerCommand(), " ")} {
		command[last] = strings.ReplaceAll(command[last], old, replacement)
	}
	ctx, stop := context.WithCancel(p.t.Context())
	var running sync.WaitGroup
	p.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	running.Go(func() {
		_ = vaulttest.Poll(100*time.Millisecond, patience, func() error {
			_, err := os.Stat(filepath.Join(p.out, "okta.env"))
			return err
		})
		for ctx.Err() == nil {
			container := exec.CommandContext(ctx, command[0], command[1:]...)
			container.Cancel = func() error { return container.Process.Signal(syscall.SIGTERM) }
			container.WaitDelay = time.Second
			container.Env = []string{"PATH=" + os.Getenv("PATH")}
			if err := container.Start(); err != nil {
				p.t.Errorf("starting the connector: %v", err)
				return
			}
			if err := os.WriteFile(p.pidFile, []byte(strconv.Itoa(container.Process.Pid)), 0o600); err != nil {
				p.t.Errorf("telling the Agent: %v", err)
			}
			_ = container.Wait() // the Agent has ended it
		}
	})
}
