// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	exitTimeout       = 20 * time.Second
	pluginExitTimeout = 3 * time.Second
)

// PID returns the process ID of the Vault server.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// PluginPIDs returns the plugin processes that the server runs now.
func (s *Server) PluginPIDs() []int { return childrenOf(s.PID()) }

// KillPlugin ends every plugin process of the server with SIGKILL, and returns
// once they are gone.
func (s *Server) KillPlugin(t testing.TB) {
	t.Helper()
	pids := s.PluginPIDs()
	if len(pids) == 0 {
		t.Fatal("no plugin process to kill")
	}
	killAll(t, pids)
}

// Kill ends the server and its plugins with SIGKILL, and returns once they are
// gone.
func (s *Server) Kill() {
	s.t.Helper()
	plugins := s.PluginPIDs()
	s.signalAndWait(syscall.SIGKILL)
	killAll(s.t, plugins)
}

// Stop ends the server as an operator would. Vault ends its plugins; those that
// it leaves behind (as when it loses leadership at that moment) are ended here.
func (s *Server) Stop() {
	s.t.Helper()
	plugins := s.PluginPIDs()
	s.signalAndWait(syscall.SIGTERM)
	if err := Poll(pollEvery, pluginExitTimeout, func() error { return gone(plugins) }); err != nil {
		s.t.Logf("after the server had stopped: %v", err)
		killAll(s.t, plugins)
	}
}

func (s *Server) signalAndWait(sig os.Signal) {
	s.t.Helper()
	s.mu.Lock()
	cmd, exited := s.cmd, s.exited
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("signalling the server: %v", err)
	}
	select {
	case <-exited:
	case <-time.After(exitTimeout):
		_ = cmd.Process.Kill()
		<-exited
		if sig != syscall.SIGKILL {
			s.t.Errorf("the server did not stop within %s", exitTimeout)
		}
	}
	s.mu.Lock()
	s.cmd = nil
	s.mu.Unlock()
}

// end leaves nothing of the server running, however the tests ended.
func (in *instance) end() {
	in.mu.Lock()
	cmd, exited := in.cmd, in.exited
	in.cmd = nil
	in.mu.Unlock()
	if cmd == nil {
		return
	}
	plugins := childrenOf(cmd.Process.Pid)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(exitTimeout):
		_ = cmd.Process.Kill()
		<-exited
	}
	for _, pid := range plugins {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func killAll(t testing.TB, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("killing process %d: %v", pid, err)
		}
	}
	Eventually(t, exitTimeout, func() error { return gone(pids) })
}

// gone reports those processes that still run; a zombie does not.
func gone(pids []int) error {
	for _, pid := range pids {
		if _, ok := parentOf(pid); ok {
			return fmt.Errorf("process %d is still there", pid)
		}
	}
	return nil
}

func childrenOf(parent int) []int {
	if parent == 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var children []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if ppid, ok := parentOf(pid); ok && ppid == parent {
			children = append(children, pid)
		}
	}
	return children
}

// parentOf returns the parent of a running process.
func parentOf(pid int) (int, bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	// "pid (name) state ppid …"; the name may hold spaces and brackets.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	ppid, err := strconv.Atoi(fields[1])
	return ppid, err == nil
}
