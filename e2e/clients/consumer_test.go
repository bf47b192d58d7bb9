// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

// requireOneConsumer checks, before the client is stopped, that it has left no earlier
// consumer running and that the last one's arguments hold no secret. So it has to be
// called after the client was started.
func (s *story) requireOneConsumer() {
	s.t.Cleanup(func() {
		s.t.Helper()
		lines, err := s.reported()
		require.NoError(s.t, err)
		stopped := map[int]bool{}
		for _, l := range lines {
			stopped[l.PID] = l.Said == "stopped"
		}
		last := lines[len(lines)-1].PID
		for pid, has := range stopped {
			require.Equal(s.t, pid != last, has, "whether process %d has stopped; the last one is %d", pid, last)
		}
		arguments, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(last), "cmdline"))
		require.NoError(s.t, err)
		require.NotEmpty(s.t, arguments)
		s.Collect("the consumer's arguments", arguments)
	})
}

// consumerScript is an executable that starts the consumer, for a client that gives it
// no arguments. No path of a test has a character that means something to a shell.
func (s *story) consumerScript() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "baton-okta")
	require.NoError(s.t, os.WriteFile(path, []byte("#!/bin/sh\nexec "+strings.Join(s.consumerCommand(), " ")+"\n"), 0o700))
	return path
}

// replace replaces what must be there.
func (s *story) replace(text string, pairs ...string) string {
	s.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(s.t, text, pairs[i])
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// building returns what builds a program of this module, once per process.
func building(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "c1-"+name+"-")
		if err != nil {
			return "", err
		}
		vaulttest.OnExit(func() { _ = os.RemoveAll(dir) })
		program := filepath.Join(dir, name)
		//nolint:noctx // as long as it takes
		if out, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
		return program, nil
	})
}
