// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const (
	// rereads is how long after the ttl of its last answer an Agent has rendered
	// anew: it asks a second after, and then needs a moment.
	rereads = 2 * time.Second
	// overdueRefetch is the longest ttl of an answer while a rotation is overdue
	// or under way.
	overdueRefetch = 30 * time.Second
)

func TestFiveVaultAgentsFollowOneScheduledBinding(t *testing.T) {
	t.Parallel()
	const agents = 5
	// A server of its own: its audit log says what each Agent was told.
	e := vaulttest.New(t, vaulttest.Options{})
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": shortestPeriod})
	require.Equal(t, 1, rotations(e))

	newDirectory := agentsOf(t, e, "agent-schedule", "c1-fleet")
	files := map[string]int{} // the version that each file was last seen to hold
	for range agents {
		dir := newDirectory()
		e.StartAgent(dir)
		files[filepath.Join(dir, "out", "connector.env")] = 0
	}
	rendered := func(version int, until time.Time) {
		t.Helper()
		vaulttest.Eventually(t, time.Until(until), func() error {
			behind := 0
			for file := range files {
				if err := follow(t, e, file, files); err != nil {
					return err
				}
				if files[file] < version {
					behind++
				}
			}
			if behind > 0 {
				return fmt.Errorf("%d of %d Agents have not rendered version %d", behind, agents, version)
			}
			return nil
		})
	}
	rendered(1, time.Now().Add(30*time.Second))

	// A rotation by the clock.
	due := parseTime(t, e.MustRead("connectors/okta").Data["next_rotation"])
	eventuallyWithin(t, time.Until(due)+begins+requestTimeout, func() error {
		if n := rotations(e); n < 2 {
			return fmt.Errorf("%d rotation(s)", n)
		}
		return nil
	})
	rendered(2, time.Now().Add(overdueRefetch+rereads))
	for file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		t.Logf("rendered %s after it was due", info.ModTime().Sub(due).Round(10*time.Millisecond))
	}
	// And one that the Agents were not told of: they follow when they come back.
	const before = 15 * time.Second
	until(parseTime(t, e.MustRead("connectors/okta").Data["next_rotation"]).Add(-before))
	command(t, e, "write", "-f", e.Path("connectors/okta/rotate"))
	rendered(3, time.Now().Add(before+time.Second+rereads)) // the ttl is in whole seconds, rounded up

	require.Equal(t, 3, rotations(e), "no Agent rotates anything")
	require.Equal(t, "schedule", e.Records("connectors/okta")[1]["reason"])
	current := e.MustRead("connector-creds/okta")
	for file, version := range files {
		require.Equal(t, number(current.Data["version"]), version)
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	requireRereadInTime(t, e, agents)
	requireHealthy(t, e)

	// The example's policy lets them do no more than that.
	token := tokenFor(t, e.Server, e.Mount+"-like-an-agent", examplePolicy(t, e, "agent-schedule/policy.hcl"))
	_, _, code := e.CLIAs(token, "", "write", "-f", e.Path("connector-creds/okta"))
	require.NotZero(t, code)
	require.Equal(t, 3, rotations(e))
}

func TestAVaultAgentFollowsARotationByHandWithinTheRefreshInterval(t *testing.T) {
	t.Parallel()
	const interval = 5 * time.Second
	e := vaulttest.OnShared(t)
	bindScheduled(e, "okta", e.Tenant.Connector(), object{"rotation_period": "24h", "refresh_interval": interval.String()})
	dir := agentsOf(t, e, "agent-schedule", "c1-refresh")()
	e.StartAgent(dir)
	file := filepath.Join(dir, "out", "connector.env")
	files := map[string]int{}
	rendered := func(version int, timeout time.Duration) {
		t.Helper()
		eventuallyWithin(t, timeout, func() error {
			if err := follow(t, e, file, files); err != nil {
				return err
			}
			if files[file] < version {
				return fmt.Errorf("version %d", files[file])
			}
			return nil
		})
	}
	rendered(1, 30*time.Second)
	for version := 2; version <= 3; version++ {
		e.MustWrite("connectors/okta/rotate", nil)
		rendered(version, interval+time.Second+rereads)
	}
	require.Equal(t, 3, rotations(e))
	requireHealthy(t, e)
}

// follow reads a rendered file: it is whole, never goes back, and what it holds
// is what C1 knows.
func follow(t *testing.T, e *vaulttest.Engine, file string, versions map[string]int) error {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var version int
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	require.Len(t, lines, 3, "a file is rendered whole or not at all")
	_, err = fmt.Sscanf(lines[0], "# Version %d,", &version)
	require.NoError(t, err)
	require.GreaterOrEqual(t, version, versions[file])
	if version == versions[file] {
		return nil
	}
	id, isID := strings.CutPrefix(lines[1], "BATON_CLIENT_ID=")
	secret, isSecret := strings.CutPrefix(lines[2], "BATON_CLIENT_SECRET=")
	require.True(t, isID && isSecret)
	if err := login(t, e, id, secret); err != nil {
		return errors.Join(errors.New("what was rendered is dead"), err)
	}
	versions[file] = version
	return nil
}

// requireRereadInTime says, by the audit log, that each Agent came back within
// its ttl, so that it had the new version that long after a rotation at most.
func requireRereadInTime(t *testing.T, e *vaulttest.Engine, agents int) {
	t.Helper()
	type answer struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		Auth struct {
			Accessor string `json:"accessor"`
			Policies []string
		} `json:"auth"`
		Request struct {
			Operation string `json:"operation"`
			Path      string `json:"path"`
		} `json:"request"`
		Response struct {
			Data struct {
				TTL int `json:"ttl"`
			} `json:"data"`
		} `json:"response"`
	}
	last := map[string]answer{}
	slowest := time.Duration(0)
	reads := 0
	for line := range strings.Lines(e.AuditLog()) {
		var a answer
		if !strings.Contains(line, e.Mount+"-agent") || json.Unmarshal([]byte(line), &a) != nil ||
			a.Type != "response" || a.Request.Path != e.Path("connector-creds/okta") {
			continue
		}
		require.Equal(t, "read", a.Request.Operation)
		require.Positive(t, a.Response.Data.TTL)
		reads++
		if before, ok := last[a.Auth.Accessor]; ok {
			late := a.Time.Sub(before.Time) - time.Duration(before.Response.Data.TTL)*time.Second
			require.LessOrEqual(t, late, rereads, "an Agent was told ttl=%d", before.Response.Data.TTL)
			slowest = max(slowest, late)
		}
		last[a.Auth.Accessor] = a
	}
	require.Len(t, last, agents)
	t.Logf("%d reads; at most %s after the ttl of the one before", reads, slowest.Round(10*time.Millisecond))
}
