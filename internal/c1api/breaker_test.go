// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBreakerOpensAndHealsByOneProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := true
		f := &fakeC1{}
		f.api = func(int, *http.Request) reply {
			if down {
				return reply{status: 500}
			}
			time.Sleep(time.Second)
			return reply{body: "{}"}
		}
		c, _ := newClient(t, f, withRetries(0))
		for range 5 {
			require.Equal(t, "closed", c.Health().Breaker)
			_, err := c.Introspect(t.Context())
			requireReason(t, err, ReasonUnavailable)
		}
		require.Equal(t, "open", c.Health().Breaker)

		time.Sleep(5 * time.Second)
		_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, "not answered 5 times in a row")
		require.Equal(t, 10*time.Second, e.RetryAfter)
		require.Equal(t, 5, f.asked, "nothing is sent while the breaker is open")

		time.Sleep(10*time.Second + time.Millisecond)
		require.Equal(t, "half-open", c.Health().Breaker)
		_, err = c.Introspect(t.Context())
		requireReason(t, err, ReasonUnavailable)
		require.Equal(t, 6, f.asked)
		_, err = c.Introspect(t.Context())
		require.Contains(t, failedFor(t, err, ReasonNotSent).Message, "6 times")

		down = false
		time.Sleep(15*time.Second + time.Millisecond)
		var wg sync.WaitGroup
		refused := make(chan error, 10)
		for range 10 {
			wg.Go(func() {
				_, err := c.Introspect(t.Context())
				refused <- err
			})
		}
		wg.Wait()
		healthy := 0
		for range 10 {
			if err := <-refused; err == nil {
				healthy++
			} else {
				require.Equal(t, time.Second, failedFor(t, err, ReasonNotSent).RetryAfter)
			}
		}
		require.Equal(t, 1, healthy, "one probe")
		require.Equal(t, "closed", c.Health().Breaker)
	})
}

func TestWhatTheBreakerCounts(t *testing.T) {
	t.Parallel()
	slow := func(_ int, r *http.Request) reply {
		<-r.Context().Done()
		return reply{}
	}
	for name, c := range map[string]struct {
		token, api func(int, *http.Request) reply
		timeout    time.Duration
		cancel     bool
		opens      bool
	}{
		"no connection":            {api: always(reply{unsent: errors.New("refused")}), opens: true},
		"reset":                    {api: always(reply{lost: errors.New("reset")}), opens: true},
		"500":                      {api: always(reply{status: 500}), opens: true},
		"503":                      {api: always(reply{status: 503}), opens: true},
		"503 with Retry-After":     {api: always(reply{status: 503, header: map[string]string{"Retry-After": "0"}})},
		"429":                      {api: always(reply{status: 429})},
		"404":                      {api: always(reply{status: 404})},
		"405":                      {api: always(reply{status: 405})},
		"501":                      {api: always(reply{status: 501})},
		"redirect":                 {api: always(reply{status: 302})},
		"garbage":                  {api: always(reply{body: "garbage"})},
		"no answer in time":        {api: slow, timeout: 8 * time.Second, opens: true},
		"an impatient caller":      {api: slow, timeout: time.Second},
		"a caller who hangs up":    {api: slow, timeout: 8 * time.Second, cancel: true},
		"token endpoint down":      {token: always(reply{status: 502}), opens: true},
		"token endpoint not there": {token: always(reply{unsent: errors.New("refused")}), opens: true},
		"token refused":            {token: always(reply{status: 401})},
		"token answer is garbage":  {token: always(reply{body: "garbage"})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{token: c.token, api: c.api}
				client, _ := newClient(t, f, withRetries(0))
				for range 6 {
					ctx, cancel := context.WithCancel(t.Context())
					if c.cancel {
						time.AfterFunc(c.timeout, cancel)
					} else if c.timeout > 0 {
						ctx, cancel = context.WithTimeout(ctx, c.timeout)
					}
					_, err := client.Introspect(ctx)
					require.Error(t, err)
					cancel()
				}
				require.Equal(t, map[bool]string{true: "open", false: "closed"}[c.opens], client.Health().Breaker)
			})
		})
	}
}
