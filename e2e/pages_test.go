// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// block is a fenced block of a page.
type block struct {
	page     string
	section  string // its heading of the second level
	line     int
	language string // commands have "" or "sh"
	text     string // without the indentation of a list
	comment  string // in HTML, in the line above: what a test has to know
}

func (b block) String() string { return fmt.Sprintf("%s:%d:\n%s", b.page, b.line, b.text) }

// areCommands reports whether a block is for a shell.
func (b block) areCommands() bool { return b.language == "" || b.language == "sh" }

var (
	fenceLine   = regexp.MustCompile("^( *)```(\\w*)$")
	commentLine = regexp.MustCompile(`^ *<!-- (.*) -->$`)
)

// blocksOf returns the fenced blocks of a page.
func blocksOf(t *testing.T, page string) (blocks []block) {
	t.Helper()
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	var open *block
	indent, above, section := "", "", ""
	for n, line := range strings.Split(string(raw), "\n") {
		fence := fenceLine.FindStringSubmatch(line)
		switch {
		case open == nil && fence != nil:
			open, indent = &block{page: page, section: section, line: n + 1, language: fence[2]}, fence[1]
			if comment := commentLine.FindStringSubmatch(above); comment != nil {
				open.comment = comment[1]
			}
		case fence != nil:
			blocks, open = append(blocks, *open), nil
		case open == nil && strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
		above = line
	}
	require.Nil(t, open, "a block without an end in %s", page)
	return blocks
}

// sectionOf returns what stands below a heading of a page.
func sectionOf(t *testing.T, page, heading string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// blocksBelow returns the blocks of one language below a heading of a page, of which
// there must be as many as wanted.
func blocksBelow(t *testing.T, page, heading, language string, want int) (texts []string) {
	t.Helper()
	for _, b := range blocksOf(t, page) {
		if b.section == heading && b.language == language {
			texts = append(texts, b.text)
		}
	}
	require.Len(t, texts, want, "blocks of %q below %s of %s", language, heading, page)
	return texts
}

// pageRun is how the commands of a page are typed: from top to bottom, on a server of
// its own. Left out are blocks whose comment says who runs them, or why nobody does.
type pageRun struct {
	// puts in what a reader puts in for himself: each text wherever it stands, and for
	// "…" the next of the values that belong to what stands before it.
	everywhere map[string]string
	inTurn     map[string][]string
	// before is called before each block, with what follows.
	before func(text string)
	// after checks what the page has done.
	after func()
}

// pageRuns says how the commands of these pages are run.
var pageRuns = map[string]func(*testing.T, string) (*vaulttest.Server, pageRun){
	"../README.md":          readmeRun,
	"../docs/quickstart.md": quickStartRun,
	"../docs/operations.md": operationsRun,
	"../docs/incidents.md":  incidentsRun,
}

// TestTheCommandsOfThePagesDo types what a reader of these pages types.
func TestTheCommandsOfThePagesDo(t *testing.T) {
	t.Parallel()
	for page, prepare := range pageRuns {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server, run := prepare(t, dir)
			used := map[string]bool{}
			for _, b := range blocksOf(t, page) {
				if !b.areCommands() || b.comment != "" {
					continue
				}
				if run.before != nil {
					run.before(b.text)
				}
				commands := typedIn(b.text)
				for from, to := range run.everywhere {
					used[from] = used[from] || strings.Contains(commands, from)
					commands = strings.ReplaceAll(commands, from, to)
				}
				for from, values := range run.inTurn {
					for strings.Contains(commands, from) && len(values) > 0 {
						commands = strings.Replace(commands, from, values[0], 1)
						values = values[1:]
					}
					run.inTurn[from] = values
				}
				require.NotContains(t, commands, "…", "what is left out must be known to this test: %s", b)
				out, err := server.Shell(dir, commands) // it shows secrets
				require.NoError(t, err, "%s\n%s", b, errorLines(out))
			}
			for from := range run.everywhere {
				require.True(t, used[from], "the page has no %s any more", from)
			}
			for from, values := range run.inTurn {
				require.Empty(t, values, "the page has no %s any more", from)
			}
			run.after()
		})
	}
}

