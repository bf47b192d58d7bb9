// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const (
	// restarts is how long after its read of a new credential an Agent has
	// restarted its child: it waits for two seconds whether more changes come.
	restarts = 10 * time.Second
	// exampleConnector is what examples/agent-exec runs.
	exampleConnector = `"/usr/local/bin/baton-okta"`
)

func TestAProcessSupervisorRestartsTheConnectorAfterARotation(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": shortestPeriod, "grace_period": "10m"})
	dir := agentsOf(t, e, "agent-exec", "c1-exec")()
	report := superviseConnector(t, e, dir)
	e.StartAgent(dir)

	first := eventuallyReported(t, report, 1, restarts+rereads)[0]
	require.Equal(t, "logged in", first.Said)
	require.Equal(t, e.Tenant.AliveCredentials(e.Tenant.Connector())[0].ClientID, first.ClientID)
	requireSecretOnlyInEnvironment(t, e, first.PID)

	due := parseTime(t, e.MustRead("connectors/okta").Data["next_rotation"])
	lines := eventuallyReported(t, report, 3, time.Until(due)+begins+requestTimeout+overdueRefetch+rereads+restarts)
	require.Equal(t, reported{PID: first.PID, ClientID: first.ClientID, Said: "stopped"}, lines[1])
	second := lines[2]
	require.Equal(t, "logged in", second.Said)
	require.NotEqual(t, first.PID, second.PID)
	requireSecretOnlyInEnvironment(t, e, second.PID)

	alive := e.Tenant.AliveCredentials(e.Tenant.Connector())
	require.Len(t, alive, 2, "the previous credential lives through its grace period")
	require.Equal(t, first.ClientID, alive[0].ClientID)
	require.Equal(t, second.ClientID, alive[1].ClientID)
	require.Equal(t, 2, rotations(e), "the Agent rotates nothing")
	collectFiles(t, e, dir)
	requireHealthy(t, e)
}

// superviseConnector makes a copy of examples/agent-exec run the stand-in for a
// connector, and returns the file that it reports to.
func superviseConnector(t *testing.T, e *vaulttest.Engine, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "connector")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./connector").CombinedOutput()
	require.NoError(t, err, string(out))
	ca := filepath.Join(dir, "c1-ca.pem")
	require.NoError(t, os.WriteFile(ca, []byte(e.Emulator.CACertPEM()), 0o600))
	report := filepath.Join(dir, "report.jsonl")

	config := filepath.Join(dir, "agent.hcl")
	raw, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Contains(t, string(raw), exampleConnector)
	command := []string{program, "-url", e.Tenant.URL(), "-ca-file", ca, "-report", report}
	for i := range command {
		command[i] = strconv.Quote(command[i])
	}
	text := strings.Replace(string(raw), exampleConnector, strings.Join(command, ", "), 1)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	return report
}

// reported is a line of the connector's report.
type reported struct {
	PID      int    `json:"pid"`
	ClientID string `json:"client_id"`
	Said     string `json:"said"`
}

// eventuallyReported waits until the report has so many lines, and returns them.
func eventuallyReported(t *testing.T, report string, want int, timeout time.Duration) []reported {
	t.Helper()
	var lines []reported
	vaulttest.Eventually(t, timeout, func() error {
		raw, err := os.ReadFile(report)
		if err != nil {
			return err
		}
		lines = nil
		for line := range strings.Lines(string(raw)) {
			var r reported
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return err // half of it, so far
			}
			lines = append(lines, r)
		}
		if len(lines) < want {
			return fmt.Errorf("the report has %d of %d lines", len(lines), want)
		}
		return nil
	})
	require.Len(t, lines, want)
	return lines
}

// requireSecretOnlyInEnvironment checks that the connector has its secret where
// it should be, and hands its arguments over to the search for secrets.
func requireSecretOnlyInEnvironment(t *testing.T, e *vaulttest.Engine, pid int) {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	environment, err := os.ReadFile(filepath.Join(proc, "environ"))
	require.NoError(t, err)
	current := text(e.MustRead("connector-creds/okta").Data["client_secret"])
	require.True(t, strings.Contains(string(environment), "BATON_CLIENT_SECRET="+current+"\x00"),
		"the environment should hold the current secret")
	arguments, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	require.NoError(t, err)
	require.NotEmpty(t, arguments)
	e.Collect("the connector's arguments", arguments)
}

// collectFiles hands every file below a directory over to the search for secrets.
func collectFiles(t *testing.T, e *vaulttest.Engine, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		e.Collect(path, content)
		return err
	}))
}
