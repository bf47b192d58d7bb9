// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// traffic notes when requests are sent, and how many are under way.
type traffic struct {
	mu         sync.Mutex
	sent       []time.Time
	busy, most int
}

// reply takes a while to answer.
func (f *traffic) reply(after time.Duration) func(int, *http.Request) reply {
	return func(int, *http.Request) reply {
		f.mu.Lock()
		f.sent = append(f.sent, time.Now())
		f.busy++
		f.most = max(f.most, f.busy)
		f.mu.Unlock()
		time.Sleep(after)
		f.mu.Lock()
		f.busy--
		f.mu.Unlock()
		return reply{body: "{}"}
	}
}

func (f *traffic) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sent)
}

// atOnce is how many requests were under way at the same time, at most.
func (f *traffic) atOnce() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

// backlog sends background calls, as many at once as a worker may.
func backlog(ctx context.Context, c *Client, workers, calls int, all *sync.WaitGroup) {
	queue := make(chan struct{}, calls)
	for range calls {
		queue <- struct{}{}
	}
	close(queue)
	for range workers {
		all.Go(func() {
			for range queue {
				if turn, err := c.AwaitTurn(ctx); err == nil {
					_, _ = c.Introspect(turn)
				}
			}
		})
	}
}

func TestInteractiveCallsDoNotWaitForABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &traffic{}
		c, _ := newClient(t, &fakeC1{api: f.reply(50 * time.Millisecond)}, func(o *Options) { o.MaxRequestsPerSecond = 100 })
		var all sync.WaitGroup
		began := time.Now()
		backlog(t.Context(), c, 8, 1000, &all)
		time.Sleep(2 * time.Second)
		for range 100 {
			before := time.Now()
			_, err := c.Introspect(t.Context())
			require.NoError(t, err)
			require.Equal(t, 50*time.Millisecond, time.Since(before), "as without a backlog")
			time.Sleep(13 * time.Millisecond)
		}
		all.Wait()
		require.Equal(t, 1100, f.count())
		took := time.Since(began)
		require.InDelta(t, 11, took.Seconds(), 0.6, "the limit is used whole")
		for i := range f.sent[100:] {
			require.GreaterOrEqual(t, f.sent[i+100].Sub(f.sent[i]), time.Second-time.Microsecond, "more than the limit in one second")
		}
	})
}

func TestBackgroundCallsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &traffic{}
		c, _ := newClient(t, &fakeC1{api: f.reply(time.Second)}, func(o *Options) { o.MaxConcurrentRequests = 8 })
		var all sync.WaitGroup
		backlog(t.Context(), c, 50, 60, &all)
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, 6, f.atOnce(), "a quarter is kept")
		before := time.Now()
		_, err := c.Introspect(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(before))
		all.Wait()
		require.Equal(t, 61, f.count())
	})
}

func TestTurnIsPaidForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &traffic{}
		c, _ := newClient(t, &fakeC1{api: f.reply(0)}, func(o *Options) { o.MaxRequestsPerSecond = 1 })
		began := time.Now()
		for range 3 {
			turn, err := c.AwaitTurn(t.Context())
			require.NoError(t, err)
			before := time.Now()
			_, err = c.Introspect(turn)
			require.NoError(t, err)
			require.Equal(t, before, time.Now(), "its turn was there")
		}
		require.Equal(t, 2*time.Second, time.Since(began))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.AwaitTurn(ctx)
		require.True(t, IsReason(err, ReasonNotSent))
	})
}

func TestNoTurnWhileC1IsOutOfReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newClient(t, &fakeC1{api: always(reply{status: 500})}, func(o *Options) { o.MaxRetries = 0 })
		for range breakerFailures {
			_, _ = c.Introspect(t.Context())
		}
		_, err := c.AwaitTurn(t.Context())
		require.True(t, IsReason(err, ReasonNotSent))
		require.Equal(t, breakerPause, AsError(err).RetryAfter)
	})
	synctest.Test(t, func(t *testing.T) {
		c, _ := newClient(t, &fakeC1{api: always(reply{status: 429, header: map[string]string{"Retry-After": "20"}})}, func(o *Options) { o.MaxRetries = 0 })
		_, _ = c.Introspect(t.Context())
		_, err := c.AwaitTurn(t.Context())
		require.True(t, IsReason(err, ReasonRateLimited))
		require.Equal(t, 20*time.Second, AsError(err).RetryAfter)
	})
}