// errorLines is what a command printed when it failed, without what it may have vended.
func errorLines(out string) string {
	at := strings.LastIndex(out, "Error")
	return out[max(at, 0):]
}

// installed is a server to whose plugin directory the plugin was copied, and a tenant
// whose identity lies in files of a directory.
func installed(t *testing.T, dir string) (*vaulttest.Server, *c1test.Tenant, map[string]string) {
	t.Helper()
	server := vaulttest.Start(t, vaulttest.Options{})
	emulator := server.Emulator(c1test.Options{})
	tenant := emulator.Default()
	id := tenant.NewIdentity(c1test.ExpiresIn(identityLife))
	for file, text := range map[string]string{"c1-secret": id.ClientSecret, "ca.pem": emulator.CACertPEM()} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	return server, tenant, map[string]string{
		"-version=v0.1.0": "-version=" + vaulttest.PluginVersion,
		"client_id='strange-hydra-68836@acme.conductor.one/spc'": fmt.Sprintf("client_id='%s' url=%s ca_cert=@ca.pem", id.ClientID, tenant.URL()),
	}
}

func target(ref c1test.ConnectorRef) string {
	return "app_id=" + ref.AppID + " connector_id=" + ref.ConnectorID
}

// mountAt is the engine that a page's commands have mounted.
func mountAt(s *vaulttest.Server, tenant *c1test.Tenant) *vaulttest.Engine {
	return &vaulttest.Engine{Server: s, Mount: "c1", Tenant: tenant}
}

func readmeRun(t *testing.T, dir string) (*vaulttest.Server, pageRun) {
	server, tenant, everywhere := installed(t, dir)
	everywhere["bin/vault-plugin-c1"] = filepath.Join(server.Dir(), "plugins", vaulttest.PluginName)
	bait := tenant.Decoy(c1test.KindConnectorClient)
	e := mountAt(server, tenant)
	return server, pageRun{
		everywhere: everywhere,
		inTurn:     map[string][]string{"app_id=… connector_id=…": {target(tenant.Connector())}, "decoy_id=…": {"decoy_id=" + bait}},
		before: func(text string) {
			if strings.Contains(text, "decoy-creds/bait") {
				e.BindDecoy("c1", "bait", bait, nil)
			}
		},
		after: func() {
			require.Len(t, e.Records("connectors/github"), 1)
			requireHealthy(t, e)
		},
	}
}

// running gives a connector a credential that Vault knows nothing of, whose secret lies
// in a file, and returns the rest of it.
func running(t *testing.T, tenant *c1test.Tenant, ref c1test.ConnectorRef, file string) c1test.Credential {
	t.Helper()
	credential := tenant.RotateConnector(ref)
	require.NoError(t, os.WriteFile(file, []byte(credential.ClientSecret), 0o600))
	return credential
}

func quickStartRun(t *testing.T, dir string) (*vaulttest.Server, pageRun) {
	server, tenant, everywhere := installed(t, dir)
	okta := tenant.NewConnector("okta")
	before := running(t, tenant, okta, filepath.Join(dir, "okta-secret"))
	everywhere["/etc/vault/plugins"] = filepath.Join(server.Dir(), "plugins")
	everywhere["$APP_ID"], everywhere["$CONNECTOR_ID"] = okta.AppID, okta.ConnectorID
	everywhere["$CLIENT_ID"], everywhere["$CREDENTIAL_ID"] = before.ClientID, before.ID
	return server, pageRun{everywhere: everywhere, after: func() {
		e := mountAt(server, tenant)
		require.NoFileExists(t, filepath.Join(dir, "c1-secret"))
		require.NotEmpty(t, e.MustRead("config").Data["next_root_rotation"])
		vended := e.MustRead("connector-creds/okta")
		require.EqualValues(t, 2, integer(t, vended.Data["version"]))
		require.NoError(t, e.Login(vended))
		require.Len(t, tenant.AliveCredentials(okta), 2, "the one from before works for a while")
		requireHealthy(t, e)
	}}
}

