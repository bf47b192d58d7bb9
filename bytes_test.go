// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
)

// weighed counts what is written, by the first part of the key.
type weighed struct {
	logical.Storage
	mu      sync.Mutex
	puts    map[string]int
	deletes map[string]int
	bytes   int // keys and values of what was put, keys of what was deleted
}

func (w *weighed) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts, w.deletes, w.bytes = map[string]int{}, map[string]int{}, 0
}

func (w *weighed) Put(ctx context.Context, e *logical.StorageEntry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	prefix, _, _ := strings.Cut(e.Key, "/")
	w.puts[prefix]++
	w.bytes += len(e.Key) + len(e.Value)
	return w.Storage.Put(ctx, e)
}

func (w *weighed) Delete(ctx context.Context, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	prefix, _, _ := strings.Cut(key, "/")
	w.deletes[prefix]++
	w.bytes += len(key)
	return w.Storage.Delete(ctx, key)
}

// weight is what something wrote in a bubble, the mount's own watermark aside.
type weight struct{ puts, deletes, bytes int }

func (w *weighed) of(do func()) weight {
	synctest.Wait() // for what happens behind an earlier answer
	w.reset()
	do()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := weight{bytes: w.bytes}
	for prefix, n := range w.puts {
		if prefix == agenda.WatermarkKey {
			sum.bytes -= n * (len(agenda.WatermarkKey) + len("28401234"))
			continue
		}
		sum.puts += n
	}
	for _, n := range w.deletes {
		sum.deletes += n
	}
	return sum
}

func (w *weighed) sizeOf(t *testing.T, key string) int {
	t.Helper()
	entry, err := w.Get(context.Background(), key)
	require.NoError(t, err)
	return len(entry.Value)
}

// The arithmetic of docs/scale.md begins with these numbers.
func TestBytesPerRotationAreAsDocsScaleSays(t *testing.T) {
	t.Parallel()
	bounds := map[int]struct{ clock, check, leased, clockState, leasedState int }{ // by records
		0:   {clock: 2_500, check: 500, leased: 2_500, clockState: 350, leasedState: 250},
		20:  {clock: 3_500, check: 1_050, leased: 3_800, clockState: 1_000, leasedState: 1_000},
		400: {clock: 3_700, check: 1_050, leased: 4_000, clockState: 1_000, leasedState: 1_000},
	}
	if raceEnabled {
		delete(bounds, 400)
	}
	inBubble(t, func(e *engine) {
		w := &weighed{Storage: e.storage.Storage}
		w.reset()
		e.storage.swap(w)
		e.configureStatic("history_limit", 400, "drift_check_period", "40m")
		pass(2*time.Minute + 123456*time.Microsecond) // times are seldom whole seconds
		clock, lease := e.c1.NewConnector("clock"), e.c1.NewConnector("lease")
		byClock, byLease := connectorTarget(clock), connectorTarget(lease)
		e.must(logical.CreateOperation, "connectors/by-clock", fields("app_id", clock.AppID, "connector_id", clock.ConnectorID,
			"rotate_on", "schedule", "rotation_period", "1h", "skip_initial_rotation", true))
		e.must(logical.CreateOperation, "connectors/by-lease", fields("app_id", lease.AppID, "connector_id", lease.ConnectorID, "rotate_on", "read"))
		until := func(at time.Time) { pass(time.Until(at) + time.Second) }
		for _, n := range slices.Sorted(maps.Keys(bounds)) {
			most := bounds[n]
			for len(e.records(byClock)) < n {
				until(nextAt(e.state(byClock)))
			}
			size := w.sizeOf(t, e.keyOf(stateKey(byClock)))
			require.LessOrEqual(t, size, most.clockState)
			if at := recheckAt(e.state(byClock)); !at.IsZero() {
				check := w.of(func() { until(at) })
				require.LessOrEqual(t, check.bytes, most.check)
				require.LessOrEqual(t, check.puts, 2, "the state, and when to look next")
				require.LessOrEqual(t, check.deletes, 1)
				t.Logf("%3d records: a drift check: %+v", n, check)
			}
			rotation := w.of(func() { until(e.state(byClock).NextRotation) })
			require.LessOrEqual(t, rotation.bytes, most.clock)
			require.LessOrEqual(t, rotation.puts, 8)
			require.LessOrEqual(t, rotation.deletes, 6, "two due entries, and the oldest record with its index")
			t.Logf("%3d records: scheduled: state %d bytes; a rotation: %+v, puts %v, deletes %v", n, size, rotation, w.puts, w.deletes)
		}
		for _, n := range slices.Sorted(maps.Keys(bounds)) {
			most := bounds[n]
			for len(e.records(byLease)) < n {
				_, err := e.revoke(e.vend("connector-creds/by-lease").Secret)
				require.NoError(t, err)
			}
			size := w.sizeOf(t, e.keyOf(stateKey(byLease)))
			require.LessOrEqual(t, size, most.leasedState)
			var secret *logical.Secret
			rotation := w.of(func() { secret = e.vend("connector-creds/by-lease").Secret })
			require.LessOrEqual(t, rotation.bytes, most.leased)
			require.LessOrEqual(t, rotation.puts, 7)
			look := w.of(func() { pass(2 * time.Minute) })
			require.LessOrEqual(t, look.puts, 1, "the look at its settle time plans its end")
			require.LessOrEqual(t, look.deletes, 1)
			require.LessOrEqual(t, look.bytes, 200)
			end := w.of(func() { _, _ = e.revoke(secret) })
			require.LessOrEqual(t, end.puts, 1, "its record is the newest")
			t.Logf("%3d records: leased: state %d bytes; a rotation: %+v, its look: %+v, its end: %+v", n, size, rotation, look, end)
		}
	})
}
