// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// The Agent is real, and renders the example's file. The test plays what systemd does
// with it: the path unit notices the new file, and the connector starts anew with what
// systemd reads from it.
func TestSystemdRestartsTheConnectorWhenItsEnvironmentFileChanges(t *testing.T) {
	follow(t, client{
		name: "Vault Agent and a path unit of systemd", ran: vaultVersion(t) + "; systemd's part played by the test",
		needs: "[systemd/restart](../examples/systemd/restart): AppRole, four units",
		start: func(s *story) {
			file := filepath.Join(s.dir, "out", "okta.env")
			s.save("agent.hcl", s.replace(s.withAppRole(s.example("systemd/restart/agent.hcl")), "/run/c1-okta/okta.env", file))
			s.save("okta.env.tpl", s.example("systemd/restart/okta.env.tpl"))
			s.StartAgent(s.dir)
			s.playPathUnit(file)
			s.requireOneConsumer()
		},
	})
}

// playPathUnit starts the consumer anew whenever another file has taken the place of
// the one that was there, until the test ends.
func (s *story) playPathUnit(file string) {
	s.t.Helper()
	var player sync.WaitGroup
	s.t.Cleanup(player.Wait)
	player.Go(func() {
		var seen os.FileInfo
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-s.t.Context().Done():
				return
			case <-ticker.C:
			}
			info, err := os.Stat(file)
			if errors.Is(err, os.ErrNotExist) || (err == nil && seen != nil && os.SameFile(info, seen)) {
				continue
			}
			seen = info
			raw, err := os.ReadFile(file)
			environment := parseEnvironmentFile(string(raw))
			if err != nil || info.Mode().Perm() != 0o600 || len(environment) != 2 {
				s.t.Errorf("the file of mode %s says what systemd reads as %d variables: %v", info.Mode(), len(environment), err)
				return
			}
			s.deliver(environment["BATON_CLIENT_ID"], environment["BATON_CLIENT_SECRET"])
		}
	})
}

// parseEnvironmentFile reads what EnvironmentFile= names, by the rules in
// systemd.exec(5).
func parseEnvironmentFile(text string) map[string]string {
	const blank = " \t\r"
	read := map[string]string{}
	for text != "" {
		text = strings.TrimLeft(text, blank+"\n")
		line, rest, _ := strings.Cut(text, "\n")
		name, _, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			text = rest
			continue
		}
		var value string
		value, text = parseEnvironmentValue(text[len(name)+1:])
		read[strings.TrimRight(name, blank)] = value
	}
	return read
}

// parseEnvironmentValue returns the value at the beginning of a text, and what follows
// its line.
func parseEnvironmentValue(text string) (value, rest string) {
	const blank = " \t\r"
	var read strings.Builder
	quote, keep := byte(0), 0 // keep: what is not cut off as blanks at the end
	started := false          // an unquoted value has begun, in which quotes mean nothing
	for i := 0; i < len(text); i++ {
		c := text[i]
		escapes := c == '\\' && quote != '\'' && i+1 < len(text)
		switch {
		case escapes && text[i+1] == '\n':
			i++
			continue
		case escapes && (quote == 0 || strings.IndexByte("\"\\`$", text[i+1]) >= 0):
			i++
			read.WriteByte(text[i])
			started = started || quote == 0
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && !started && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '\n':
			return read.String()[:keep], text[i+1:]
		case quote == 0 && strings.IndexByte(blank, c) >= 0:
			if started {
				read.WriteByte(c)
			}
			continue
		default:
			read.WriteByte(c)
			started = started || quote == 0
		}
		keep = read.Len()
	}
	return read.String()[:keep], ""
}

// systemdParser is systemd's own program that reads files of this form, for its
// environment.d. Other than EnvironmentFile=, it expands $.
const systemdParser = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"

