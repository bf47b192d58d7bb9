// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestTwoMountsOfTwoTenantsShareOneProcess(t *testing.T) {
	t.Parallel()
	one := vaulttest.New(t, vaulttest.Options{})
	two := one.Engine("c1-other", c1test.Options{Tenants: []string{"globex"}})
	require.Len(t, one.PluginPIDs(), 1)

	for _, e := range []*vaulttest.Engine{one, two} {
		e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil) // the same name
		vended := e.MustRead("connector-creds/github")
		require.NoError(t, e.Login(vended))
		require.EqualValues(t, 1, integer(t, vended.Data["version"]))
		require.Equal(t, 1, rotations(e))
		requireHealthy(t, e)
	}
	require.Len(t, one.PluginPIDs(), 1)
	of := one.MustRead("connectors/github").Data["fingerprint_sha256"]
	_, err := two.Write("lookup", object{"fingerprint_sha256": of})
	requireRefused(t, err, 404) // one mount knows nothing of the other's

	require.NoError(t, two.Root.Sys().Unmount(two.Mount))
	require.Empty(t, alive(two))
	require.Len(t, alive(one), 1)
	require.Len(t, one.PluginPIDs(), 1)
}

// reload ends the plugin's process and starts another one.
func reload(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	_, err := e.Root.Sys().ReloadPlugin(&api.ReloadPluginInput{Mounts: []string{e.Mount + "/"}})
	require.NoError(t, err)
}

func TestReloadsRotateNothingAndLoseNothing(t *testing.T) {
	t.Parallel()
	const reloads = 50
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	before := e.MustRead("connector-creds/github")
	e.MustWrite("decoy-creds/bait", nil)

	processes := map[int]bool{}
	for range reloads {
		for _, pid := range e.PluginPIDs() {
			processes[pid] = true
		}
		reload(t, e)
		require.Equal(t, "ready", e.MustRead("connectors/github").Data["state"])
	}
	require.Greater(t, len(processes), reloads/2, "each reload started a process")
	require.Len(t, e.PluginPIDs(), 1)
	require.Equal(t, 2, rotations(e), "nothing rotates because a process started")
	require.NoError(t, e.Login(before))

	require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
	revoke(t, e, before)
	require.Len(t, alive(e), 1)
	require.Len(t, e.Records("connectors/github"), 2)
	requireHealthy(t, e)
}

func TestReloadsDuringReadsLoseNoRotation(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	e.Tenant.SetSemantics(c1test.Exclusive)
	const most = 190 // reads, so that history holds them all
	e.Configure(e.Mount, e.Tenant, object{"history_limit": most + 10})
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: 40 * time.Millisecond})

	reading, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	issued, readErrs := 0, []error{}
	wg.Go(func() {
		for reading.Err() == nil && issued+len(readErrs) < most {
			if _, err := e.Read("connector-creds/github"); err != nil {
				readErrs = append(readErrs, err)
			} else {
				issued++
			}
		}
	})
	for range 10 {
		reload(t, e)
	}
	stop()
	wg.Wait()

	last := e.MustRead("connector-creds/github")
	issued++
	require.NoError(t, e.Login(last))
	for _, err := range readErrs {
		t.Logf("a read during a reload: %v", err)
		var answer *api.ResponseError
		require.True(t, errors.As(err, &answer))
	}
	outcomes := map[any]int{}
	for _, r := range e.Records("connectors/github") {
		outcomes[r["outcome"]]++
	}
	require.Equal(t, issued, outcomes["issued"], "outcomes: %v", outcomes)
	require.Equal(t, e.Tenant.Changes(c1test.OpRotateConnector), outcomes["issued"]+outcomes["undelivered"]+outcomes["superseded"],
		"every rotation at C1 is on record: %v", outcomes)
	require.Equal(t, []any{last.Data["credential_id"]}, alive(e))
	requireHealthy(t, e)
}

