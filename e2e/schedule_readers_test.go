// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// patience is the request_timeout of those mounts whose rotations are held, or
// whose machine is busy, for longer than the tests' ordinary one.
const patience = 30 * time.Second

var patient = object{"request_timeout": patience.String()}

// received counts the requests for a path that plugins have taken from Vault.
func received(e *vaulttest.Engine, path string) int {
	return strings.Count(e.ServerLog(), "handle request: transport=gRPC path="+path+" status=started")
}

// material is what belongs together in one answer.
type material struct{ clientID, clientSecret, credentialID, fingerprint string }

func materialOf(vended *api.Secret) material {
	d := vended.Data
	return material{text(d["client_id"]), text(d["client_secret"]), text(d["credential_id"]), text(d["fingerprint_sha256"])}
}

// sightings are what readers saw, version by version.
type sightings struct {
	mu   sync.Mutex
	seen map[int]material
}

// add reports an answer that is not complete, older than one that this reader
// has seen before, or not what others saw of the same version.
func (s *sightings) add(vended *api.Secret, newest int) (int, error) {
	version := number(vended.Data["version"])
	if err := complete(vended); err != nil {
		return 0, fmt.Errorf("version %d: %w", version, err)
	}
	if version < newest {
		return 0, fmt.Errorf("version %d after version %d", version, newest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	got := materialOf(vended)
	if known, ok := s.seen[version]; ok && known != got {
		return 0, fmt.Errorf("two kinds of version %d", version)
	}
	s.seen[version] = got
	return version, nil
}

// It does not run beside other tests: they would starve.
func TestManyReadersSeeTheOldOrTheNewMaterialAndNeverAMixture(t *testing.T) {
	const (
		readers = 500
		last    = 3 // version: one rotation by hand, one by the clock
	)
	e := vaulttest.New(t, vaulttest.Options{NoAudit: true})
	e.Configure(e.Mount, e.Tenant, patient)
	e.Tenant.SetSemantics(c1test.Exclusive)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: 300 * time.Millisecond})
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": shortestPeriod})
	asked := e.Tenant.Requests("")

	var (
		saw        = sightings{seen: map[int]material{}}
		group      sync.WaitGroup
		answers    atomic.Int64
		wrong      = make(chan error, readers)
		load, stop = context.WithTimeout(t.Context(), 3*shortestPeriod*time.Second)
	)
	defer stop()
	for range readers {
		client := e.Client(e.Root.Token()) // a connection of its own
		group.Go(func() {
			// Each reads until it saw the last version.
			pause := time.NewTicker(3 * time.Second)
			defer pause.Stop()
			for newest := 0; newest < last; {
				vended, err := client.Logical().ReadWithContext(load, e.Path("connector-creds/github"))
				if err == nil {
					newest, err = saw.add(vended, newest)
				}
				if err != nil {
					wrong <- err
					return
				}
				answers.Add(1)
				<-pause.C
			}
		})
	}
	vaulttest.Eventually(t, time.Minute, func() error {
		if n := answers.Load(); n < readers {
			return fmt.Errorf("%d answers to %d readers", n, readers)
		}
		return nil
	})
	e.MustWrite("connectors/github/rotate", nil)
	group.Wait()
	close(wrong)
	require.Empty(t, wrong, "%v", <-wrong)

	t.Logf("%d answers to %d readers", answers.Load(), readers)
	require.Equal(t, last, rotations(e), "nobody rotates by reading")
	require.Equal(t, asked+2, e.Tenant.Requests(""), "nothing else was asked of C1")
	for _, record := range e.Records("connectors/github") {
		m := saw.seen[number(record["version"])]
		require.Equal(t, record["fingerprint_sha256"], m.fingerprint)
		require.Equal(t, record["credential_id"], m.credentialID)
	}
	require.Len(t, saw.seen, last, "the old version and the new ones")
	require.NoError(t, e.Tenant.Login(t.Context(), saw.seen[last].clientID, saw.seen[last].clientSecret))
	require.Error(t, e.Tenant.Login(t.Context(), saw.seen[last-1].clientID, saw.seen[last-1].clientSecret))
	requireHealthy(t, e)
}

