// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// rivals are the modules whose versions a reader needs to know.
var rivals = []string{
	"github.com/hashicorp/vault-plugin-secrets-kv",
	"github.com/hashicorp/vault-plugin-secrets-openldap",
	"github.com/hashicorp/vault/sdk",
}

// runInfo says on what and how this process measured.
func runInfo() (report.RunInfo, error) {
	info := report.RunInfo{
		Time:     time.Now(),
		Full:     *full,
		CPU:      orUnknown(procField("/proc/cpuinfo", "model name")),
		Cores:    runtime.NumCPU(),
		Memory:   memory(),
		Kernel:   orUnknown(kernel()),
		Go:       runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Commands: []string{"cd e2e/bench", command()},
	}
	server, err := vaulttest.AskServer()
	if err != nil {
		return info, err
	}
	vaultVersion, err := output(server.Path, "version")
	if err != nil {
		return info, err
	}
	// Without the time at which it says that it was built: nobody stamped one.
	info.Vault, _, _ = strings.Cut(vaultVersion, ",")
	commit, err := output("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
	if err != nil {
		commit = "unknown" // as in an unpacked archive
	}
	info.Versions = []report.Version{{Name: vaulttest.PluginName, Version: "commit " + commit}}
	modules, err := output("go", append([]string{"list", "-m"}, rivals...)...)
	if err != nil {
		return info, err
	}
	for line := range strings.Lines(modules) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		info.Versions = append(info.Versions, report.Version{Name: strings.TrimPrefix(name, "github.com/hashicorp/"), Version: version})
	}
	return info, nil
}

// unsaid are flags that go test or vaulttest.Main set by themselves.
var unsaid = []string{"test.paniconexit0", "test.testlogfile", "test.parallel"}

// command is the one that ran this process, without this machine's paths.
func command() string {
	words := []string{"go test ."} // the package first: go test takes none after a flag that it does not know
	flag.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		switch {
		case slices.Contains(unsaid, f.Name):
			return
		case f.Name == "write":
			value = relative(value)
		}
		words = append(words, "-"+strings.TrimPrefix(f.Name, "test.")+"="+quoted(value))
	})
	return strings.Join(words, " ")
}

// relative returns a path of the repository as seen from here, and the name of a
// file that is elsewhere.
func relative(path string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	short, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(short, "../../../") {
		return filepath.Base(path)
	}
	return short
}

// quoted quotes for a shell what needs it.
func quoted(word string) string {
	if strings.ContainsAny(word, "^$|*()[]\\ ") {
		return "'" + word + "'"
	}
	return word
}

const commandTimeout = time.Minute

func output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// procField returns the first value of a field in one of Linux's files.
func procField(file, field string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func memory() string {
	var kib float64
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemTotal"), "%f kB", &kib); err != nil {
		return orUnknown("")
	}
	return fmt.Sprintf("%.1f GiB", kib/(1<<20))
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return "Linux " + strings.TrimSpace(string(release))
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
