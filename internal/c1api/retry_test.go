// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Every call, by what it does at C1.
var everyCall = map[string]struct {
	effect effect
	good   string
	run    func(*Client, context.Context) error
}{
	"introspect": {reading, `{}`, func(c *Client, ctx context.Context) error {
		_, err := c.Introspect(ctx)
		return err
	}},
	"get connector": {reading, goodConnector, func(c *Client, ctx context.Context) error {
		_, err := c.GetConnector(ctx, "app", "conn")
		return err
	}},
	"get connector credential": {reading, `{"credential":{"id":"cred1"}}`, func(c *Client, ctx context.Context) error {
		_, err := c.GetConnectorCredential(ctx, "app", "conn", "cred1")
		return err
	}},
	"get decoy": {reading, goodDecoy, func(c *Client, ctx context.Context) error {
		_, err := c.GetDecoy(ctx, "decoy1")
		return err
	}},
	"list decoys": {reading, `{}`, func(c *Client, ctx context.Context) error {
		_, _, err := c.ListDecoys(ctx)
		return err
	}},
	"revoke connector credential": {repeatable, "", func(c *Client, ctx context.Context) error {
		return c.RevokeConnectorCredential(ctx, "app", "conn", "cred1")
	}},
	"update decoy": {repeatable, goodDecoy, func(c *Client, ctx context.Context) error {
		_, err := c.UpdateDecoy(ctx, &Decoy{ID: "decoy1"}, "disabled")
		return err
	}},
	"rotate connector credential": {onceOnly, goodCredential, func(c *Client, ctx context.Context) error {
		_, err := c.RotateConnectorCredential(ctx, "app", "conn")
		return err
	}},
	"rotate decoy": {onceOnly, goodDecoy, func(c *Client, ctx context.Context) error {
		_, _, err := c.RotateDecoy(ctx, "decoy1")
		return err
	}},
	"list own credentials": {reading, `{}`, func(c *Client, ctx context.Context) error {
		_, err := c.OwnCredentials(ctx, testPrincipal)
		return err
	}},
	"get own credential": {reading, `{"credential":{"id":"cred1"}}`, func(c *Client, ctx context.Context) error {
		_, err := c.OwnCredential(ctx, testPrincipal, "cred1")
		return err
	}},
	"create own credential": {onceOnly, goodOwn, func(c *Client, ctx context.Context) error {
		_, _, err := c.CreateOwnCredential(ctx, testPrincipal, NewCredential{DisplayName: "d", Lifetime: 90 * 24 * time.Hour})
		return err
	}},
	"revoke own credential": {repeatable, "", func(c *Client, ctx context.Context) error {
		return c.RevokeOwnCredential(ctx, testPrincipal, "cred1")
	}},
	"list apps": {reading, `{}`, func(c *Client, ctx context.Context) error {
		_, err := c.listsApp(ctx, "app")
		return err
	}},
	"list connectors": {reading, `{}`, func(c *Client, ctx context.Context) error {
		_, err := c.listsConnector(ctx, "app", "conn")
		return err
	}},
}

