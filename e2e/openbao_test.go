// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const openBaoGuide = "../docs/openbao.md"

// TestTheCommandsThatDifferDo runs the column of the table that is meant for the server
// at hand.
func TestTheCommandsThatDifferDo(t *testing.T) {
	t.Parallel()
	e := vaulttest.New(t, vaulttest.Options{})
	bindExamples(e)
	rows := regexp.MustCompile("(?m)^\\| ([^|`]+) \\| (`vault [^|]+`) \\| (`bao [^|]+`) \\|$").FindAllStringSubmatch(sectionOf(t, openBaoGuide, "Commands"), -1)
	require.Len(t, rows, 2)
	for _, row := range rows {
		cell := row[2]
		if vaulttest.ServerUnderTest(t).IsOpenBao() {
			cell = row[3]
		}
		command := strings.NewReplacer("`", "", "/var/log/", t.TempDir()+"/").Replace(cell)
		out, err := e.Shell(t.TempDir(), command)
		require.NoError(t, err, "%s\n%s", command, out)
	}
	require.Zero(t, rotations(e))
}

// TestAServerThatDeclaresThePluginAndItsAuditDeviceUpgradesIt runs the configuration
// and the commands of the guide.
func TestAServerThatDeclaresThePluginAndItsAuditDeviceUpgradesIt(t *testing.T) {
	t.Parallel()
	vaulttest.OpenBaoOnly(t, "Vault's configuration declares no plugins and no audit devices")
	const heading = "Declare the plugin in the server's configuration"
	declared := blocksBelow(t, openBaoGuide, heading, "hcl", 2)
	commands := blocksBelow(t, openBaoGuide, heading, "", 2)
	inPlace := func(text, sum, dir string) string {
		return strings.NewReplacer(
			`"v0.1.0"`, `"`+vaulttest.PluginVersion+`"`, `"v0.2.0"`, `"v0.2.0-test"`, "-v0.2.0\"", "-v0.2.0-test\"", "=v0.2.0", "=v0.2.0-test",
			`"…"`, `"`+sum+`"`, "/var/log/openbao", dir, "/run/openbao", dir, "/etc/openbao/plugins", filepath.Join(dir, "plugins"),
		).Replace(text)
	}
	s := vaulttest.Start(t, vaulttest.Options{Config: func(dir, sum string) string {
		text := inPlace(declared[0], sum, dir)
		before, after, found := strings.Cut(text, "plugin_directory")
		require.True(t, found)
		_, after, _ = strings.Cut(after, "\n") // the tests' configuration has one
		return before + after
	}})
	shell := func(commands string) string {
		t.Helper()
		out, err := s.Shell(s.Dir(), inPlace(commands, "", s.Dir()))
		s.Collect("what the commands of the guide printed", []byte(out))
		require.NoError(t, err, out)
		return out
	}
	shell(commands[0])
	emulator := s.Emulator(c1test.Options{})
	s.Configure("c1", emulator.Default(), nil)
	e := &vaulttest.Engine{Server: s, Mount: "c1", Emulator: emulator, Tenant: emulator.Default()}
	bindExamples(e)
	bindScheduled(e, "okta", e.Tenant.NewConnector("okta"), object{"rotation_period": "24h"})
	before := e.MustRead("connector-creds/github")
	require.Equal(t, vaulttest.PluginVersion, e.MustRead("status").Data["version"])
	require.Contains(t, s.AuditLog(), `"path":"c1/connector-creds/github"`)
	_, stderr, code := s.CLI("", "audit", "enable", "-path=another", "file", "file_path="+filepath.Join(s.Dir(), "another.log"))
	require.NotZero(t, code, "the guide says that it is refused")
	require.Contains(t, stderr, "audit")

	command, sum := s.InstallPlugin("v0.2.0-test")
	require.Contains(t, inPlace(declared[1], sum, s.Dir()), `"`+command+`"`)
	s.AppendConfig(inPlace(declared[1], sum, s.Dir()))
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir(), "openbao.pid"), []byte(strconv.Itoa(s.PID())), 0o600))
	reload, upgrade, found := strings.Cut(commands[1], "\n")
	require.True(t, found)
	shell(reload)
	vaulttest.Eventually(t, time.Minute, func() error {
		if stdout, _, _ := s.CLI("", "plugin", "list", "-detailed", "secret"); !strings.Contains(stdout, "v0.2.0-test") {
			return errors.New("not registered yet:\n" + stdout)
		}
		return nil
	})
	shell(upgrade)
	require.Equal(t, "v0.2.0-test", e.MustRead("status").Data["version"])
	require.Equal(t, 2, rotations(e), "nothing rotates because it was upgraded")
	require.NoError(t, e.Login(before))
	require.EqualValues(t, 1, integer(t, e.MustRead("connector-creds/okta").Data["version"]))
	revoke(t, e, before)

	// The first block goes, and with it the old version.
	file := filepath.Join(s.Dir(), "vault.hcl")
	config, err := os.ReadFile(file)
	require.NoError(t, err)
	start, rest, found := strings.Cut(string(config), "plugin \"secret\"")
	require.True(t, found)
	_, rest, found = strings.Cut(rest, "\n}\n")
	require.True(t, found)
	require.NoError(t, os.WriteFile(file, []byte(start+rest), 0o600))
	shell(reload)
	vaulttest.Eventually(t, time.Minute, func() error {
		if stdout, _, _ := s.CLI("", "plugin", "list", "-detailed", "secret"); strings.Contains(stdout, vaulttest.PluginVersion) {
			return errors.New("still registered:\n" + stdout)
		}
		return nil
	})
	require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
	requireHealthy(t, e)
	vaulttest.Eventually(t, time.Minute, func() error {
		if !strings.Contains(s.ServerLog(), "could not send an event") {
			return errors.New("the guide says that there are no events")
		}
		return nil
	})
}

