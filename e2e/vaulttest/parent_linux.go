// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"os/exec"
	"syscall"
)

// EndWithUs has a process told to stop when the tests die without cleaning up,
// as they do when they run into their timeout.
func EndWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
