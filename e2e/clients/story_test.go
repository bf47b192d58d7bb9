// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	// What the binding of a story is set to. The period is the shortest there is.
	rotationPeriod  = 60 * time.Second
	gracePeriod     = 90 * time.Second
	refreshInterval = 15 * time.Second
	// byClock is how many rotations by the clock a story has; one by hand follows.
	byClock = 3
	// patience is how long a client may take for what follows a rotation.
	patience = 2*rotationPeriod + time.Minute
	// tokenTTL is how long C1's access tokens live: shorter than at C1, so that a
	// consumer comes to need its credential again.
	tokenTTL = 20 * time.Second
)

// client is a program that follows a scheduled binding, as a row of docs/clients.md
// tells of it.
type client struct {
	name  string // as its makers call it, and the part of it that is used
	ran   string // its version, or what stood in for it
	needs string // what it takes to set up, in a few words
	// options are those of the mount, which say for KV clients that it has version 2.
	options map[string]string
	// start starts it, and whatever it takes. It runs until the test ends.
	start func(*story)
}

// story is one client and one binding, connectors/okta, under one of C1's semantics.
// What the client delivers goes to a consumer: a stand-in for a baton-* connector.
type story struct {
	*vaulttest.Engine
	t         *testing.T
	semantics c1test.Semantics
	connector c1test.ConnectorRef
	dir       string // for the client's files; all of them are searched for secrets
	program   string
	report    string

	mu       sync.Mutex
	consumer *exec.Cmd // that Deliver has started
}

// follow plays the story under both semantics, and adds a row to the table.
func follow(t *testing.T, c client) {
	t.Parallel()
	found := row{client: c}
	t.Run("follows", func(t *testing.T) {
		for semantics, figures := range map[c1test.Semantics]*figures{c1test.Overlapping: &found.overlapping, c1test.Exclusive: &found.exclusive} {
			t.Run(string(semantics), func(t *testing.T) {
				t.Parallel()
				*figures = newStory(t, c, semantics).play(c)
				t.Logf("%s, %s: %s", c.name, semantics, figures)
			})
		}
	})
	if !t.Failed() {
		table.add(found)
	}
}

var mounts atomic.Int64

// newStory binds okta on a mount of its own: its first version is there.
func newStory(t *testing.T, c client, semantics c1test.Semantics) *story {
	t.Helper()
	server := vaulttest.Shared
	if c.options != nil { // which restarts the plugin
		server = func(t testing.TB) *vaulttest.Server {
			s := vaulttest.Start(t, vaulttest.Options{})
			s.RegisterPlugin()
			return s
		}
	}
	e := server(t).Engine(fmt.Sprintf("c1-%d", mounts.Add(1)), c1test.Options{Semantics: semantics, TokenTTL: tokenTTL})
	if c.options != nil {
		require.NoError(t, e.Root.Sys().TuneMountAllowNil(e.Mount, api.TuneMountConfigInput{Options: &c.options}))
	}
	s := &story{
		Engine: e, t: t, semantics: semantics, connector: e.Tenant.Connector(),
		dir: t.TempDir(), program: consumerProgram(t),
	}
	s.report = filepath.Join(s.dir, "report.jsonl")
	require.NoError(t, os.WriteFile(s.caFile(), []byte(e.Emulator.CACertPEM()), 0o600))
	s.BindConnector(s.Mount, "okta", s.connector, map[string]any{
		"rotate_on": "schedule", "rotation_period": rotationPeriod.String(), "grace_period": gracePeriod.String(),
		"refresh_interval": refreshInterval.String(), "keys_preset": "baton",
	})
	s.eventually("the first version", func() error {
		_, err := s.Read(s.credsPath())
		return err
	})
	t.Cleanup(s.stopConsumer)
	t.Cleanup(func() { s.collectFiles() })
	return s
}

// credsPath is where the binding's material is read, below the mount.
func (s *story) credsPath() string { return "connector-creds/okta" }

func (s *story) caFile() string { return filepath.Join(s.dir, "c1-ca.pem") }

// consumerCommand is the command line of the consumer, for a client that starts it.
// Its credential is in BATON_CLIENT_ID and BATON_CLIENT_SECRET.
func (s *story) consumerCommand() []string {
	return []string{s.program, "-url", s.Tenant.URL(), "-ca-file", s.caFile(), "-report", s.report}
}

// deliver starts the consumer with a credential, for a client that starts nothing
// itself: one that runs already is stopped before.
func (s *story) deliver(clientID, clientSecret string) {
	s.t.Helper()
	s.stopConsumer()
	command := s.consumerCommand()
	//nolint:noctx // ended by stopConsumer
	consumer := exec.Command(command[0], command[1:]...)
	consumer.Env = []string{"BATON_CLIENT_ID=" + clientID, "BATON_CLIENT_SECRET=" + clientSecret}
	vaulttest.EndWithUs(consumer)
	require.NoError(s.t, consumer.Start())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumer = consumer
}