func TestAPluginThatWasRegisteredIsNotDeclaredAsWell(t *testing.T) {
	t.Parallel()
	vaulttest.OpenBaoOnly(t, "Vault's configuration declares no plugins")
	var declared string
	s := vaulttest.Start(t, vaulttest.Options{Config: func(_, sum string) string {
		declared = fmt.Sprintf("plugin \"secret\" %q {\n  command = %q\n  version = %q\n  sha256sum = %q\n}\n",
			vaulttest.PluginName, vaulttest.PluginName, vaulttest.PluginVersion, sum)
		return "plugin_auto_register = true\n"
	}})
	s.RegisterPlugin()
	s.AppendConfig(declared)
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	const says = "conflicts with existing non-declarative plugin"
	vaulttest.Eventually(t, time.Minute, func() error {
		if !strings.Contains(s.ServerLog(), says) {
			return errors.New("the log does not say so yet")
		}
		return nil
	})
	guide := sectionOf(t, openBaoGuide, "Declare the plugin in the server's configuration")
	require.Contains(t, guide, "`"+says+"`")
}

// handledBy counts the requests for a path that the plugin of a node has answered.
func handledBy(node *vaulttest.Server, path string) int {
	return strings.Count(node.ServerLog(), "handle request: transport=gRPC path="+path+" status=started")
}

