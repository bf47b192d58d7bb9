// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// storm is what a return after an outage is: everything is overdue at once.
const (
	stormBindings = 10_000
	stormLeased   = 3 // and these are read meanwhile, with rotate_on=read
	stormWorkers  = 16
	stormRate     = 150 // requests per second that C1 is to see at most
	// probesPerMinute is what C1 may be asked in a minute in which it only fails.
	probesPerMinute = 12
	// outageWatched is how long its requests are counted, once the first few that
	// told the engine about the outage are through.
	outageWatched = time.Minute
	foundOut      = 10 * time.Second
	// overdueAfter is how long after its time a rotation counts as overdue.
	overdueAfter = 10 * time.Second
)

// The bindings are due once, at a minute of their own, and the next day again:
// what is drained stays drained, and the order of the drain can be told.
//
// It does not run beside other tests: they would starve.
func TestAnOutageOfTenThousandBindingsDrainsInOrderWithinTheLimits(t *testing.T) {
	e := vaulttest.New(t, vaulttest.Options{NoAudit: true, NoRace: true})
	e.Configure(e.Mount, e.Tenant, object{
		"request_timeout": "10s", "max_requests_per_second": stormRate, "rotation_workers": stormWorkers,
	})
	interactive := bindInteractive(t, e)

	e.Tenant.SetDown(true)
	due, last := bindStorm(t, e)
	watchOutage(t, e)
	until(last.Add(overdueAfter + time.Second))
	status := e.MustRead("status").Data
	// The leased ones may still wait for the look that follows each rotation, and the
	// mount's own credential for its first one.
	require.InDelta(t, stormBindings, integer(t, status["overdue"]), stormLeased+1)
	require.Equal(t, false, status["healthy"])
	require.NotEmpty(t, status["paused_reason"])
	require.NotEmpty(t, status["paused_until"])
	require.NotEmpty(t, status["oldest_overdue"])
	require.Zero(t, committedOf(e.Tenant, due), "C1 has carried out none of them")

	e.Tenant.ClearFaults()
	e.Tenant.SetDown(false)
	back := time.Now()
	load := startInteractive(t, e, interactive)
	eventuallyWithin(t, 6*time.Minute, func() error {
		if n := committedOf(e.Tenant, due); n < stormBindings {
			return fmt.Errorf("%d of %d have rotated", n, stormBindings)
		}
		return nil
	})
	load.stop(t)
	drained := rotated(e.Tenant)
	t.Logf("drained within %s of C1's return; the first rotation came %s after it", time.Since(back).Round(time.Second),
		firstOf(drained, due).Sub(back).Round(100*time.Millisecond))

	requireWithinRate(t, e)
	requireOldestFirst(t, e, due)
	requireAllWell(t, e, due)
}

// bindInteractive binds what people and programs read meanwhile.
func bindInteractive(t *testing.T, e *vaulttest.Engine) []string {
	t.Helper()
	var names []string
	for i := range stormLeased {
		name := fmt.Sprintf("interactive-%d", i)
		e.BindConnector(e.Mount, name, e.Tenant.NewConnector(name), nil)
		require.NoError(t, e.Login(e.MustRead("connector-creds/"+name)))
		names = append(names, name)
	}
	return names
}

// bindStorm binds the connectors, each due at a full minute soon, and returns
// that minute by connector, and the last of them.
func bindStorm(t *testing.T, e *vaulttest.Engine) (due map[string]time.Time, last time.Time) {
	t.Helper()
	var clients []*api.Client
	for range 2 * stormWorkers {
		clients = append(clients, e.Client(e.Root.Token()))
	}
	var mu sync.Mutex
	due = map[string]time.Time{}
	started := time.Now()
	require.NoError(t, inParallel(len(clients)/2, stormBindings, func(i int) error {
		ref := e.Tenant.NewConnector(fmt.Sprintf("Connector %d", i))
		at := time.Now().Add(5 * time.Second).Truncate(time.Minute).Add(time.Minute).UTC()
		if i >= stormBindings/2 {
			at = at.Add(time.Minute) // on a fast machine all are made within one
		}
		_, err := clients[i%len(clients)].Logical().WriteWithContext(t.Context(), e.Path(fmt.Sprintf("connectors/s%05d", i)), scheduled(object{
			"app_id": ref.AppID, "connector_id": ref.ConnectorID, "verify": false, "skip_initial_rotation": true,
			"rotation_schedule": fmt.Sprintf("%d %d * * *", at.Minute(), at.Hour()),
		}))
		mu.Lock()
		defer mu.Unlock()
		due[ref.ConnectorID] = at
		if at.After(last) {
			last = at
		}
		return err
	}))
	minutes := map[time.Time]int{}
	for _, at := range due {
		minutes[at]++
	}
	t.Logf("%d bindings made in %s, due in %d minutes: %v", stormBindings, time.Since(started).Round(time.Second), len(minutes), minutes)
	return due, last
}

// watchOutage has C1 answer everything with errors, and counts what reaches it
// while more and more is overdue.
func watchOutage(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	eventuallyWithin(t, 2*time.Minute, func() error {
		if n := number(e.MustRead("status").Data["overdue"]); n < stormBindings/4 {
			return fmt.Errorf("only %d are overdue", n)
		}
		return nil
	})
	e.Tenant.AddFault(c1test.Fault{Status: 500})
	e.Tenant.SetDown(false)
	before := e.Tenant.Requests("")
	until(time.Now().Add(foundOut))
	settledBy := e.Tenant.Requests("")
	overdue := number(e.MustRead("status").Data["overdue"])
	until(time.Now().Add(outageWatched))
	asked := e.Tenant.Requests("") - settledBy
	t.Logf("with %d overdue, C1 was asked %d times in the first %s of its errors, and %d times in the %s after", overdue, settledBy-before, foundOut, asked, outageWatched)
	require.LessOrEqual(t, asked, probesPerMinute, "a handful of probes per minute, whatever waits")
	require.Positive(t, asked+settledBy-before, "nobody would find out that C1 is back")
	e.Tenant.SetDown(true)
}