func TestRetriesNeverRotateTwice(t *testing.T) {
	t.Parallel()
	const lost = Reason("lost") // unavailable for reads, outcome unknown for the rest
	for name, fault := range map[string]struct {
		reply reply
		again [3]bool // reading, repeatable, onceOnly
		want  Reason  // when it does not heal
	}{
		"no connection":           {reply{unsent: errors.New("refused")}, [3]bool{true, true, true}, ReasonNotSent},
		"429":                     {reply{status: 429}, [3]bool{true, true, true}, ReasonRateLimited},
		"429 with Retry-After":    {reply{status: 429, header: map[string]string{"Retry-After": "2"}}, [3]bool{true, true, true}, ReasonRateLimited},
		"503 with Retry-After":    {reply{status: 503, header: map[string]string{"Retry-After": "1"}}, [3]bool{true, true, true}, ReasonUnavailable},
		"503 with a bad one":      {reply{status: 503, header: map[string]string{"Retry-After": "soon"}}, [3]bool{true, true, false}, lost},
		"503":                     {reply{status: 503}, [3]bool{true, true, false}, lost},
		"500":                     {reply{status: 500}, [3]bool{true, true, false}, lost},
		"504 of a proxy":          {reply{status: 504, body: "<html>"}, [3]bool{true, true, false}, lost},
		"408":                     {reply{status: 408}, [3]bool{true, true, false}, lost},
		"reset after it was sent": {reply{lost: io.ErrUnexpectedEOF}, [3]bool{true, true, false}, lost},
		"answer cut short":        {reply{body: `{"cred`, cutBody: io.ErrUnexpectedEOF}, [3]bool{true, true, false}, lost},
		"501":                     {reply{status: 501}, [3]bool{}, ReasonRejected},
		"405":                     {reply{status: 405}, [3]bool{}, ReasonRejected},
		"400":                     {reply{status: 400}, [3]bool{}, ReasonRejected},
		"403":                     {reply{status: 403}, [3]bool{}, ReasonForbidden},
		"404":                     {reply{status: 404}, [3]bool{}, ReasonNotFound},
		"409":                     {reply{status: 409}, [3]bool{}, ReasonRejected},
		"redirect":                {reply{status: 307, header: map[string]string{"Location": "/elsewhere"}}, [3]bool{}, lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for op, c := range everyCall {
				synctest.Test(t, func(t *testing.T) {
					healing := &fakeC1{api: inTurn(fault.reply, reply{body: c.good})}
					client, _ := newClient(t, healing)
					err := c.run(client, t.Context())
					if fault.again[c.effect] {
						require.NoError(t, err, op)
						require.Equal(t, 2, healing.asked, op)
						return
					}
					want := fault.want
					if fault.reply.status == http.StatusNotImplemented && c.effect == onceOnly {
						want = ReasonUnknown // a rotate that was sent is never taken for refused by a 5xx
					}
					if want == lost {
						want = ReasonUnknown
						if c.effect == reading {
							want = ReasonUnavailable
						}
					}
					e := failedFor(t, err, want)
					require.Equal(t, op, e.Op)
					require.Equal(t, 1, healing.asked, "%s was sent again", op)
					require.Equal(t, want == ReasonUnknown, OutcomeUnknown(err))
				})
			}
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	for want, r := range map[Reason]reply{
		ReasonNotSent:     {unsent: errors.New("refused")},
		ReasonRateLimited: {status: 429, header: map[string]string{"Retry-After": "1"}},
		ReasonUnavailable: {status: 503, header: map[string]string{"Retry-After": "1"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeC1{api: always(r)}
			c, _ := newClient(t, f)
			_, _, err := c.RotateDecoy(t.Context(), "decoy1")
			e := failedFor(t, err, want)
			require.Equal(t, 4, f.asked, "one try and three retries")
			if want != ReasonNotSent {
				require.Equal(t, time.Second, e.RetryAfter)
			}
		})
	}
}

func TestRetryAfterIsObeyedOrReported(t *testing.T) {
	t.Parallel()
	after := func(value string) reply { return reply{status: 503, header: map[string]string{"Retry-After": value}} }
	for name, c := range map[string]struct {
		first    reply
		deadline time.Duration
		tries    int
		atLeast  time.Duration
		reported time.Duration
	}{
		"seconds are waited for":          {after("7"), time.Minute, 2, 7 * time.Second, 0},
		"a date is waited for":            {after(time.Date(2000, 1, 1, 0, 0, 9, 0, time.UTC).Format(http.TimeFormat)), time.Minute, 2, 9 * time.Second, 0},
		"a date gone by":                  {after(time.Date(1999, 1, 1, 0, 0, 9, 0, time.UTC).Format(http.TimeFormat)), time.Minute, 2, 0, 0},
		"more than half a minute is told": {after("31"), time.Minute, 1, 0, 31 * time.Second},
		"more than is left is told":       {after("7"), 5 * time.Second, 1, 0, 7 * time.Second},
		"absurd values are bounded":       {after("4000000000"), time.Minute, 1, 0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{api: inTurn(c.first, reply{body: goodCredential})}
				client, _ := newClient(t, f)
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				start := time.Now()
				_, err := client.RotateConnectorCredential(ctx, "app", "conn")
				require.Equal(t, c.tries, f.asked)
				if c.tries == 1 {
					require.Equal(t, c.reported, failedFor(t, err, ReasonUnavailable).RetryAfter)
					require.Zero(t, time.Since(start), "gives up at once")
					return
				}
				require.NoError(t, err)
				require.GreaterOrEqual(t, time.Since(start), c.atLeast)
				require.Less(t, time.Since(start), c.atLeast+time.Second)
			})
		})
	}
}