// TestAStandbyAnswersReadsOfScheduledBindings and follows what the active node stores.
func TestAStandbyAnswersReadsOfScheduledBindings(t *testing.T) {
	t.Parallel()
	vaulttest.OpenBaoOnly(t, "only Vault Enterprise reads on standbys")
	active := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	bindScheduled(active, "okta", active.Tenant.Connector(), object{"rotation_period": "24h"})
	active.BindConnector(active.Mount, "github", active.Tenant.NewConnector("GitHub"), nil)
	standby := on(active, active.Join(1)[0])
	const path = "connector-creds/okta"
	vaulttest.Eventually(t, time.Minute, func() error { _, err := standby.Read(path); return err })

	const audited = `"path":"c1/` + path + `"`
	askedActive, askedStandby, inAudit := handledBy(active.Server, path), handledBy(standby.Server, path), strings.Count(active.AuditLog(), audited)
	for range 5 {
		require.EqualValues(t, 1, integer(t, standby.MustRead(path).Data["version"]))
	}
	require.Equal(t, askedActive, handledBy(active.Server, path), "the active node hears nothing of it")
	require.Equal(t, askedStandby+5, handledBy(standby.Server, path))
	require.Equal(t, inAudit+2*5, strings.Count(active.AuditLog(), audited), "the standby's own device wrote it, here into the same file")

	// What changes something is done by the active node, and the standby hears of it.
	for version := 2; version <= 4; version++ {
		standby.MustWrite("connectors/okta/rotate", nil)
		vaulttest.Eventually(t, time.Minute, func() error {
			if got := number(standby.MustRead(path).Data["version"]); got != version {
				return fmt.Errorf("version %d, and not yet %d", got, version)
			}
			return nil
		})
	}
	require.NoError(t, standby.Login(standby.MustRead(path)))
	require.NoError(t, standby.Login(standby.MustRead("connector-creds/github")))
	require.Positive(t, handledBy(active.Server, "connector-creds/github"))
	require.Equal(t, 5, rotations(active))
}

// runs returns the names of the files that a node's plugins run from.
func runs(t *testing.T, node *vaulttest.Server) []string {
	t.Helper()
	var names []string
	for _, pid := range node.PluginPIDs() {
		file, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		require.NoError(t, err)
		names = append(names, filepath.Base(file))
	}
	slices.Sort(names)
	return names
}

// TestAfterAnUpgradeStandbysRunTheOldVersionUntilTheyAreRestarted shows what the guide
// says of it, and that they answer all the while.
func TestAfterAnUpgradeStandbysRunTheOldVersionUntilTheyAreRestarted(t *testing.T) {
	t.Parallel()
	vaulttest.OpenBaoOnly(t, "standbys of Vault run no plugin")
	const version, path = "v0.2.0-test", "connector-creds/okta"
	active := vaulttest.New(t, vaulttest.Options{Storage: vaulttest.Raft})
	bindScheduled(active, "okta", active.Tenant.Connector(), object{"rotation_period": "24h"})
	standbys := active.Join(2)
	answers := func(node *vaulttest.Server) {
		t.Helper()
		vaulttest.Eventually(t, time.Minute, func() error {
			vended, err := on(active, node).Read(path)
			if err == nil && number(vended.Data["version"]) != 1 {
				err = fmt.Errorf("version %v", vended.Data["version"])
			}
			return err
		})
	}
	command, sum := active.InstallPlugin(version)
	for _, standby := range standbys {
		answers(standby)
		standby.InstallPlugin(version)
	}
	for _, args := range [][]string{
		{"plugin", "register", "-sha256=" + sum, "-command=" + command, "-version=" + version, "secret", vaulttest.PluginName},
		{"secrets", "tune", "-plugin-version=" + version, active.Mount},
		vaulttest.ServerUnderTest(t).Reload(vaulttest.PluginName),
	} {
		_, stderr, code := active.CLI("", args...)
		require.Zero(t, code, stderr)
	}
	require.Equal(t, []string{command}, runs(t, active.Server))
	for _, standby := range standbys {
		answers(standby)
		require.Equal(t, []string{vaulttest.PluginName}, runs(t, standby))
		standby.Stop()
		standby.Return()
		answers(standby)
		require.Equal(t, []string{command}, runs(t, standby))
	}

	// A standby that was told so answers nothing itself.
	told := standbys[0]
	told.Stop()
	told.AppendConfig("disable_standby_reads = true")
	told.Return()
	asked := handledBy(active.Server, path)
	answers(told)
	require.Equal(t, asked+1, handledBy(active.Server, path))
	require.Empty(t, runs(t, told))

	require.Equal(t, 1, rotations(active))
	requireHealthy(t, active)
}
