// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// demoTakes is how long the demo may take: it needs some seconds by itself.
const demoTakes = 90 * time.Second

// makeBuild puts the plugin and the emulator into bin/, as `make demo` does first.
var makeBuild = sync.OnceValue(func() error {
	out, err := exec.Command("make", "-C", "..", "-s", "build").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
})

func TestTheDemoPassesWithTheServerThatItIsGiven(t *testing.T) {
	t.Parallel()
	server := vaulttest.ServerUnderTest(t).Path
	for name, machine := range map[string]struct {
		path, bin string // first on PATH, and VAULT_BIN
		uses      string
	}{
		"VAULT_BIN":       {t.TempDir(), server, server},
		"a vault on PATH": {path: link(t, server, "vault"), uses: "vault"},
		"a bao on PATH":   {path: openBao(t), uses: "bao"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := t.TempDir()
			out, stdout, code := runScript(t, machine.path, "demo.sh", "VAULT_BIN="+machine.bin, "DEMO_LOGS="+logs)
			require.Zero(t, code, out)
			require.Contains(t, out, "Done: every step showed what it should.")
			for _, log := range []string{"audit.log", "vault.log", "c1.log"} {
				require.FileExists(t, filepath.Join(logs, log))
			}
			uses := machine.uses
			if !filepath.IsAbs(uses) {
				uses = filepath.Join(machine.path, uses)
			}
			said := regexp.MustCompile(`Using ` + regexp.QuoteMeta(uses) + ` \((Vault|OpenBao) v[0-9.]+\S*\)`).FindStringSubmatch(out)
			require.NotNil(t, said, out)
			cli := map[string]string{"Vault": "vault", "OpenBao": "bao"}[said[1]]
			require.Contains(t, out, "$ VAULT_TOKEN=$(cat app-token) "+cli+" read c1/connector-creds/github")
			t.Run("it is what docs/demo.svg shows", func(t *testing.T) {
				if cli != "vault" {
					t.Skip("it is recorded with Vault: OpenBao's command line has another name")
				}
				requireRecorded(t, stdout)
			})
		})
	}
}

func TestTheDemoTakesNoServerThatCannotRunIt(t *testing.T) {
	t.Parallel()
	const says = `echo "Vault v1.21.1 (x), built today"`
	for name, unable := range map[string]struct{ script, reason string }{
		"an agent's build": {
			`[ "$1" != version ] || { ` + says + `; exit; }; echo 'unknown command "server"' >&2; exit 127`,
			`Vault v1.21.1 started no dev server: unknown command "server"`,
		},
		"a server that runs no such plugin": {
			`case "$1" in version) ` + says + ` ;; server) exec sleep 60 ;; token) ;; *) echo "no plugins here" >&2; exit 2 ;; esac`,
			"Vault v1.21.1 does not run this plugin: no plugins here",
		},
		"another program of that name": {`echo "keep your jewels 1.0"`, "it says of itself neither Vault nor OpenBao"},
		"a program that fails":         {`exit 1`, "it says of itself neither Vault nor OpenBao"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			script(t, path, "vault", unable.script)
			script(t, path, "make", `echo "$@" >>`+filepath.Join(path, "made"))

			out, stdout, code := runScript(t, path, "vault.sh")
			require.Zero(t, code, out)
			require.Contains(t, out, "Not using "+filepath.Join(path, "vault")+" from PATH: "+unable.reason)
			pinned, err := filepath.Abs("../bin/vault")
			require.NoError(t, err)
			require.Equal(t, pinned+"\n", stdout)
			made, err := os.ReadFile(filepath.Join(path, "made"))
			require.NoError(t, err)
			require.Equal(t, "-s bin/vault\n", string(made))

			out, stdout, code = runScript(t, path, "vault.sh", "VAULT_BIN="+filepath.Join(path, "vault"))
			require.NotZero(t, code, "what was named is not replaced behind the caller's back")
			require.Empty(t, stdout)
			require.Contains(t, out, "VAULT_BIN="+filepath.Join(path, "vault")+" cannot run the demo: "+unable.reason)
			require.Contains(t, out, "leave VAULT_BIN unset")
		})
	}
}

func TestTheDemoPassesOverAnUnableServerForTheNextOnPath(t *testing.T) {
	t.Parallel()
	unable, able := t.TempDir(), link(t, vaulttest.ServerUnderTest(t).Path, "vault")
	script(t, unable, "vault", `exit 1`)
	out, stdout, code := runScript(t, unable+":"+able, "vault.sh")
	require.Zero(t, code, out)
	require.Equal(t, filepath.Join(able, "vault")+"\n", stdout)
}

