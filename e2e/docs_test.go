// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	c1 "github.com/c1-community/vault-plugin-c1"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// fence finds the fenced blocks of a page, to leave them out.
var fence = regexp.MustCompile("(?ms)^ *```\\w*\n.*?^ *```$")

// pageTests says of pages which test or script runs their commands block by block.
var pageTests = map[string]string{
	"../docs/openbao.md":               "TestAServerThatDeclaresThePluginAndItsAuditDeviceUpgradesIt",
	"../docs/verify.md":                "scripts/dist-check.sh",
	"../examples/README.md":            "TestTheCommandsOfTheExamplesDo",
	"../examples/kubernetes/README.md": "TestTheCommandsOfTheKubernetesExamplesDo",
	"../examples/terraform/README.md":  "TestOpenTofuAppliesTheExample",
}

// TestEveryBlockInTheDocsIsRunOrChecked reads each fenced block of each page. A block of
// configuration must parse. A block of commands must be run: with its page
// (TestTheCommandsOfThePagesDo), by the page's own test, or by the one that a comment
// names. A comment may also say why nothing can run it. Run or not, it must be a shell's,
// and what it asks of the engine must be a path, an operation and fields that it has.
func TestEveryBlockInTheDocsIsRunOrChecked(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	examples, err := filepath.Glob("../examples/*/README.md")
	require.NoError(t, err)
	pages = append(append(pages, examples...), "../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../examples/README.md")

	paths := c1.New("v0.0.0-docs").Paths
	flags := &flagHelp{product: vaulttest.ServerUnderTest(t), text: map[string]string{}}
	tests := testSources(t)
	executed, parsed, excused, diagrams, printed, commands, asked := 0, 0, 0, 0, 0, 0, 0
	for _, page := range pages {
		for _, b := range blocksOf(t, page) {
			switch b.language {
			case "hcl":
				_, err := hcl.Parse(b.text)
				require.NoError(t, err, b)
				parsed++
				continue
			case "yaml", "json":
				var anything any
				require.NoError(t, yaml.Unmarshal([]byte(b.text), &anything), b)
				parsed++
				continue
			case "mermaid": // which e2e/clients has Mermaid read
				diagrams++
				continue
			case "text": // what a program printed
				printed++
				continue
			}
			require.True(t, b.areCommands(), "nothing checks a block of %s: %s", b.language, b)
			reason, isExcused := strings.CutPrefix(b.comment, "not run: ")
			if isExcused {
				require.NotEmpty(t, reason, b)
				t.Logf("not run: %s:%d: %s", b.page, b.line, reason)
				excused++
			} else {
				requireRun(t, tests, b)
				executed++
			}
			for _, argv := range vaultCommands(t, b.text, b.String()) {
				commands++
				flags.requireKnown(t, argv, b.String())
				if requireKnown(t, paths, argv, b.String()) {
					asked++
				}
			}
		}
	}
	t.Logf("on %d pages %d blocks of commands are executed and %d excused, %d of configuration are parsed, %d are diagrams, %d are what a program printed; %d commands are Vault's or OpenBao's, %d of which ask the engine",
		len(pages), executed, excused, parsed, diagrams, printed, commands, asked)
	require.Greater(t, executed, 60)
	require.Less(t, excused, 15)
	require.Greater(t, commands, 130)
	require.Greater(t, asked, 60)
}

// requireRun says that a block is run: as its comment says, as a table says for its
// page, or with its page.
func requireRun(t *testing.T, tests string, b block) {
	t.Helper()
	name, byComment := strings.CutPrefix(b.comment, "run by ")
	if !byComment {
		require.Empty(t, b.comment, "a comment above commands says \"run by TestX\" or \"not run: why\": %s", b)
		if pageRuns[b.page] != nil {
			return
		}
		name = pageTests[b.page]
		require.NotEmpty(t, name, "nothing runs this: say what does, or why nothing can: %s", b)
	}
	if strings.HasPrefix(name, "scripts/") {
		require.FileExists(t, filepath.Join("..", name), b)
		return
	}
	require.True(t, strings.Contains(tests, "\nfunc "+name+"("), "there is no %s, which should run %s", name, b)
}

// testSources are the sources of all tests.
func testSources(t *testing.T) string {
	t.Helper()
	var sources strings.Builder
	for _, pattern := range []string{"../*_test.go", "../internal/*/*_test.go", "*_test.go", "clients/*_test.go", "monitoring/*_test.go", "../tools/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			sources.Write(raw)
		}
	}
	return sources.String()
}

// flagHelp is what the command line of the server under test says of its commands.
type flagHelp struct {
	product *vaulttest.Product
	text    map[string]string
}

// requireKnown says that a command has the flags that it is given.
func (f *flagHelp) requireKnown(t *testing.T, argv []string, where string) {
	t.Helper()
	if f.product.IsOpenBao() {
		return // whose command line differs where docs/openbao.md says so
	}
	var words []string
	for len(words) < len(argv) && regexp.MustCompile("^[a-z]+$").MatchString(argv[len(words)]) {
		words = argv[:len(words)+1]
	}
	for _, arg := range argv {
		name, _, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(name, "-") || name == "-" {
			continue
		}
		require.Contains(t, f.of(t, words), name, "there is no such flag: %s, in %s", strings.Join(argv, " "), where)
	}
}

func (f *flagHelp) of(t *testing.T, words []string) string {
	t.Helper()
	command := strings.Join(words, " ")
	if f.text[command] == "" {
		out, _ := exec.CommandContext(t.Context(), f.product.Path, append(append([]string{}, words...), "-h")...).CombinedOutput()
		f.text[command] = string(out)
	}
	return f.text[command]
}

