// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// crowd are callers who each ask again as soon as they are answered.
func crowd(ctx context.Context, c *Client, callers int, all *sync.WaitGroup) {
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Introspect(ctx)
			}
		})
	}
}

// However many callers there are, a background call waits for its share of the
// rate limit no longer than background.go says, and for one request to end.
func TestCallersKeepABackgroundCallWaitingForABoundedTime(t *testing.T) {
	t.Parallel()
	const latency = 50 * time.Millisecond
	for _, perSecond := range []float64{0.5, 2, 5, 20, 200} {
		for _, late := range []time.Duration{0, 30 * time.Second, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				f := &traffic{}
				c, _ := newClient(t, &fakeC1{api: f.reply(latency)}, func(o *Options) { o.MaxRequestsPerSecond, o.MaxConcurrentRequests = perSecond, 16 })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var all sync.WaitGroup
				crowd(ctx, c, 100, &all)
				time.Sleep(time.Minute)
				two := time.Duration(2 / float64(c.limiter.Limit()) * float64(time.Second))
				patience := max(time.Duration(float64(2*time.Second)*max(0, 1-late.Minutes())), two)
				for range 20 {
					began := time.Now()
					turn, err := c.AwaitTurn(Background(ctx, late))
					require.NoError(t, err)
					require.LessOrEqual(t, time.Since(began), patience+two+time.Millisecond, "%v per second, %s late", perSecond, late)
					began = time.Now()
					_, err = c.Introspect(turn)
					require.NoError(t, err)
					require.LessOrEqual(t, time.Since(began), two+2*latency, "one of the others ends")
				}
				cancel()
				all.Wait()
			})
		}
	}
}

// What is late gets more, up to a quarter of the rate.
func TestTheShareOfBackgroundCallsGrowsWithTheirLateness(t *testing.T) {
	t.Parallel()
	share := func(late time.Duration) (share float64) {
		synctest.Test(t, func(t *testing.T) {
			f := &traffic{}
			c, _ := newClient(t, &fakeC1{api: f.reply(50 * time.Millisecond)}, func(o *Options) { o.MaxRequestsPerSecond, o.MaxConcurrentRequests = 10, 16 })
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Minute, cancel)
			var all sync.WaitGroup
			crowd(ctx, c, 100, &all)
			served := 0
			for ctx.Err() == nil {
				if _, err := c.AwaitTurn(Background(ctx, late)); err == nil {
					served++
				}
			}
			all.Wait()
			require.InDelta(t, 6000, f.count()+served, 20, "nothing of the rate is lost")
			share = float64(served) / 6000
		})
		return share
	}
	require.InDelta(t, 1.0/22, share(0), 0.01, "one in 2 s and two requests' time")
	require.InDelta(t, 1.0/12, share(30*time.Second), 0.01)
	for _, late := range []time.Duration{time.Minute, 24 * time.Hour} {
		got := share(late)
		require.True(t, got >= 1.0/4 && got <= 1.0/3, "%s late: %v", late, got)
	}
}

func TestACallerWhoseTurnCannotComeInTimeIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newClient(t, &fakeC1{}, func(o *Options) { o.MaxRequestsPerSecond = 1 })
		var all sync.WaitGroup
		for range 21 {
			all.Go(func() { _, _ = c.Introspect(t.Context()) })
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Introspect(ctx)
		require.Contains(t, failedFor(t, err, ReasonNotSent).Message, "no turn in the time left")
		require.Equal(t, began, time.Now())
		all.Wait()
	})
}

// A request to wait that one object's answer makes holds for that object.
func TestOneObjectsRefusalPausesNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		f := &fakeC1{api: func(_ int, r *http.Request) reply {
			asked[r.URL.Path]++
			if strings.Contains(r.URL.Path, "busy") {
				return reply{status: 429, header: map[string]string{"Retry-After": "86400"}}
			}
			return reply{body: `{"decoy":{"id":"other","fingerprintSha256":""}}`}
		}}
		c, _ := newClient(t, f, withRetries(0))
		_, err := c.GetDecoy(t.Context(), "busy")
		require.True(t, IsReason(err, ReasonRateLimited))
		began := time.Now()
		_, err = c.Introspect(t.Context())
		require.NoError(t, err)
		_, err = c.AwaitTurn(t.Context())
		require.NoError(t, err)
		_, _ = c.GetDecoy(t.Context(), "other")
		require.Equal(t, began, time.Now(), "nobody else waits")
		require.Len(t, asked, 3)

		_, _ = c.GetDecoy(t.Context(), "busy")
		require.Equal(t, maxPause, time.Since(began), "the object itself does")
	})
}

// All connectors are rotated by one path, and the body names which.
func TestOneConnectorsRefusalPausesNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{api: func(_ int, r *http.Request) reply {
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), "busy") {
				return reply{status: 503, header: map[string]string{"Retry-After": "3600"}}
			}
			return reply{status: 400}
		}}
		c, _ := newClient(t, f, withRetries(0))
		began := time.Now()
		_, err := c.RotateConnectorCredential(t.Context(), "app", "busy")
		require.True(t, IsReason(err, ReasonUnavailable))
		_, err = c.RotateConnectorCredential(t.Context(), "app", "other")
		require.True(t, IsReason(err, ReasonRejected), "it was asked")
		require.Equal(t, began, time.Now(), "nobody else waits")
		_, _ = c.RotateConnectorCredential(t.Context(), "app", "busy")
		require.Equal(t, maxPause, time.Since(began), "the connector itself does")
	})
}

func TestPausesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pause
		for i := range 10 * mostPaused {
			p.extend(fmt.Sprint(i), time.Hour)
			require.LessOrEqual(t, len(p.objects), mostPaused)
			require.Equal(t, maxPause, p.left(fmt.Sprint(i)))
		}
		require.Zero(t, max(0, p.left("another")))
		p.extend(wholeIdentity, 10*time.Second)
		require.Equal(t, 10*time.Second, p.left("another"))
	})
}