func TestVaultBinMayBeANameOrARelativePath(t *testing.T) {
	t.Parallel()
	bin := link(t, vaulttest.ServerUnderTest(t).Path, "server-of-mine")
	for _, name := range []string{"server-of-mine", "../" + filepath.Base(bin) + "/server-of-mine"} {
		command := scriptCommand(t, bin, "vault.sh", "VAULT_BIN="+name)
		command.Dir = bin
		stdout, err := command.Output()
		require.NoError(t, err)
		found, err := os.Stat(strings.TrimSpace(string(stdout)))
		require.NoError(t, err)
		want, err := os.Stat(filepath.Join(bin, "server-of-mine"))
		require.NoError(t, err)
		require.True(t, filepath.IsAbs(string(stdout)))
		require.True(t, os.SameFile(want, found))
	}
	_, stdout, code := runScript(t, bin, "vault.sh", "VAULT_BIN=no-such-server")
	require.NotZero(t, code)
	require.Empty(t, stdout)
}

// openBao returns a directory with a bao: the server under test, or else the
// machine's. Where there is none, it is a stand-in: Vault with what is different in
// OpenBao and matters here. BAO_… win over VAULT_…, audit devices are taken over the
// API only by a server that was told so, and `plugin reload` knows no -type.
func openBao(t *testing.T) string {
	t.Helper()
	server := vaulttest.ServerUnderTest(t)
	if server.IsOpenBao() {
		return link(t, server.Path, "bao")
	}
	if bao, err := exec.LookPath("bao"); err == nil {
		return link(t, bao, "bao")
	}
	dir := t.TempDir()
	script(t, dir, "bao", `
allowed='`+filepath.Join(dir, "audit-allowed")+`'
export VAULT_TOKEN="${BAO_TOKEN-$VAULT_TOKEN}" VAULT_ADDR="${BAO_ADDR-$VAULT_ADDR}"
case "$1 $2 $*" in
version*) echo "OpenBao v2.6.2 (a stand-in), built today"; exit ;;
server*) for option; do
    case $option in -config=*) ! grep -q unsafe_allow_api_audit_creation "${option#-config=}" || : >"$allowed" ;; esac
  done ;;
"audit enable"*) [ -e "$allowed" ] || { echo "cannot enable audit device via API" >&2; exit 2; } ;;
"plugin reload"*-type*) echo "flag provided but not defined: -type" >&2; exit 1 ;;
esac
exec '`+server.Path+`' "$@"`)
	return dir
}

// link returns a directory with nothing but a link to a program.
func link(t *testing.T, program, name string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(program, filepath.Join(dir, name)))
	return dir
}

func script(t *testing.T, dir, name, body string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700))
}

// runScript runs one of scripts/ to its end, and returns all that it printed, its
// standard output alone, and its exit code.
func runScript(t *testing.T, path, name string, env ...string) (all, stdout string, code int) {
	t.Helper()
	var out, errs strings.Builder
	command := scriptCommand(t, path, name, env...)
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return errs.String() + out.String(), out.String(), command.ProcessState.ExitCode()
}

// scriptCommand is one of scripts/ on a machine whose PATH begins with what is
// given and has no other server on it, called by somebody who uses Vault and
// OpenBao for something else.
func scriptCommand(t *testing.T, path, name string, env ...string) *exec.Cmd {
	t.Helper()
	require.NoError(t, makeBuild())
	script, err := filepath.Abs(filepath.Join("..", "scripts", name))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), demoTakes)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, script)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // it cleans up
	command.WaitDelay = 10 * time.Second
	command.Env = append([]string{
		"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "PATH=" + path + ":" + pathWithoutServers(t),
		"VAULT_ADDR=http://127.0.0.1:1", "VAULT_TOKEN=of-another-server", "VAULT_NAMESPACE=elsewhere",
		"BAO_ADDR=http://127.0.0.1:1", "BAO_TOKEN=of-another-server", "BAO_NAMESPACE=elsewhere",
	}, env...)
	return command
}

// pathWithoutServers returns a directory with links to all that is on PATH, but
// no vault and no bao.
func pathWithoutServers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		programs, err := os.ReadDir(from)
		if err != nil {
			continue // PATH may name what is not there
		}
		for _, program := range programs {
			if name := program.Name(); name != "vault" && name != "bao" {
				err := os.Symlink(filepath.Join(from, name), filepath.Join(dir, name))
				require.True(t, err == nil || errors.Is(err, fs.ErrExist), "%v", err)
			}
		}
	}
	return dir
}
