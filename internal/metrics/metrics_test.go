// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPageIsPrometheusText(t *testing.T) {
	t.Parallel()
	counter := NewCounter("c_total", "What was \\ counted.", "kind")
	empty := NewCounter("nothing_total", "Nothing.", "kind")
	histogram := NewHistogram("h_seconds", "How long.", []float64{.1, 1}, "op")
	counter.Add(1, `b"`)
	counter.Add(0, "a")
	counter.Add(2, `b"`)
	for _, v := range []float64{.1, .5, 7} {
		histogram.Observe(v, "get")
	}
	var p Page
	p.Gauge("g", "One.", -1.5)
	p.Gauge("unknown", "Left out.", math.NaN())
	p.Gauges("states", "Several.", "state", map[string]float64{"open": 1, "closed": 0, "unknown": math.NaN()})
	p.Total("t_total", "Kept elsewhere.", 3)
	p.Counted(counter)
	p.Counted(empty)
	p.Counted(histogram)
	text, err := p.Text()
	require.NoError(t, err)
	require.Equal(t, strings.TrimPrefix(`
# HELP g One.
# TYPE g gauge
g -1.5
# HELP states Several.
# TYPE states gauge
states{state="closed"} 0
states{state="open"} 1
# HELP t_total Kept elsewhere.
# TYPE t_total counter
t_total 3
# HELP c_total What was \\ counted.
# TYPE c_total counter
c_total{kind="a"} 0
c_total{kind="b\""} 3
# HELP h_seconds How long.
# TYPE h_seconds histogram
h_seconds_bucket{op="get",le="0.1"} 1
h_seconds_bucket{op="get",le="1"} 2
h_seconds_bucket{op="get",le="+Inf"} 3
h_seconds_sum{op="get"} 7.6
h_seconds_count{op="get"} 3
`, "\n"), text)
}

func TestWhatWasPrintedStaysWhileCountingGoesOn(t *testing.T) {
	t.Parallel()
	counter, histogram := NewCounter("c_total", "x", "kind"), NewHistogram("h", "x", []float64{1}, "kind")
	counter.Add(1, "a")
	histogram.Observe(1, "a")
	var before Page
	before.Counted(counter)
	before.Counted(histogram)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				counter.Add(1, "a")
				histogram.Observe(.5, "a")
				var p Page
				p.Counted(counter)
				p.Counted(histogram)
				_, _ = p.Text()
			}
		})
	}
	all.Wait()
	text, err := before.Text()
	require.NoError(t, err)
	require.Contains(t, text, "c_total{kind=\"a\"} 1\n")
	require.Contains(t, text, "h_count{kind=\"a\"} 1\n")
	var after Page
	after.Counted(counter)
	text, err = after.Text()
	require.NoError(t, err)
	require.Contains(t, text, "c_total{kind=\"a\"} 801\n")
}
