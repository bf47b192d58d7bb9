// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// listener serves one tenant on one port, and can be taken down and brought
// back on the same port.
type listener struct {
	handler http.Handler
	tls     *authority // nil for plain HTTP
	addr    string     // the address in use, port included

	mu     sync.Mutex
	server *http.Server // nil while down
	socket net.Listener
	held   *heldPort // the port while down, where it can be held
}

func listen(addr string, ca *authority, h http.Handler) (*listener, error) {
	l := &listener{handler: h, tls: ca, addr: addr}
	return l, l.start()
}

func (l *listener) start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		return nil
	}
	socket, err := l.listen()
	if err != nil {
		return fmt.Errorf("listen for C1 requests: %w", err)
	}
	l.addr = socket.Addr().String()
	server := &http.Server{
		Handler:           l.handler,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // faults break connections on purpose
	}
	serve := func() error { return server.Serve(socket) }
	if l.tls != nil {
		server.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{l.tls.server},
			MinVersion:   tls.VersionTLS12,
		}
		serve = func() error { return server.ServeTLS(socket, "", "") }
	}
	l.server, l.socket = server, socket
	go func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			_ = server.Close()
		}
	}()
	return nil
}

// stop closes the port and every connection. Handlers under way go on, as C1
// would: what they commit stays committed.
func (l *listener) stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == nil {
		return nil
	}
	server := l.server
	l.server = nil
	err := server.Close()
	_ = l.socket.Close() // in case the server had not begun to serve it
	if held, failed := holdPort(l.addr); failed == nil {
		l.held = held // or it may be somebody else's when the tenant comes up again
	}
	return err
}

// listen takes the port, which is the same one each time.
func (l *listener) listen() (net.Listener, error) {
	if held := l.held; held != nil {
		l.held = nil
		return held.listen()
	}
	var config net.ListenConfig
	return config.Listen(context.Background(), "tcp", l.addr)
}

// close is stop for good: it gives the port up.
func (l *listener) close() error {
	err := l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.held.close()
		l.held = nil
	}
	return err
}

// withPortZero returns addr with port 0, for the second and later tenants.
func withPortZero(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr // Listen will say what is wrong with it
	}
	return net.JoinHostPort(host, "0")
}

// publicHost returns host:port as a client would write it: the configured name
// with the port in use, and loopback for "any address".
func publicHost(configured, inUse string) string {
	host, _, _ := net.SplitHostPort(configured)
	_, port, _ := net.SplitHostPort(inUse)
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
