// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// What a start must not cost: a rotation of what is not due. The bindings are
// many, so that a scheduler which looks at all of them would show.
//
// It does not run beside other tests: they would starve.
func TestAThousandScheduledBindingsRotateNothingWhenAProcessStarts(t *testing.T) {
	const (
		bindings = 1000
		rotated  = 200 // with material; the rest wait for their first rotation
	)
	e := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	began := time.Now()
	require.NoError(t, inParallel(8, bindings, func(i int) error {
		// The connectors are C1's, so these are seen by it too.
		ref := e.Tenant.NewConnector(fmt.Sprintf("Connector %d", i))
		_, err := e.Write(fmt.Sprintf("connectors/c%04d", i), scheduled(object{
			"app_id": ref.AppID, "connector_id": ref.ConnectorID, "rotation_period": "24h",
			"verify": false, "skip_initial_rotation": i >= rotated,
		}))
		return err
	}))
	require.Equal(t, rotated, rotations(e))
	t.Logf("%d bindings made in %s", bindings, time.Since(began).Round(time.Second))
	before := e.MustRead("connector-creds/c0000")
	planned := e.MustRead("connectors/c0999").Data["next_rotation"]

	vault := func(args ...string) {
		t.Helper()
		_, stderr, code := e.CLI("", args...)
		require.Zero(t, code, stderr)
	}
	for _, start := range []struct {
		name string
		do   func()
	}{
		{"stopped and started", func() { e.Stop(); e.Restart() }},
		{"killed and started", func() { e.Kill(); e.Restart() }},
		{"sealed and unsealed", func() {
			require.NoError(t, e.Root.Sys().Seal())
			e.Unseal()
		}},
		{"plugin killed", func() { e.KillPlugin(t) }},
		{"plugin reloaded", func() { reload(t, e) }},
		{"plugin upgraded", func() {
			command, sum := e.InstallPlugin("v0.2.0-test")
			vault("plugin", "register", "-sha256="+sum, "-command="+command, "-version=v0.2.0-test", "secret", vaulttest.PluginName)
			vault("secrets", "tune", "-plugin-version=v0.2.0-test", e.Mount)
			vault(vaulttest.ServerUnderTest(t).Reload(vaulttest.PluginName)...)
			require.Equal(t, "v0.2.0-test", e.MustRead("status").Data["version"])
		}},
		{"plugin downgraded", func() {
			vault("secrets", "tune", "-plugin-version="+vaulttest.PluginVersion, e.Mount)
			vault(vaulttest.ServerUnderTest(t).Reload(vaulttest.PluginName)...)
		}},
	} {
		began := time.Now()
		start.do()
		// Whatever starts begins its work within seconds: wait until it answers,
		// and then for longer than it may take to begin.
		vaulttest.Eventually(t, 20*time.Second, func() error {
			_, err := e.Read("connectors/c0000")
			return err
		})
		t.Logf("%s: back after %s", start.name, time.Since(began).Round(100*time.Millisecond))
		until(time.Now().Add(3 * time.Second))
		require.Equal(t, rotated, rotations(e), start.name)
		after := e.MustRead("connector-creds/c0000")
		require.Equal(t, without(before.Data, "ttl"), without(after.Data, "ttl"), start.name)
		require.Equal(t, planned, e.MustRead("connectors/c0999").Data["next_rotation"], start.name)
		_, err := e.Read("connector-creds/c0999")
		requireRefused(t, err, http.StatusBadRequest, "no material yet")
	}
	require.NoError(t, e.Login(before))

	// It is no proof that nothing happens if nothing can: the scheduler lives.
	ref := e.Tenant.NewConnector("Due soon")
	bindScheduled(e, "soon", ref, object{"rotation_schedule": "* * * * *", "skip_initial_rotation": true})
	due := parseTime(t, e.MustRead("connectors/soon").Data["next_rotation"])
	eventuallyWithin(t, time.Until(due)+begins+requestTimeout, func() error {
		if number(e.MustRead("connectors/soon").Data["version"]) == 0 {
			return fmt.Errorf("it has not rotated yet")
		}
		return nil
	})
	require.Equal(t, rotated+1, e.Tenant.Changes(c1test.OpRotateConnector), "and the thousand did not, in the minute that was looked at")
	status := e.MustRead("status").Data
	require.EqualValues(t, bindings+1, integer(t, status["bindings"]))
	require.Zero(t, integer(t, status["overdue"]))
	requireHealthy(t, e)
}
