// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package vaulttest

import "os/exec"

func EndWithUs(*exec.Cmd) {}