func TestRetryAfterPausesEveryCaller(t *testing.T) {
	t.Parallel()
	for status, reason := range map[int]Reason{429: ReasonRateLimited, 503: ReasonUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{api: inTurn(reply{status: status, header: map[string]string{"Retry-After": "10"}}, reply{body: "{}"})}
				c, _ := newClient(t, f, withRetries(0))
				_, err := c.Introspect(t.Context())
				requireReason(t, err, reason)

				short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				_, err = c.Introspect(short)
				e := failedFor(t, err, ReasonRateLimited)
				require.Contains(t, e.Message, "10s")
				require.Equal(t, 10*time.Second, e.RetryAfter)
				require.Equal(t, 1, f.asked)

				start := time.Now()
				_, err = c.Introspect(t.Context())
				require.NoError(t, err)
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

// A rotate that is sent with hardly any time left has an unknown outcome for
// sure, so it is not sent.
func TestARotateIsNotSentWithTooLittleTimeForItsAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call  string
		pause string // seconds of the 10 that the call has
		sent  bool
	}{
		"in time":           {"rotate decoy", "7", true},
		"late":              {"rotate decoy", "8", false},
		"what only reads":   {"get decoy", "9", true},
		"what can be twice": {"revoke connector credential", "9", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				call := everyCall[c.call]
				f := &fakeC1{api: inTurn(reply{status: 429, header: map[string]string{"Retry-After": c.pause}}, reply{body: call.good})}
				client, _ := newClient(t, f, withRetries(0))
				_, err := client.Introspect(t.Context())
				requireReason(t, err, ReasonRateLimited)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err = call.run(client, ctx)
				if c.sent {
					require.NoError(t, err)
					require.Equal(t, 2, f.asked)
					return
				}
				require.Contains(t, failedFor(t, err, ReasonNotSent).Message, "too little time for an answer")
				require.Equal(t, 1, f.asked)
			})
		})
	}
}

func TestCallerWhoGivesUp(t *testing.T) {
	t.Parallel()
	t.Run("before anything was sent", func(t *testing.T) {
		t.Parallel()
		f := &fakeC1{}
		c, _ := newClient(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.RotateConnectorCredential(ctx, "app", "conn")
		requireReason(t, err, ReasonNotSent)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, f.asked+f.mints)
	})
	for name, c := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		says string
	}{
		"by hanging up": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, "gave up"},
		"by deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, "no answer in time"},
	} {
		t.Run(name+" after a rotate was sent", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{api: func(_ int, r *http.Request) reply {
					<-r.Context().Done()
					return reply{}
				}}
				client, _ := newClient(t, f)
				ctx, cancel := c.end(t.Context())
				defer cancel()
				_, err := client.RotateConnectorCredential(ctx, "app", "conn")
				e := failedFor(t, err, ReasonUnknown)
				require.Contains(t, e.Message, c.says)
				require.ErrorIs(t, err, ctx.Err())
				require.Equal(t, 1, f.asked)
			})
		})
	}
	t.Run("while waiting to try again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &fakeC1{api: always(reply{status: 503, header: map[string]string{"Retry-After": "20"}})}
			c, _ := newClient(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := c.RotateConnectorCredential(ctx, "app", "conn")
			requireReason(t, err, ReasonUnavailable)
			require.Equal(t, 1, f.asked)
		})
	})
}

func TestRequestTimeoutBoundsACallWithoutDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{api: func(_ int, r *http.Request) reply {
			<-r.Context().Done()
			return reply{}
		}}
		c, _ := newClient(t, f)
		start := time.Now()
		_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		e := failedFor(t, err, ReasonUnknown)
		require.Contains(t, e.Message, "at most 10s")
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestConcurrentRequestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		f := &fakeC1{api: func(int, *http.Request) reply {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return reply{body: "{}"}
		}}
		c, _ := newClient(t, f, func(o *Options) { o.MaxConcurrentRequests = 3 })
		start := time.Now()
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() { _, _ = c.Introspect(t.Context()) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, err := c.Introspect(ctx)
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, "limit on concurrent requests")
		wg.Wait()
		require.Equal(t, 3, most)
		require.Equal(t, 12, f.asked)
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestRequestsPerSecondAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{}
		c, _ := newClient(t, f, func(o *Options) { o.MaxRequestsPerSecond = 0.5 })
		start := time.Now()
		for range 3 {
			_, err := c.Introspect(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, 4*time.Second, time.Since(start), "one at once, then one every two seconds")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Introspect(ctx)
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, "limit on requests per second")
		require.Equal(t, 3, f.asked)
	})
}