// interactiveLoad are readers of bindings with rotate_on=read.
type interactiveLoad struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu        sync.Mutex
	latencies []time.Duration
	failures  []error
}

func startInteractive(t *testing.T, e *vaulttest.Engine, names []string) *interactiveLoad {
	t.Helper()
	// The engine finds out by itself that C1 is back, within a probe or two.
	vaulttest.Eventually(t, 45*time.Second, func() error {
		_, err := e.Read("connector-creds/" + names[0])
		return err
	})
	l := &interactiveLoad{}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(t.Context())
	t.Cleanup(l.cancel)
	for _, name := range names {
		client := e.Client(e.Root.Token())
		l.group.Go(func() {
			pause := time.NewTicker(500 * time.Millisecond)
			defer pause.Stop()
			for {
				began := time.Now()
				vended, err := client.Logical().ReadWithContext(ctx, e.Path("connector-creds/"+name))
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					err = e.Tenant.Login(ctx, text(vended.Data["client_id"]), text(vended.Data["client_secret"]))
				}
				l.mu.Lock()
				l.latencies = append(l.latencies, time.Since(began))
				if err != nil && ctx.Err() == nil {
					l.failures = append(l.failures, err)
				}
				l.mu.Unlock()
				select {
				case <-pause.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return l
}

func (l *interactiveLoad) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.group.Wait()
	require.Empty(t, l.failures, "vends during the drain")
	require.NotEmpty(t, l.latencies)
	slices.Sort(l.latencies)
	n := len(l.latencies)
	t.Logf("%d interactive vends during the drain: median %s, 95%% within %s, slowest %s", n,
		l.latencies[n/2].Round(time.Millisecond), l.latencies[n*95/100].Round(time.Millisecond), l.latencies[n-1].Round(time.Millisecond))
	require.Less(t, l.latencies[n-1], 30*time.Second)
}

// committedOf counts those of the connectors that C1 has rotated.
func committedOf(tenant *c1test.Tenant, due map[string]time.Time) int {
	seen := map[string]bool{}
	for _, entry := range rotated(tenant) {
		if _, ours := due[entry.Object]; ours {
			seen[entry.Object] = true
		}
	}
	return len(seen)
}

// firstOf is when the first of the connectors was rotated.
func firstOf(entries []c1test.Entry, due map[string]time.Time) time.Time {
	for _, entry := range entries {
		if _, ours := due[entry.Object]; ours {
			return entry.Time
		}
	}
	return time.Time{}
}

// requireWithinRate says that no stretch of time saw more rotations than the
// limit. What arrived may be pushed together on its way.
func requireWithinRate(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	entries := rotated(e.Tenant)
	for _, window := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second} {
		most, first := 0, 0
		for i, entry := range entries {
			for entry.Time.Sub(entries[first].Time) >= window {
				first++
			}
			most = max(most, i-first+1)
		}
		allowed := int(window.Seconds() * stormRate)
		t.Logf("at most %d rotations in %s (%.0f/s); the limit is %d", most, window, float64(most)/window.Seconds(), allowed)
		require.LessOrEqual(t, most, allowed+2*stormWorkers, "within %s", window)
	}
}

// requireOldestFirst says that whatever was due in an earlier minute went
// first, but for what the workers had under way at the same time, and for the
// few that were tried during the outage and wait for their next try.
func requireOldestFirst(t *testing.T, e *vaulttest.Engine, due map[string]time.Time) {
	t.Helper()
	var order []time.Time
	for _, entry := range rotated(e.Tenant) {
		if at, ours := due[entry.Object]; ours {
			order = append(order, at)
		}
	}
	var before time.Time // the latest minute that went well before
	late := 0
	for i, at := range order {
		if i >= 2*stormWorkers && order[i-2*stormWorkers].After(before) {
			before = order[i-2*stormWorkers]
		}
		if at.Before(before) {
			late++
		}
	}
	t.Logf("%d of %d went after one that was due in a later minute", late, len(order))
	require.LessOrEqual(t, late, 5*probesPerMinute)
}

// requireAllWell says that each was rotated once, and that what is stored is
// what C1 holds.
func requireAllWell(t *testing.T, e *vaulttest.Engine, due map[string]time.Time) {
	t.Helper()
	times := map[string]int{}
	for _, entry := range rotated(e.Tenant) {
		times[entry.Object]++
	}
	for connector := range due {
		require.Equal(t, 1, times[connector], "connector %s", connector)
	}
	began := time.Now()
	eventuallyWithin(t, 2*time.Minute+settled, func() error {
		status := e.MustRead("status").Data
		if status["healthy"] != true || number(status["ready"]) != number(status["bindings"]) {
			return fmt.Errorf("%v of %v ready, attention %v", status["ready"], status["bindings"], status["attention"])
		}
		return nil
	})
	t.Logf("nothing was left to look at %s later", time.Since(began).Round(time.Second))
	status := e.MustRead("status").Data
	require.EqualValues(t, stormBindings+stormLeased, integer(t, status["bindings"]))
	require.Empty(t, status["paused_reason"])
	require.Empty(t, status["oldest_overdue"])
	require.NoError(t, inParallel(4, 200, func(i int) error {
		name := fmt.Sprintf("connector-creds/s%05d", i*(stormBindings/200))
		vended, err := e.Read(name)
		if err == nil {
			err = errors.Join(complete(vended), e.Login(vended))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}))
	requireHealthy(t, e)
}
