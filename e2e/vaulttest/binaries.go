// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// PluginVersion is what the plugin under test says its version is.
const PluginVersion = "v0.1.0-test"

// PluginName is the plugin's name in Vault's catalog and of its binary.
const PluginName = "vault-plugin-c1"

// buildTimeout bounds a build from a cold cache on a slow machine.
const buildTimeout = 15 * time.Minute

// repository returns the root of the main module: tests run in the directory of
// their package, somewhere below it.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "cmd", PluginName)); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("these tests run within their repository only")
		}
		dir = parent
	}
}

// builtPlugin is the plugin as built for this process.
type builtPlugin struct {
	path   string
	sha256 string
}

// Program is a main package: the directory of the module that builds it, below
// the repository's root, and the package. Tagged ones are built with the build tags
// of the plugin.
type Program struct {
	Module, Main string
	Tagged       bool
}

var (
	thePlugin   = Program{".", "./cmd/" + PluginName, true}
	gatedPlugin = Program{"e2e", "./gatedplugin", false}
)

// buildPlugin builds the plugin under test, once per process, buildGatedPlugin
// the one that asks a StorageGate, and buildPlainPlugin the plugin as it is
// released: the race detector makes it several times as slow, which is no good
// for tests of how much it can do.
var (
	buildPlugin      = sync.OnceValues(func() (*builtPlugin, error) { return build(thePlugin, PluginVersion, raceEnabled) })
	buildGatedPlugin = sync.OnceValues(func() (*builtPlugin, error) { return build(gatedPlugin, PluginVersion, raceEnabled) })
	buildPlainPlugin = sync.OnceValues(func() (*builtPlugin, error) { return build(thePlugin, PluginVersion, false) })
)

// build builds a plugin from the sources as they are, with the race detector or
// without.
func build(p Program, version string, race bool) (*builtPlugin, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "c1-plugin-")
	if err != nil {
		return nil, err
	}
	OnExit(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, PluginName)
	args := []string{"build", "-ldflags", "-s -w -X main.version=" + version, "-o", path}
	env := os.Environ()
	if race {
		args = append(args, "-race")
	} else { // as make build does, and as others build theirs
		args = append(args, "-trimpath")
		if p.Tagged {
			tags, err := os.ReadFile(filepath.Join(root, "cmd", PluginName, "tags"))
			if err != nil {
				return nil, err
			}
			args = append(args, "-tags", strings.TrimSpace(string(tags)))
		}
		env = append(env, "CGO_ENABLED=0")
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append(args, p.Main)...)
	cmd.Dir, cmd.Env = filepath.Join(root, p.Module), env
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the plugin: %w\n%s", err, out)
	}
	return pluginAt(path)
}

// pluginAt is a plugin that was built already.
func pluginAt(path string) (*builtPlugin, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return &builtPlugin{path: path, sha256: hex.EncodeToString(sum[:])}, nil
}

// Install builds another plugin, puts it beside the one under test and registers
// it as name, without a version. It returns the path of its binary.
func (s *Server) Install(name string, p Program) string {
	s.t.Helper()
	plugin, err := build(p, PluginVersion, false)
	fatalIf(s.t, err)
	path := s.path(filepath.Join("plugins", name))
	fatalIf(s.t, copyFile(plugin.path, path, 0o700))
	fatalIf(s.t, s.Root.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: name, Type: api.PluginTypeSecrets, Command: name, SHA256: plugin.sha256,
	}))
	return path
}

// InstallPlugin builds the plugin in another version, puts it beside the one
// that is there, and returns its file's name and SHA-256.
func (s *Server) InstallPlugin(version string) (command, sum string) {
	s.t.Helper()
	plugin, err := build(thePlugin, version, raceEnabled)
	fatalIf(s.t, err)
	return s.place(plugin, version), plugin.sha256
}

// place puts a version of the plugin beside the one that is there, and returns its
// file's name.
func (s *Server) place(plugin *builtPlugin, version string) (command string) {
	s.t.Helper()
	command = PluginName + "-" + version
	fatalIf(s.t, copyFile(plugin.path, s.path(filepath.Join("plugins", command)), 0o700))
	return command
}