func operationsRun(t *testing.T, dir string) (*vaulttest.Server, pageRun) {
	server, tenant, everywhere := installed(t, dir)
	const binary = "vault-plugin-c1_0.1.0_linux_amd64"
	plugins := filepath.Join(server.Dir(), "plugins")
	raw, err := os.ReadFile(filepath.Join(plugins, vaulttest.PluginName))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, binary), raw, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "SHA256SUMS.binaries"), []byte(fingerprint(string(raw))+"  "+binary+"\n"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(plugins, vaulttest.PluginName)))
	everywhere["sudo "], everywhere["/etc/vault/plugins"] = "", plugins

	jira := tenant.NewConnector("jira")
	before := running(t, tenant, jira, filepath.Join(dir, "jira-secret"))
	return server, pageRun{
		everywhere: everywhere,
		inTurn: map[string][]string{
			"app_id=… connector_id=…": {target(tenant.Connector()), target(tenant.NewConnector("okta")), target(jira)},
			"client_id=…":             {"client_id=" + before.ClientID},
			"credential_id=…":         {"credential_id=" + before.ID},
		},
		after: func() {
			e := mountAt(server, tenant)
			require.EqualValues(t, 1, integer(t, e.MustRead("connector-creds/jira").Data["version"]))
			require.Equal(t, before.ClientID, e.MustRead("connector-creds/jira").Data["client_id"])
			require.Equal(t, false, e.MustRead("connectors/okta").Data["paused"])
			requireHealthy(t, e)
		},
	}
}

func incidentsRun(t *testing.T, dir string) (*vaulttest.Server, pageRun) {
	server := vaulttest.Start(t, vaulttest.Options{})
	server.RegisterPlugin()
	emulator := server.Emulator(c1test.Options{})
	tenant := emulator.Default()
	tenant.SetSemantics(c1test.Overlapping)
	own := newOwnMount(server, "c1", tenant, nil)
	e := mountAt(server, tenant)
	bindExamples(e)
	okta := tenant.NewConnector("okta")
	bindScheduled(e, "okta", okta, object{"rotation_period": "24h", "grace_period": "24h"})
	leaked := e.MustRead("connector-creds/okta").Data
	require.NoError(t, os.WriteFile(filepath.Join(dir, "leaked-secret"), []byte(leaked["client_secret"].(string)+"\n"), 0o600))
	leased := e.MustRead("connector-creds/github").Data["credential_id"]
	bait := e.MustWrite("decoy-creds/bait", object{"placement": "web-1:/srv/app/.env"})
	return server, pageRun{
		everywhere: map[string]string{
			"decoy_id=2abcDEFghiJKLmnoPQRstuVWXyz": "decoy_id=" + tenant.Decoy(c1test.KindConnectorClient),
			"at=2026-11-27T03:14:15Z":              "at=" + time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
			`"$PREFIX"`:                            bait.Data["fingerprint_sha256"].(string)[:12],
		},
		after: func() {
			require.NotContains(t, alive(e), leased)
			history := e.Records("connectors/okta")
			require.Len(t, history, 3, "the first, the one after the leak, the one after the restore")
			require.EqualValues(t, 24*60*60, integer(t, e.MustRead("connectors/okta").Data["grace_period"]))
			require.NotEqual(t, own.identity.ClientID, e.MustRead("config").Data["client_id"])
			vaulttest.Eventually(t, time.Minute, func() error {
				if ids := own.alive(); len(ids) != 1 {
					return fmt.Errorf("of the mount's own credentials %d are alive", len(ids))
				}
				return nil
			})
		},
	}
}