// What the rules do to a value, and that systemd's own program reads it so.
func TestEnvironmentFilesAreReadAsSystemdReadsThem(t *testing.T) {
	t.Parallel()
	const text = `# a comment
; another
no assignment
PLAIN=secret-token:acme:v1:eyJrdHkiOiJPS1AifQ==_-
HASH=a#b #c
SEMICOLON=a;b
DOLLAR=${HOME}$HOME
BLANKS=   a  b	 
DOUBLE="a # 'b' \"c\" \\ \x"
SINGLE='a # "b" \'
INNER=a"b"'c'
BACKSLASH=a\b\\c\"
JOINED="a" 'b'
CONTINUED=a\
b
EMPTY=
TWICE=a
TWICE=b
`
	read := parseEnvironmentFile(text)
	require.Equal(t, map[string]string{
		"PLAIN": "secret-token:acme:v1:eyJrdHkiOiJPS1AifQ==_-", "HASH": "a#b #c", "SEMICOLON": "a;b", "DOLLAR": "${HOME}$HOME",
		"BLANKS": "a  b", "DOUBLE": `a # 'b' "c" \ \x`, "SINGLE": `a # "b" \`, "INNER": `a"b"'c'`, "BACKSLASH": `ab\c"`,
		"JOINED": "ab", "CONTINUED": "ab", "EMPTY": "", "TWICE": "b",
	}, read)

	delete(read, "EMPTY") // which environment.d takes for a mistake
	if _, err := os.Stat(systemdParser); err != nil {
		t.Skip("systemd's own parser is not there")
	}
	require.Equal(t, read, readBySystemd(t, text, slices.Sorted(maps.Keys(read))))
}

// readBySystemd has systemd's own program read a file, and a shell what that prints.
func readBySystemd(t *testing.T, text string, names []string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "environment.d"), 0o700))
	escaped := strings.ReplaceAll(text, "$", "$$") // or it expands them
	require.NoError(t, os.WriteFile(filepath.Join(dir, "environment.d", "1.conf"), []byte(escaped), 0o600))
	read := map[string]string{}
	for _, name := range names {
		shell := exec.CommandContext(t.Context(), "sh", "-euc", `eval "$(`+systemdParser+`)"; printf %s "$`+name+`"`)
		shell.Env = []string{"XDG_CONFIG_HOME=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		value, err := shell.Output()
		require.NoError(t, err, name)
		read[name] = string(value)
	}
	return read
}

// The template refuses what systemd would read differently, and so never has to be
// right about quotes.
func TestTheEnvironmentFilesTemplateWritesOnlyWhatSystemdReadsUnchanged(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../examples/systemd/restart/okta.env.tpl")
	require.NoError(t, err)
	patterns := regexp.MustCompile(`regexMatch "([^"]+)"`).FindAllStringSubmatch(string(raw), -1)
	require.Len(t, patterns, 2)
	for _, found := range patterns {
		allowed := regexp.MustCompile(found[1])
		require.True(t, allowed.MatchString("secret-token:acme.conductor.one:v1:eyJrdHkiOiJPS1AifQ_-=="))
		require.True(t, allowed.MatchString("strange-hydra-68836@acme.conductor.one/pcc"))
		for c := range 128 {
			one := string(rune(c))
			for _, value := range []string{one, one + "a", "a" + one, "a" + one + "b", one + "a" + one} {
				if !allowed.MatchString(value) {
					continue
				}
				require.Equal(t, map[string]string{"NAME": value}, parseEnvironmentFile("NAME="+value+"\n"))
			}
		}
		for _, c := range " \t\r\n\\'\"#;$`" {
			require.False(t, allowed.MatchString("a"+string(c)+"b"), "%q", c)
		}
	}
}