func TestCallersThatRotateAtTheSameTimeShareOneRotation(t *testing.T) {
	t.Parallel()
	const callers = 50
	e := vaulttest.OnShared(t)
	e.Configure(e.Mount, e.Tenant, patient)
	bindScheduled(e, "coalesced", e.Tenant.Connector(), object{"rotation_period": "24h"})
	require.Equal(t, 1, rotations(e))
	before := e.Tenant.Requests("")

	barrier := e.Tenant.Hold(c1test.OpRotateConnector, c1test.BeforeCommit)
	answers := make(chan *api.Secret, callers)
	failures := make(chan error, callers)
	call := func(i int) {
		path := "connector-creds/coalesced"
		if i%2 == 1 {
			path = "connectors/coalesced/rotate"
		}
		answer, err := e.Client(e.Root.Token()).Logical().WriteWithContext(t.Context(), e.Path(path), nil)
		if err != nil {
			failures <- err
			return
		}
		answers <- answer
	}
	var group sync.WaitGroup
	group.Go(func() { call(0) })
	<-barrier.Arrived()
	for i := range callers - 1 {
		group.Go(func() { call(i + 1) })
	}
	// The engine has them when it says so, and a moment later they wait.
	vaulttest.Eventually(t, patience/2, func() error {
		if n := received(e, "connector-creds/coalesced") + received(e, "connectors/coalesced/rotate"); n < callers {
			return fmt.Errorf("%d of %d callers have come", n, callers)
		}
		return nil
	})
	until(time.Now().Add(2 * time.Second))
	barrier.Release()
	group.Wait()
	close(answers)
	close(failures)
	require.Empty(t, failures, "%v", <-failures)

	require.Equal(t, 2, rotations(e), "one rotation for all of them")
	require.Equal(t, before+1, e.Tenant.Requests(""))
	current := e.MustRead("connector-creds/coalesced")
	alone := 0
	for answer := range answers {
		require.EqualValues(t, 2, integer(t, answer.Data["version"]))
		require.Equal(t, current.Data["credential_id"], answer.Data["credential_id"])
		require.Equal(t, current.Data["fingerprint_sha256"], answer.Data["fingerprint_sha256"])
		told := strings.Contains(strings.Join(answer.Warnings, "\n"), "shared")
		if shared, isRotate := answer.Data["shared"]; isRotate {
			require.NotContains(t, answer.Data, "client_secret")
			told = told || shared == true
		} else {
			require.Equal(t, current.Data["client_secret"], answer.Data["client_secret"])
		}
		if !told {
			alone++
		}
	}
	require.Equal(t, 1, alone, "everybody but the first is told that the rotation was shared")
	require.Len(t, e.Records("connectors/coalesced"), 2)
	requireHealthy(t, e)
}

// The clock's own rotation is shared by whoever asks for one meanwhile.
func TestWhoRotatesWhileTheScheduleDoesSharesItsRotation(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.Configure(e.Mount, e.Tenant, patient)
	bindScheduled(e, "coalesced-with-the-clock", e.Tenant.Connector(), object{"rotation_period": shortestPeriod})
	due := parseTime(t, e.MustRead("connectors/coalesced-with-the-clock").Data["next_rotation"])
	barrier := e.Tenant.Hold(c1test.OpRotateConnector, c1test.BeforeCommit)
	select {
	case <-barrier.Arrived():
	case <-time.After(time.Until(due) + begins):
		t.Fatal("the rotation did not begin in time")
	}
	require.Equal(t, "rotating", e.MustRead("connectors/coalesced-with-the-clock").Data["state"])
	require.EqualValues(t, 1, integer(t, e.MustRead("connector-creds/coalesced-with-the-clock").Data["version"]), "readers do not wait")

	answer := make(chan *api.Secret, 1)
	failure := make(chan error, 1)
	go func() {
		shared, err := e.Write("connectors/coalesced-with-the-clock/rotate", nil)
		failure <- err
		answer <- shared
	}()
	vaulttest.Eventually(t, patience/2, func() error {
		if received(e, "connectors/coalesced-with-the-clock/rotate") == 0 {
			return errors.New("the caller has not come yet")
		}
		return nil
	})
	until(time.Now().Add(time.Second))
	barrier.Release()
	require.NoError(t, <-failure)
	shared := <-answer
	require.Equal(t, true, shared.Data["shared"])
	require.EqualValues(t, 2, integer(t, shared.Data["version"]))
	require.Equal(t, 2, rotations(e))
	require.Equal(t, "schedule", e.Records("connectors/coalesced-with-the-clock")[0]["reason"])
	requireHealthy(t, e)
}
