// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestARunningConnectorComesUnderVaultAndStaysLoggedIn(t *testing.T) {
	t.Parallel()
	for _, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			e.Tenant.SetSemantics(semantics)
			connector := e.Tenant.Connector()
			running := e.Tenant.RotateConnector(connector)
			p := startConnector(t, e, running)

			bindScheduled(e, "github", connector, object{
				"rotation_period": shortestPeriod, "grace_period": "5s", "skip_initial_rotation": true,
			})
			_, err := e.Read("connector-creds/github")
			requireRefused(t, err, 400, "no material yet")
			_, err = e.Write("connectors/github/adopt", object{
				"client_id": running.ClientID, "client_secret": e.Tenant.Identity().ClientSecret, "credential_id": running.ID, "login": true,
			})
			requireRefused(t, err, 400, "C1 does not accept this client_secret")
			before := time.Now()
			stdout, stderr, code := e.CLI(running.ClientSecret, "write", "-format=json", e.Path("connectors/github/adopt"),
				"client_id="+running.ClientID, "client_secret=-", "credential_id="+running.ID, "login=true")
			require.Zero(t, code, stderr)
			e.Collect("what the command printed", []byte(stdout))
			require.Zero(t, rotations(e), "nothing was rotated")
			next := parseTime(t, e.MustRead("connectors/github").Data["next_rotation"])
			require.False(t, next.Before(before.Add(earliest).Truncate(time.Second)), "counted from the adoption: %s", next)

			read := e.MustRead("connector-creds/github")
			require.EqualValues(t, 1, integer(t, read.Data["version"]))
			require.Equal(t, running.ClientSecret, read.Data["client_secret"], "the one that runs")
			require.NoError(t, complete(read))
			p.reads.Store(true) // from now on it is given its credential by Vault
			requireHealthy(t, e)

			vaulttest.Eventually(t, time.Until(next)+begins+requestTimeout, func() error {
				if version := integer(t, e.MustRead("connector-creds/github").Data["version"]); version < 2 {
					return fmt.Errorf("version %d", version)
				}
				return nil
			})
			require.Equal(t, 1, rotations(e))
			require.False(t, time.Now().Before(next))
			vaulttest.Eventually(t, time.Minute, func() error {
				if ids := alive(e); len(ids) != 1 || ids[0] == running.ID {
					return fmt.Errorf("alive: %v", ids)
				}
				return nil
			})
			stays := e.MustRead("connector-creds/github")
			require.NoError(t, e.Login(stays))
			require.NoError(t, p.stop())
			records := e.Records("connectors/github")
			require.Equal(t, "schedule", records[0]["reason"])
			require.Equal(t, "adopt", records[1]["reason"])
			require.Equal(t, running.ID, records[1]["credential_id"])
			requireHealthy(t, e)
		})
	}
}

// connectorProcess is a connector that logs in and calls C1 all the time: with the
// credential that it was started with, and later with what it reads from Vault.
type connectorProcess struct {
	reads atomic.Bool
	stop  func() error
}

func startConnector(t *testing.T, e *vaulttest.Engine, c c1test.Credential) *connectorProcess {
	t.Helper()
	p := &connectorProcess{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	token, err := e.Tenant.LoginToken(ctx, c.ClientID, c.ClientSecret)
	require.NoError(t, err)
	go func() { ended <- p.run(ctx, e, c, token) }()
	p.stop = func() error {
		cancel()
		return <-ended
	}
	return p
}

func (p *connectorProcess) run(ctx context.Context, e *vaulttest.Engine, c c1test.Credential, token string) error {
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for calls := 0; ; calls++ {
		select {
		case <-ctx.Done():
			if calls == 0 {
				return errors.New("it never called C1")
			}
			return nil
		case <-every.C:
		}
		if err := e.Tenant.UseToken(context.Background(), token); err != nil {
			return fmt.Errorf("call %d: %w", calls, err)
		}
		if !p.reads.Load() {
			if err := e.Tenant.Login(context.Background(), c.ClientID, c.ClientSecret); err != nil {
				return fmt.Errorf("the credential that it was started with: %w", err)
			}
			continue
		}
		fresh, err := p.loginFromVault(e)
		if err != nil {
			return err
		}
		token = fresh
	}
}

// loginFromVault logs in with what Vault holds. A rotation may come between the read and
// the login: then there is a newer version.
func (p *connectorProcess) loginFromVault(e *vaulttest.Engine) (token string, err error) {
	for range 50 {
		read, failed := e.Read("connector-creds/github")
		if failed != nil {
			return "", failed
		}
		id, _ := read.Data["client_id"].(string)
		secret, _ := read.Data["client_secret"].(string)
		if token, err = e.Tenant.LoginToken(context.Background(), id, secret); err == nil {
			return token, nil
		}
	}
	return "", fmt.Errorf("the credential that Vault holds: %w", err)
}