// vaultCommands has a shell read a block, in a place where no program but vault and bao
// can be found, and returns the arguments of these two.
func vaultCommands(t *testing.T, block, where string) [][]string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../examples"))) // for cd
	script := `vault() { { for a; do printf '%s\037' "$a"; done; printf '\036'; } >&3; }; bao() { vault "$@"; }` + "\n" + typedIn(block)
	syntax := exec.CommandContext(t.Context(), "sh", "-n")
	syntax.Stdin = strings.NewReader(script)
	out, err := syntax.CombinedOutput()
	require.NoError(t, err, "%s\n%s", out, where)

	reads, writes, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = reads.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	shell := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	shell.Dir, shell.Env, shell.ExtraFiles = dir, []string{"PATH=/nonexistent", "HOME=" + dir}, []*os.File{writes}
	require.NoError(t, shell.Start(), where)
	require.NoError(t, writes.Close())
	said, err := io.ReadAll(reads)
	require.NoError(t, err)
	_ = shell.Wait() // programs that are not there fail, of course
	var commands [][]string
	for _, command := range strings.Split(strings.TrimSuffix(string(said), "\036"), "\036") {
		if command != "" {
			commands = append(commands, strings.Split(strings.TrimSuffix(command, "\037"), "\037"))
		}
	}
	return commands
}

// typedIn is what a reader types of a block: all of it, or what follows the prompts.
func typedIn(block string) string {
	if !strings.Contains("\n"+block, "\n$ ") {
		return block
	}
	var typed strings.Builder
	goesOn := false
	for line := range strings.Lines(block) {
		text, prompted := strings.CutPrefix(line, "$ ")
		if prompted || goesOn {
			typed.WriteString(text)
			goesOn = strings.HasSuffix(strings.TrimSpace(text), `\`)
		}
	}
	return typed.String()
}

// requireKnown says that what a command asks of the engine at c1/ is there, and reports
// whether it asks anything.
func requireKnown(t *testing.T, paths []*framework.Path, argv []string, where string) bool {
	t.Helper()
	var words []string
	mount := ""
	for _, arg := range argv {
		switch value, isMount := strings.CutPrefix(arg, "-mount="); {
		case isMount:
			mount = value + "/"
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		}
	}
	operations := map[string][]logical.Operation{
		"read": {logical.ReadOperation}, "list": {logical.ListOperation}, "delete": {logical.DeleteOperation},
		"write": {logical.UpdateOperation, logical.CreateOperation}, "patch": {logical.PatchOperation},
		"kv get": {logical.ReadOperation}, "kv list": {logical.ListOperation}, "kv metadata": {logical.ReadOperation},
	}
	verb, rest := "", []string(nil)
	switch {
	case len(words) > 2 && words[0] == "kv": // by version 2 of its API, or for a read by version 1
		verb, rest = "kv "+words[1], words[2:]
		switch verb {
		case "kv list":
			mount += "metadata/"
		case "kv metadata":
			mount, rest = mount+"metadata/", rest[1:]
		}
	case len(words) > 1:
		verb, rest = words[0], words[1:]
	}
	wanted, ours := operations[verb], false
	path := ""
	if len(rest) > 0 {
		path, ours = strings.CutPrefix(mount+rest[0], "c1/")
	}
	if !ours || wanted == nil {
		return false
	}
	asked := fmt.Sprintf("%s, in %s", strings.Join(argv, " "), where)
	for _, p := range paths {
		if !regexp.MustCompile(p.Pattern).MatchString(path) {
			continue
		}
		found := false
		for _, op := range wanted {
			found = found || p.Operations[op] != nil
		}
		require.True(t, found, "there is no %s of this path: %s", verb, asked)
		for _, pair := range rest[1:] {
			name, _, isPair := strings.Cut(pair, "=")
			require.True(t, isPair || pair == "-" || strings.HasPrefix(pair, "@"), "%q is no field: %s", pair, asked)
			if isPair {
				require.Contains(t, p.Fields, name, "there is no such field: %s", asked)
			}
		}
		return true
	}
	require.Fail(t, "there is no such path", asked)
	return false
}

var (
	mdLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`) // what an anchor leaves of a heading
)

// A link to a page or to a part of one leads there.
func TestEveryLinkInTheDocsLeadsSomewhere(t *testing.T) {
	t.Parallel()
	var pages []string
	require.NoError(t, filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && (entry.Name() == "bin" || entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == "dist") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	}))
	links := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range mdLink.FindAllStringSubmatch(fence.ReplaceAllString(string(raw), ""), -1) {
			to, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(to, ":") {
				continue // elsewhere
			}
			links++
			target := page
			if to != "" {
				target = filepath.Join(filepath.Dir(page), to)
			}
			info, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", page, found[1])
			if anchor == "" || info.IsDir() || !strings.HasSuffix(target, ".md") {
				continue
			}
			text, err := os.ReadFile(target)
			require.NoError(t, err)
			var anchors []string
			for _, title := range heading.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
				anchors = append(anchors, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(title[1])), ""), " ", "-"))
			}
			require.Contains(t, anchors, anchor, "%s links to %s", page, found[1])
		}
	}
	t.Logf("%d links on %d pages", links, len(pages))
	require.Greater(t, links, 100)
}

// A test that the threat model names is there.
func TestWhatIsSaidToBeShownByATestIs(t *testing.T) {
	t.Parallel()
	tests := testSources(t)
	page, err := os.ReadFile("../docs/threat-model.md")
	require.NoError(t, err)
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(names), 35)
	for _, name := range names {
		require.True(t, strings.Contains(tests, "\nfunc "+name[1]+"("), "there is no %s, which the threat model names", name[1])
	}
}
