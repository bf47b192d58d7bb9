// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionProcess = "The plugin as a process"
	processRival   = "KV v2, external"
	processMounts  = 50
	processKV      = "kv-external"
)

// processSide is a plugin on a server of its own, with all of its mounts.
type processSide struct {
	server *vaulttest.Server
	binary string
	since  time.Time // when the last mount was done
}

// BenchmarkProcess measures what the plugin takes from its host before anybody
// asks it for anything: the time to start, disk and memory.
func BenchmarkProcess(b *testing.B) {
	// Past a minute's tick of Vault and the idle connections to C1; in full, also
	// past the collection that Go forces on a process after two idle minutes.
	starts, settle := 20, 65*time.Second
	if *full {
		starts, settle = 40, 150*time.Second
	}
	ours, theirs := processOurs(b), processTheirs(b)

	processCompare(b, "size of the binary", "MB", 1,
		alternate(b, 1, ours.size, theirs.size))
	processCompare(b, "cold start: from exec to the handshake", "ms", 1,
		alternate(b, starts, ours.coldStart(b), theirs.coldStart(b)))
	<-time.After(time.Until(theirs.since.Add(settle)))
	processCompare(b, fmt.Sprintf("memory (RSS), idle with %d mounts", processMounts), "MiB", 1.2,
		alternate(b, 3, ours.memory, theirs.memory))
	note(report.Note{
		Section: sectionProcess,
		Text: fmt.Sprintf("Both are built with the same flags, ours also with tags that leave out what no plugin calls of the libraries that the SDK links (`TAGS` in the Makefile). "+
			"Both run one process for all mounts. Each of our %d mounts is configured and has one scheduled binding; each of KV's holds one secret. Memory is read %s after the last of them was written. The cold start is that of the binary alone, with the environment that Vault gives it.",
			processMounts, settle),
	})
}

func processCompare(b *testing.B, measure, unit string, most float64, samples []report.Sample) {
	b.Helper()
	b.Logf("%s: ours %.4g, theirs %.4g %s", measure, samples[0], samples[1], unit)
	compare(report.Comparison{
		Section: sectionProcess, Measure: measure, Unit: unit,
		Ours: samples[0], Rival: processRival, Theirs: samples[1], Goal: &report.Goal{AtMost: most},
	})
}

func processOurs(b *testing.B) *processSide {
	b.Helper()
	s := vaulttest.Start(b, vaulttest.Options{Measure: true, NoAudit: true})
	s.RegisterPlugin()
	tenant := s.Emulator(c1test.Options{}).Default()
	for i := range processMounts {
		mount := fmt.Sprintf("c1-%d", i)
		s.Mount(mount)
		s.Configure(mount, tenant, nil)
		s.BindConnector(mount, "idle", tenant.NewConnector(mount), map[string]any{"rotate_on": "schedule", "rotation_period": "24h"})
	}
	return &processSide{server: s, binary: filepath.Join(s.Dir(), "plugins", vaulttest.PluginName), since: time.Now()}
}

func processTheirs(b *testing.B) *processSide {
	b.Helper()
	s := vaulttest.Start(b, vaulttest.Options{Measure: true, NoAudit: true})
	binary := s.Install(processKV, vaulttest.Program{
		Module: "e2e/bench", Main: "github.com/hashicorp/vault-plugin-secrets-kv/cmd/vault-plugin-secrets-kv",
	})
	for i := range processMounts {
		mount := fmt.Sprintf("kv-%d", i)
		err := s.Root.Sys().Mount(mount, &api.MountInput{Type: processKV})
		if err == nil {
			// Vault takes the version of an external plugin here only.
			err = s.Root.Sys().TuneMountAllowNil(mount, api.TuneMountConfigInput{Options: &map[string]string{"version": "2"}})
		}
		if err != nil {
			b.Fatal(err)
		}
		// A new mount refuses writes until it has become one of version 2.
		vaulttest.Eventually(b, 10*time.Second, func() error {
			answer, err := s.Root.Logical().Write(mount+"/data/idle", map[string]any{
				"data": map[string]any{"client_id": "idle", "client_secret": strings.Repeat("s", 64)},
			})
			if err == nil && (answer == nil || answer.Data["version"] == nil) {
				err = errors.New("it answers as version 1")
			}
			return err
		})
	}
	return &processSide{server: s, binary: binary, since: time.Now()}
}

func (p *processSide) size(b *testing.B) float64 {
	b.Helper()
	info, err := os.Stat(p.binary)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size()) / 1e6
}

// coldStart returns what measures one start of the binary, with the environment
// of the process that Vault runs, in milliseconds.
func (p *processSide) coldStart(b *testing.B) func(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pids(b)[0]), "environ"))
	if err != nil {
		b.Fatal(err)
	}
	// Killed, it leaves its socket behind.
	env := append(strings.Split(strings.Trim(string(raw), "\x00"), "\x00"), "TMPDIR="+b.TempDir(), "PLUGIN_UNIX_SOCKET_DIR=")
	return func(b *testing.B) float64 {
		b.Helper()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(b.Context(), p.binary)
		cmd.Env, cmd.Stderr = env, &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		took := time.Since(began)
		_ = cmd.Process.Kill() // it serves until then
		_ = cmd.Wait()
		if fields := strings.Split(line, "|"); err != nil || len(fields) < 5 || fields[4] != "grpc" {
			b.Fatalf("no handshake but %q: %v\n%s", line, err, stderr.String())
		}
		return took.Seconds() * 1000
	}
}

func (p *processSide) pids(b *testing.B) []int {
	b.Helper()
	pids := p.server.PluginPIDs()
	if len(pids) == 0 {
		b.Fatal("the server runs no plugin")
	}
	return pids
}

// memory is what all processes of the plugin hold, in MiB.
func (p *processSide) memory(b *testing.B) float64 {
	b.Helper()
	<-time.After(time.Second)
	var mib float64
	for _, pid := range p.pids(b) {
		mib += residentMemory(b, pid)
	}
	return mib
}