func (s *story) stopConsumer() {
	s.mu.Lock()
	consumer := s.consumer
	s.consumer = nil
	s.mu.Unlock()
	if consumer != nil {
		_ = consumer.Process.Signal(syscall.SIGTERM)
		_ = consumer.Wait()
	}
}

// policy lets a client read paths below the mount and do nothing else, and returns
// its name.
func (s *story) policy(paths ...string) string {
	s.t.Helper()
	var rules strings.Builder
	for _, path := range paths {
		_, _ = fmt.Fprintf(&rules, "path %q { capabilities = [\"read\"] }\n", s.Path(path))
	}
	name := s.Mount + "-client"
	require.NoError(s.t, s.Root.Sys().PutPolicy(name, rules.String()))
	return name
}

// token is for a client that is given one: it may read paths below the mount.
func (s *story) token(paths ...string) string {
	s.t.Helper()
	secret, err := s.Root.Auth().Token().Create(&api.TokenCreateRequest{
		Policies: []string{s.policy(paths...)}, Period: "1h", NoParent: true,
	})
	require.NoError(s.t, err)
	return secret.Auth.ClientToken
}

// approle enables AppRole for a client with a policy of its own, writes role-id and
// secret-id into the story's directory, and returns the path of the auth mount.
func (s *story) approle(paths ...string) (mount string) {
	s.t.Helper()
	mount = s.Mount + "-approle"
	require.NoError(s.t, s.Root.Sys().EnableAuthWithOptions(mount, &api.EnableAuthOptions{Type: "approle"}))
	role := "auth/" + mount + "/role/client"
	_, err := s.Root.Logical().Write(role, map[string]any{"token_policies": s.policy(paths...), "token_period": "1h"})
	require.NoError(s.t, err)
	id, err := s.Root.Logical().Read(role + "/role-id")
	require.NoError(s.t, err)
	secret, err := s.Root.Logical().Write(role+"/secret-id", nil)
	require.NoError(s.t, err)
	s.save("role-id", id.Data["role_id"].(string))
	s.save("secret-id", secret.Data["secret_id"].(string))
	return "auth/" + mount
}

// save writes a file of the client's, and returns its path.
func (s *story) save(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// collectFiles has the client's files searched for secrets, but for those whose
// purpose is to hold them.
func (s *story) collectFiles() {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(s.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(s.dir, "out")) {
			return err
		}
		content, err := os.ReadFile(path)
		s.Collect(path, content)
		return err
	}))
}

// play starts the client and rotates, and returns what came of it.
func (s *story) play(c client) figures {
	s.t.Helper()
	c.start(s)
	s.consumerHas(1)
	for version := 2; version <= byClock+1; version++ {
		s.consumerHas(version)
	}
	s.MustWrite("connectors/okta/rotate", nil)
	s.consumerHas(byClock + 2)
	return s.measure()
}

// consumerHas waits until a version was minted and the consumer has logged in with it.
func (s *story) consumerHas(version int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("version %d", version), func() error {
		minted := s.minted()
		if len(minted) < version {
			return fmt.Errorf("C1 has minted %d of %d", len(minted), version)
		}
		want := minted[version-1].Fingerprint
		lines, err := s.reported()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(lines, func(l line) bool { return l.Fingerprint == want && l.Said == "logged in" }) {
			return errors.New("the consumer has not logged in with it")
		}
		return nil
	})
}

// eventually retries until there is no error.
func (s *story) eventually(what string, try func() error) {
	s.t.Helper()
	if err := vaulttest.Poll(100*time.Millisecond, patience, try); err != nil {
		s.t.Fatalf("%s, within %s: %v", what, patience, err)
	}
}

// minted are the rotations of the connector at C1, in order.
func (s *story) minted() []c1test.Entry {
	return slices.DeleteFunc(s.Tenant.Journal(), func(entry c1test.Entry) bool {
		return entry.Op != c1test.OpRotateConnector || entry.Object != s.connector.ConnectorID
	})
}

// line is one of the consumer's report.
type line struct {
	Time        time.Time `json:"time"`
	PID         int       `json:"pid"`
	Fingerprint string    `json:"fingerprint_sha256"`
	Said        string    `json:"said"`
}

func (s *story) reported() ([]line, error) {
	raw, err := os.ReadFile(s.report)
	if err != nil {
		return nil, err
	}
	var lines []line
	for text := range strings.Lines(string(raw)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return nil, err // half of it, so far
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// consumerProgram builds the consumer, once per process.
func consumerProgram(t *testing.T) string {
	t.Helper()
	program, err := buildConsumer()
	require.NoError(t, err)
	return program
}

var buildConsumer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "c1-consumer-")
	if err != nil {
		return "", err
	}
	vaulttest.OnExit(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "connector")
	cmd := exec.Command("go", "build", "-o", program, "./connector")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the consumer: %w\n%s", err, out)
	}
	return program, nil
})
