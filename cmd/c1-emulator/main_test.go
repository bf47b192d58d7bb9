// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// serving is an emulator that runs as the command would run it.
type serving struct {
	dir, announced string
	seeds          seedFile
}

// startServing serves two TLS tenants until the test ends.
func startServing(t *testing.T) serving {
	t.Helper()
	s := serving{dir: t.TempDir()}
	require.NoError(t, os.WriteFile(s.file("seeds.json"), nil, 0o644)) // an older file's mode must not survive
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"-tls", "-tenants", "acme,globex", "-token-ttl", "1m", "-semantics", "exclusive",
			"-revoked", "shown", "-token-errors", "oauth",
			"-ca-file", s.file("ca.pem"), "-seed-file", s.file("seeds.json"), "-running-file", s.file("running.json"),
		}, nil, in, io.Discard)
	}()
	t.Cleanup(func() {
		stop()
		assert.Equal(t, exitOK, <-ended)
	})
	var announced strings.Builder
	for range 2 {
		line := make([]byte, 200)
		n, err := out.Read(line)
		require.NoError(t, err)
		announced.Write(line[:n])
	}
	s.announced = announced.String()
	content, err := os.ReadFile(s.file("seeds.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &s.seeds))
	return s
}

func (s serving) file(name string) string { return filepath.Join(s.dir, name) }

// command runs another command to its end.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestAConnectorThatRunsAlreadyLogsIn(t *testing.T) {
	t.Parallel()
	s := startServing(t)
	content, err := os.ReadFile(s.file("running.json"))
	require.NoError(t, err)
	var running runningFile
	require.NoError(t, json.Unmarshal(content, &running))
	require.NotEmpty(t, running.AppID)
	require.NotEmpty(t, running.ConnectorID)
	require.NotEmpty(t, running.CredentialID)
	require.NotContains(t, s.announced, running.ClientSecret)
	info, err := os.Stat(s.file("running.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	code, _, _ := command(t, running.ClientSecret, "login", "-url", s.seeds.URL, "-ca-file", s.file("ca.pem"), "-client-id", running.ClientID)
	require.Equal(t, exitOK, code)
}

func TestServeWritesItsFilesAndPrintsNoSecret(t *testing.T) {
	t.Parallel()
	s := startServing(t)
	require.Len(t, s.seeds.Tenants, 2)
	require.Equal(t, s.seeds.Seeds, s.seeds.Tenants[0])
	require.Contains(t, s.announced, "tenant acme listens on "+s.seeds.URL)
	require.Contains(t, s.announced, "tenant globex listens on "+s.seeds.Tenants[1].URL)
	require.NotContains(t, s.announced, "secret")

	info, err := os.Stat(s.file("seeds.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	require.Len(t, left, 3, "no temporary file is left")
}

func TestLoginSaysWhetherC1TakesTheCredential(t *testing.T) {
	t.Parallel()
	s := startServing(t)
	secretFile := s.file("secret")
	require.NoError(t, os.WriteFile(secretFile, []byte(s.seeds.ClientSecret+"\n"), 0o600))
	for name, test := range map[string]struct {
		stdin, url, id, file string
		code                 int
		says                 string
	}{
		"secret from a file":     {"", s.seeds.URL, s.seeds.ClientID, secretFile, exitOK, "login succeeded\n"},
		"URL from the client ID": {s.seeds.ClientSecret, "", s.seeds.ClientID, "-", exitOK, "login succeeded\n"},
		"plain secret":           {s.seeds.PlainClientSecret, "", s.seeds.PlainClientID, "-", exitOK, "login succeeded\n"},
		"wrong secret":           {"wrong", "", s.seeds.ClientID, "-", exitRefused, "login failed: invalid_client\n"},
		"no client ID":           {"x", s.seeds.URL, "", "-", exitFailed, ""},
		"no host":                {"x", "", "nobody", "-", exitFailed, ""},
		"no URL":                 {"x", "::", s.seeds.ClientID, "-", exitFailed, ""},
		"no secret":              {"", "", s.seeds.ClientID, "-", exitFailed, ""},
		"no such file":           {"", "", s.seeds.ClientID, s.file("none"), exitFailed, ""},
	} {
		args := []string{"login", "-ca-file", s.file("ca.pem"), "-client-id", test.id, "-secret-file", test.file}
		if test.url != "" {
			args = append(args, "-url", test.url)
		}
		code, out, errs := command(t, test.stdin, args...)
		assert.Equal(t, test.code, code, "%s: %s", name, errs)
		assert.Equal(t, test.says, out, name)
		assert.Equal(t, code == exitFailed, errs != "", name)
		assert.NotContains(t, out+errs, s.seeds.ClientSecret, name)
	}
}

func TestLoginGoesOutAsEachOfC1sClients(t *testing.T) {
	t.Parallel()
	s := startServing(t)
	for _, form := range c1test.LoginForms() {
		code, out, errs := command(t, s.seeds.ClientSecret, "login", "-ca-file", s.file("ca.pem"),
			"-client-id", s.seeds.ClientID, "-form", string(form))
		assert.Equal(t, exitOK, code, "%s: %s", form, errs)
		assert.Equal(t, "login succeeded\n", out, form)
	}
}

// A credential that requires DPoP is taken from the one client that has it.
func TestLoginProvesPossessionOfAKey(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{})
	e.Default().SetDPoPNonces(true, true)
	bound := e.Default().NewIdentity(c1test.RequireDPoP())
	for form, want := range map[c1test.LoginForm]int{c1test.LoginDPoP: exitOK, c1test.LoginSDK: exitRefused, c1test.LoginPlain: exitRefused} {
		code, out, _ := command(t, bound.ClientSecret, "login", "-url", e.Default().URL(), "-client-id", bound.ClientID, "-form", string(form))
		assert.Equal(t, want, code, form)
		assert.Equal(t, want == exitRefused, strings.Contains(out, "invalid_dpop_proof"), form)
	}
}

func TestFindingsShowsWhoUsedADecoy(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{})
	code, out, _ := command(t, "", "findings", "-url", e.Default().URL())
	require.Equal(t, exitOK, code)
	require.Equal(t, "[]\n", out)

	for _, args := range [][]string{
		{"findings"},
		{"findings", "-url", "http://127.0.0.1:1"},
		{"findings", "-url", e.Default().URL() + "/elsewhere"},
		{"findings", "-url", e.Default().URL(), "-ca-file", filepath.Join(t.TempDir(), "none")},
	} {
		code, _, errs := command(t, "", args...)
		assert.Equal(t, exitFailed, code, args)
		assert.NotEmpty(t, errs, args)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"-ca-file needs -tls":                {"-ca-file", "x"},
		"unexpected argument":                {"-tls", "now"},
		"semantics: want":                    {"-semantics", "both"},
		"revoked: want":                      {"-revoked", "both"},
		"token_errors: want":                 {"-token-errors", "both"},
		"is none of sdk, connector":          {"login", "-form", "both", "-client-id", "x"},
		"flag provided but not defined":      {"-bogus"},
		"write /no/such/directory/seed.json": {"serve", "-seed-file", "/no/such/directory/seed.json"},
		"write /no/such/directory/okta.json": {"serve", "-running-file", "/no/such/directory/okta.json"},
	} {
		code, _, errs := command(t, "", args...)
		assert.Equal(t, exitFailed, code, want)
		assert.Contains(t, errs, want)
	}
	code, out, _ := command(t, "", "-version")
	require.Equal(t, exitOK, code)
	require.Equal(t, "c1-emulator dev (unknown)\n", out)
	code, _, help := command(t, "", "-help")
	require.Equal(t, exitOK, code)
	require.Contains(t, help, c1test.AdminHelp)
}
