// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const cliTimeout = 2 * time.Minute

// CLI runs the server's own command line with the root token, and returns what it
// printed and its exit code.
func (s *Server) CLI(stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return s.CLIAs(s.rootToken, stdin, args...)
}

// CLIAs is CLI with another token.
func (s *Server) CLIAs(token, stdin string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cliTimeout)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, s.product.Path, args...)
	cmd.Dir = s.dir
	cmd.Env = s.environment(token)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("running %s: %v", s.product.CLI(), err)
	}
	s.Collect("standard error of "+s.product.CLI()+" "+args[0], errs.Bytes())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Shell runs commands as a guide that is written for Vault gives them: with the
// product's own command line on PATH, the root token, and nothing of the caller's. It
// returns what they printed.
func (s *Server) Shell(dir, commands string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cliTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", s.product.Commands(commands))
	cmd.Dir = dir
	cmd.Env = s.environment(s.rootToken, "PATH="+s.product.OnPath(s.t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// StartAgent runs a Vault Agent with agent.hcl in a directory until the test
// ends. What it prints is searched for secrets.
func (s *Server) StartAgent(dir string) {
	s.t.Helper()
	s.StartProgram("the Agent", dir, nil, s.product.Path, "agent", "-config=agent.hcl", "-log-level=trace")
}

// StartProgram runs a client of this server in a directory until the test ends, with
// NAME=value for its environment. What it prints, its arguments and its environment
// are searched for secrets.
func (s *Server) StartProgram(what, dir string, env []string, command ...string) {
	s.t.Helper()
	log := &lockedBuffer{}
	//nolint:noctx // ended by the cleanup
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = s.environment("", env...)
	cmd.Stdout, cmd.Stderr = log, log
	EndWithUs(cmd)
	fatalIf(s.t, cmd.Start())
	OnExit(func() { _ = cmd.Process.Kill() })
	s.t.Cleanup(func() {
		s.t.Helper()
		s.searchProcess(cmd.Process.Pid)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(exitTimeout, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // whether it stopped in order is not what this is about
		timer.Stop()
		s.Collect("the log of "+what, log.bytes())
		if s.t.Failed() {
			s.t.Logf("end of the log of %s:\n%s", what, tail(string(log.bytes())))
		}
	})
}

// searchProcess has a process's arguments and environment searched for secrets.
func (s *Server) searchProcess(pid int) {
	for _, out := range processes([]int{pid}) {
		s.Collect(out.where, out.text)
	}
}

// environment is what Vault's programs get to know, and nothing of the caller's.
func (in *instance) environment(token string, more ...string) []string {
	env := append([]string{"HOME=" + in.path("home"), "PATH=" + os.Getenv("PATH")}, in.product.Environment(in.addr, token)...)
	return append(env, more...)
}

// lockedBuffer takes what a process prints while others read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