// What an Agent really does with a value that the template refuses: it ends, writes no
// file and shows no secret.
func TestTheAgentWritesNoEnvironmentFileThatSystemdWouldReadDifferently(t *testing.T) {
	t.Parallel()
	s := &story{Engine: &vaulttest.Engine{Server: vaulttest.Shared(t)}, t: t}
	mount := fmt.Sprintf("kv-systemd-%d", mounts.Add(1))
	require.NoError(t, s.Root.Sys().Mount(mount, &api.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	t.Cleanup(func() { require.NoError(t, s.Root.Sys().Unmount(mount)) })
	const id = "strange-hydra-68836@acme.conductor.one/pcc"
	for i, secret := range []string{
		"secret-token:acme.conductor.one:v1:eyJrdHkiOiJPS1AifQ_-==", `quo"ted-1`, "quo'ted-2", `back\slash-3`, "in side-4", "line\nend-5", "#hash-6", "$dollar-7",
	} {
		s.dir = t.TempDir()
		path := fmt.Sprintf("%s/okta-%d", mount, i)
		_, err := s.Root.Logical().Write(path, map[string]any{"client_id": id, "client_secret": secret})
		require.NoError(t, err)
		file := filepath.Join(s.dir, "out", "okta.env")
		s.save("token", s.Root.Token())
		s.save("okta.env.tpl", s.replace(s.example("systemd/restart/okta.env.tpl"), s.Path(s.credsPath()), path))
		config := regexp.MustCompile(`(?s)method "approle" \{.*?\n  \}`).ReplaceAllLiteralString(s.example("systemd/restart/agent.hcl"),
			`method "token_file" { config = { token_file_path = "token" } }`)
		s.save("agent.hcl", s.replace(config, "/run/c1-okta/okta.env", file))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		agent := exec.CommandContext(ctx, vaultBinary(t), "agent", "-config=agent.hcl", "-exit-after-auth", "-log-level=trace")
		agent.Dir = s.dir
		agent.Env = []string{"HOME=" + s.dir, "VAULT_ADDR=" + s.Addr()}
		out, err := agent.CombinedOutput()
		require.NoError(t, ctx.Err())
		cancel()
		if i == 0 {
			require.NoError(t, err, string(out))
			rendered, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"BATON_CLIENT_ID": id, "BATON_CLIENT_SECRET": secret}, parseEnvironmentFile(string(rendered)))
			continue
		}
		require.Error(t, err, "a secret like %q", secret)
		require.NoFileExists(t, file)
		require.Contains(t, string(out), "client_secret has a character that systemd may read differently")
		require.NotContains(t, string(out), secret, "the Agent prints no secret")
	}
}

// units are those of examples/systemd, each directory by itself.
func TestSystemdTakesTheUnitsOfTheExamples(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	for directory, want := range map[string]int{"supervisor": 1, "restart": 4} {
		units := unitsOf(t, directory)
		require.Len(t, units, want)
		require.Empty(t, verify(t, analyze, units), "of examples/systemd/%s", directory)

		for _, unit := range units {
			if raw, err := os.ReadFile(unit); err != nil || !strings.Contains(string(raw), "NoNewPrivileges=yes") {
				continue
			}
			out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput()
			require.NoError(t, err, "the sandbox of %s has holes:\n%s", unit, out)
		}

		raw, err := os.ReadFile(units[0]) // and it sees what is wrong
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(units[0], append(raw, "[Service]\nNoSuchSetting=yes\n"...), 0o600))
		require.Contains(t, verify(t, analyze, units), "NoSuchSetting")
	}
}

// unitsOf copies the units of a directory, with programs that are there.
func unitsOf(t *testing.T, directory string) []string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	var units []string
	for _, pattern := range []string{"*.service", "*.path"} {
		files, err := filepath.Glob(filepath.Join("../../examples/systemd", directory, pattern))
		require.NoError(t, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			text := regexp.MustCompile(`(?m)^ExecStart=/\S+`).ReplaceAllString(string(raw), "ExecStart="+program)
			unit := filepath.Join(dir, filepath.Base(file))
			require.NoError(t, os.WriteFile(unit, []byte(text), 0o600))
			units = append(units, unit)
		}
	}
	return units
}

// verify returns what systemd-analyze says of units. Of others it may say more.
func verify(t *testing.T, analyze string, units []string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...).CombinedOutput()
	var said strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, filepath.Dir(units[0])) || strings.Contains(line, "okta") {
			said.WriteString(line)
		}
	}
	if err != nil && said.Len() == 0 {
		said.Write(out)
	}
	return said.String()
}
