// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

//go:build !unix

package c1test

import (
	"errors"
	"net"
)

// heldPort is there on Unix only: elsewhere a port that is down may be lost.
type heldPort struct{}

func holdPort(string) (*heldPort, error) { return nil, errors.ErrUnsupported }

func (*heldPort) listen() (net.Listener, error) { return nil, errors.ErrUnsupported }

func (*heldPort) close() {}