// The commands are those of docs/operations.md.
func TestAnUpgradeRotatesNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	before := e.MustRead("connector-creds/github")
	vault := func(args ...string) {
		t.Helper()
		_, stderr, code := e.CLI("", args...)
		require.Zero(t, code, stderr)
	}
	command, sum := e.InstallPlugin("v0.2.0-test")
	vault("plugin", "register", "-sha256="+sum, "-command="+command, "-version=v0.2.0-test", "secret", vaulttest.PluginName)
	vault("secrets", "tune", "-plugin-version=v0.2.0-test", e.Mount)
	vault(vaulttest.ServerUnderTest(t).Reload(vaulttest.PluginName)...)

	require.Equal(t, "v0.2.0-test", e.MustRead("status").Data["version"])
	require.Equal(t, 1, rotations(e))
	require.NoError(t, e.Login(before))
	revoke(t, e, before)
	require.Empty(t, alive(e), "the new version ends what the old one vended")

	vault("secrets", "tune", "-plugin-version="+vaulttest.PluginVersion, e.Mount)
	vault(vaulttest.ServerUnderTest(t).Reload(vaulttest.PluginName)...)
	require.Equal(t, vaulttest.PluginVersion, e.MustRead("status").Data["version"])
	require.EqualValues(t, 2, integer(t, e.MustRead("connector-creds/github").Data["version"]))
}

func TestARestartOnRaftKeepsBindingsHistoryAndLeases(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]func(*vaulttest.Engine){
		"stopped": func(e *vaulttest.Engine) { e.Stop(); e.Restart() },
		"killed":  func(e *vaulttest.Engine) { e.Kill(); e.Restart() },
		"stepped down": func(e *vaulttest.Engine) {
			plugin := e.PluginPIDs()[0]
			require.NoError(t, e.Root.Sys().StepDown())
			vaulttest.Eventually(t, time.Minute, func() error {
				if slices.Contains(e.PluginPIDs(), plugin) {
					return errors.New("the plugin still runs")
				}
				return nil
			})
			e.Ready()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
			bindExamples(e)
			first := e.MustRead("connector-creds/github")
			second := e.MustRead("connector-creds/github")
			bait := e.MustWrite("decoy-creds/bait", object{"placement": "web-1"})
			shown := map[string]any{}
			paths := []string{"config", "connectors/github", "connectors/github/history", "decoys/bait", "decoys/bait/history"}
			for _, path := range paths {
				shown[path] = e.MustRead(path).Data
			}

			restart(e)

			for _, path := range paths {
				require.Equal(t, shown[path], e.MustRead(path).Data, path)
			}
			require.Equal(t, 3, rotations(e), "nothing rotates because a process started")
			requireHealthy(t, e)
			found := e.MustWrite("lookup", object{"fingerprint_sha256": bait.Data["fingerprint_sha256"]}).Data
			require.Equal(t, "web-1", found["placement"])

			revoke(t, e, first)
			require.Equal(t, []any{second.Data["credential_id"]}, alive(e))
			_, err := e.Root.Sys().Renew(second.LeaseID, 120)
			require.NoError(t, err)
			require.EqualValues(t, 3, integer(t, e.MustRead("connector-creds/github").Data["version"]))
			require.Equal(t, 4, rotations(e))
		})
	}
}

func TestALeaseThatRanOutWhileVaultWasDownEndsAtItsReturn(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"ttl": "3s"})
	vended := e.MustRead("connector-creds/github")
	e.Kill()
	ranOut := time.Now().Add(4 * time.Second)
	vaulttest.Eventually(t, 10*time.Second, func() error {
		if time.Now().Before(ranOut) {
			return errors.New("the lease still runs")
		}
		return nil
	})
	require.NoError(t, e.Login(vended), "nobody was there to end it")

	e.Restart()
	vaulttest.Eventually(t, time.Minute, func() error {
		if e.Login(vended) == nil {
			return errors.New("it outlives its lease")
		}
		return nil
	})
	requireHealthy(t, e)
	require.Equal(t, 1, rotations(e))
}
