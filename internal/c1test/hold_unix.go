// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

//go:build unix

package c1test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// heldPort is a port that nobody listens on, so that whoever connects is refused,
// and that the system gives to nobody else who asks for any free one.
type heldPort struct{ file *os.File }

// holdPort binds an address without listening on it.
func holdPort(addr string) (*heldPort, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("hold the port: %w", err)
	}
	family, where := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, where = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("hold the port: %w", err)
	}
	file := os.NewFile(uintptr(fd), "held port")
	syscall.CloseOnExec(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, where)
		if err == nil {
			return &heldPort{file}, nil
		}
	}
	_ = file.Close()
	return nil, fmt.Errorf("hold the port %s", addr)
}

// listen begins to listen on the port, which is held no longer.
func (h *heldPort) listen() (net.Listener, error) {
	defer h.close()
	connection, err := h.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var listening error
	if err := connection.Control(func(fd uintptr) { listening = syscall.Listen(int(fd), syscall.SOMAXCONN) }); err != nil {
		return nil, err
	}
	if listening != nil {
		return nil, listening
	}
	return net.FileListener(h.file)
}

func (h *heldPort) close() { _ = h.file.Close() }
