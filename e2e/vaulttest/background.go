// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Background is a program that the tests of this process share. It runs until the
// process ends, whichever test has started it.
type Background struct {
	cmd    *exec.Cmd
	log    *lockedBuffer
	exited chan struct{}
}

// StartBackground starts a program in a directory, with NAME=value and PATH for its
// environment.
func StartBackground(dir string, env []string, command ...string) (*Background, error) {
	//nolint:noctx // it outlives the test that starts it
	cmd := exec.Command(command[0], command[1:]...)
	b := &Background{cmd: cmd, log: &lockedBuffer{}, exited: make(chan struct{})}
	cmd.Dir = dir
	cmd.Env = append([]string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	EndWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // the log tells why
		close(b.exited)
	}()
	OnExit(b.end)
	return b, nil
}

// PID returns the program's process ID.
func (b *Background) PID() int { return b.cmd.Process.Pid }

// Log returns what the program has printed so far.
func (b *Background) Log() []byte { return b.log.bytes() }

// Exited is closed when the program has ended.
func (b *Background) Exited() <-chan struct{} { return b.exited }

func (b *Background) end() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.exited:
	case <-time.After(exitTimeout):
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
}
