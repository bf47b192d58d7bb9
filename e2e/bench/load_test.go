// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// load is a closed loop: each client sends its next request when it has the
// answer to the last one.
type load struct {
	url     string
	method  string // GET if empty
	body    []byte
	token   string
	expect  string // in the body of every answer
	clients int

	warmUp   time.Duration
	duration time.Duration
}

// reached is what a load reached after its warm-up.
type reached struct {
	throughput    float64 // answers per second
	p50, p90, p99 time.Duration
}

// answerTimeout is how long a client waits for one answer.
const answerTimeout = 30 * time.Second

// run fails the benchmark for any answer but the expected one.
func (l load) run(b *testing.B) reached {
	b.Helper()
	target, err := url.Parse(l.url)
	if err != nil {
		b.Fatal(err)
	}
	ctx, fail := context.WithCancelCause(b.Context())
	defer fail(nil)
	from := time.Now().Add(l.warmUp)
	until := from.Add(l.duration)
	latencies := make([][]time.Duration, l.clients)
	var group sync.WaitGroup
	for i := range l.clients {
		group.Go(func() {
			var err error
			if latencies[i], err = l.client(ctx, target.Host, from, until); err != nil {
				fail(err) // the first error counts
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		b.Fatalf("%s: %v", l.url, err)
	}
	all := slices.Concat(latencies...)
	if len(all) == 0 {
		b.Fatalf("%s: no answer within %s", l.url, l.duration)
	}
	slices.Sort(all)
	return reached{
		throughput: float64(len(all)) / l.duration.Seconds(),
		p50:        quantile(all, 0.5), p90: quantile(all, 0.9), p99: quantile(all, 0.99),
	}
}

// client is one of them. It returns how long each answer took that came between
// these times.
func (l load) client(ctx context.Context, host string, from, until time.Time) ([]time.Duration, error) {
	conn := &fasthttp.HostClient{
		Addr: host, MaxConns: 1, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
		MaxIdemponentCallAttempts: 1, // a lost answer is an error, and not hidden by a second one
	}
	defer conn.CloseIdleConnections()
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(l.url)
	if l.method != "" {
		req.Header.SetMethod(l.method)
	}
	req.Header.Set("X-Vault-Token", l.token)
	req.SetBody(l.body)
	expect := []byte(l.expect)

	var latencies []time.Duration
	for start := time.Now(); start.Before(until) && ctx.Err() == nil; {
		if err := conn.Do(req, resp); err != nil {
			return nil, err
		}
		end := time.Now()
		if status := resp.StatusCode(); status != fasthttp.StatusOK {
			return nil, fmt.Errorf("the answer is %d: %s", status, resp.Body())
		}
		if !bytes.Contains(resp.Body(), expect) {
			return nil, fmt.Errorf("an answer of %d bytes lacks %q", len(resp.Body()), expect)
		}
		if end.After(from) && end.Before(until) {
			latencies = append(latencies, end.Sub(start))
		}
		start = end
	}
	return latencies, nil
}

// quantile returns the lowest value that a share q of all does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
