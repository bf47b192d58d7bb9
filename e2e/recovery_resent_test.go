// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// TestRecoveryRequestThatVaultSendsAgainDoesNotRotateAgain: when a plugin dies,
// Vault answers its requests 500 or sends them again, as it happens to learn of
// the death. Behind each request that C1 holds, another one waits for the same
// target, and may come first then.
func TestRecoveryRequestThatVaultSendsAgainDoesNotRotateAgain(t *testing.T) {
	t.Parallel()
	const (
		mount    = "c1"
		bindings = 32
		deaths   = 20       // at most
		enough   = bindings // requests that Vault sent again
	)
	// On one processor Vault most often knows that the plugin is gone by the time
	// it looks at what has become of the requests.
	server := startServer(t, vaulttest.Options{Env: []string{"GOMAXPROCS=1"}})
	c1 := server.Emulator(c1test.Options{}).Default()
	server.Mount(mount)
	server.Configure(mount, c1, map[string]any{"max_concurrent_requests": 2 * bindings, "history_limit": 200})
	var sites []*site
	for i := range bindings {
		s := &site{
			subject: overlappingConnector, server: server, c1: c1, mount: mount, connector: c1.NewConnector("one of many"),
			binding: fmt.Sprintf("app-%d", i),
		}
		s.bind(nil)
		sites = append(sites, s)
	}
	vends := []string{`"type":"request"`, `"path":"` + mount + `/connector-creds/`}
	resent := 0
	for range deaths {
		if resent >= enough {
			break
		}
		passed := audited(server, vends...)
		answers := make(chan error, 2*bindings)
		vend := func(s *site) {
			_, err := s.vend(t.Context())
			answers <- err
		}
		barrier := c1.HoldNext(c1test.OpRotateConnector, "", c1test.AfterCommit, bindings)
		for _, s := range sites {
			go vend(s)
		}
		select {
		case <-barrier.Arrived():
		case <-time.After(20 * time.Second):
			t.Fatalf("only %d of %d rotations reached C1", barrier.Held(), bindings)
		}
		for _, s := range sites {
			go vend(s)
		}
		untilAudited(t, server, passed+2*bindings, vends...)
		server.KillPlugin(t)
		for range 2 * bindings {
			switch err := <-answers; statusOf(err) {
			case http.StatusConflict:
				require.ErrorContains(t, err, "its answer was lost")
				resent++
			case http.StatusInternalServerError:
			default:
				require.NoError(t, err)
			}
		}
		barrier.Release()
		untilBack(t, sites)
	}
	t.Logf("Vault sent %d requests again", resent)
	require.NotZero(t, resent, "nothing was shown: Vault sent no request again")
	var healed []vended
	for _, s := range sites {
		noRequestRotatedTwice(t, s)
		s.agreesWithJournal(t, nil)
		healed = append(healed, s.mustVend(t))
	}
	// They share a mount, so none is healthy before the last one is.
	for i, s := range sites {
		s.requireHealthy(t, healed[i])
	}
}
