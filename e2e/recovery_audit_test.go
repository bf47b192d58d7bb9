// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// TestRecoveryAnswerThatCannotBeAudited: Vault keeps an answer back that it
// cannot audit, after the engine has rotated and the lease was made.
func TestRecoveryAnswerThatCannotBeAudited(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{NoAudit: true})
	sites := newSites(t, server, []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint})
	sink := newAuditSink(t)
	require.NoError(t, server.Root.Sys().EnableAuditWithOptions("socket", &api.EnableAuditOptions{
		Type: "socket", Options: map[string]string{"address": sink.address, "socket_type": "tcp", "write_timeout": "1s"},
	}))
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			if s.isDecoy() {
				s.bind(map[string]any{"on_lease_end": "rotate"})
			}
			u := s.vendAndHold(t.Context(), t, c1test.AfterCommit, server.Root)
			sink.close()
			u.barrier.Release()
			err := u.wait(t)
			require.Equal(t, http.StatusInternalServerError, statusOf(err), "%v", err)
			sink.open()

			var leases []string
			vaulttest.Eventually(t, 20*time.Second, func() error { // until Vault has connected again
				secret, err := server.Root.Logical().ListWithContext(t.Context(), "sys/leases/lookup/"+s.credsPath())
				if err != nil {
					return err
				}
				require.NotNil(t, secret, "the lease is gone, and nobody can revoke what was minted")
				return convert(secret.Data["keys"], &leases)
			})
			require.Len(t, leases, 1)
			require.Equal(t, []string{"issued"}, s.outcomes(t))
			issued := s.history(t)[0]
			minted := vended{Version: 1, CredentialID: issued.CredentialID, Fingerprint: issued.Fingerprint}
			s.requireHealthy(t, minted)

			require.NoError(t, server.Root.Sys().Revoke(s.credsPath()+"/"+leases[0]))
			require.False(t, s.alive(minted))
			require.Empty(t, s.leases(t))
		})
	}
}

// auditSink is where a socket audit device writes to, and can go away.
type auditSink struct {
	t       *testing.T
	address string

	mu          sync.Mutex
	listener    net.Listener
	connections []*net.TCPConn
}

func newAuditSink(t *testing.T) *auditSink {
	sink := &auditSink{t: t, address: "127.0.0.1:0"}
	sink.open()
	t.Cleanup(sink.close)
	return sink
}

// open listens, on the same port as before.
func (a *auditSink) open() {
	a.t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", a.address)
	require.NoError(a.t, err)
	a.mu.Lock()
	a.listener, a.address = listener, listener.Addr().String()
	a.mu.Unlock()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.connections = append(a.connections, connection.(*net.TCPConn))
			a.mu.Unlock()
			go func() { _, _ = io.Copy(io.Discard, connection) }()
		}
	}()
}

// close resets every connection, so that Vault's next write fails at once.
func (a *auditSink) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.listener.Close()
	for _, connection := range a.connections {
		_ = connection.SetLinger(0)
		_ = connection.Close()
	}
	a.connections = nil
}
