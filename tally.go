// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/metrics"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// metricPrefix begins the name of each figure.
const metricPrefix = "vault_c1_"

// tally is what this process has counted of one mount. It ends with the process, as
// Prometheus expects of counters. Its labels come from short lists of our own: no name,
// no ID and nothing that C1 or a caller said becomes one.
type tally struct {
	rotations *metrics.Counter
	requests  *metrics.Counter
	latency   *metrics.Histogram
}

// codes are the classes of answers, noAnswer among them.
var codes = []string{"2xx", "3xx", "4xx", "5xx", noAnswer}

const noAnswer = "none"

// latencyBounds are in seconds: from what a good day takes to request_timeout.
var latencyBounds = []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newTally() *tally {
	return &tally{
		rotations: metrics.NewCounter(metricPrefix+"rotations_total",
			"Rotations that came to an end, by the kind of their target, why they were asked for and what became of them. "+
				"One whose caller had gone counts as issued first, and then as undelivered.", "kind", "reason", "outcome"),
		requests: metrics.NewCounter(metricPrefix+"requests_total",
			"Requests to C1, by what they were about and the class of the answer's status; none is no answer.", "operation", "code"),
		latency: metrics.NewHistogram(metricPrefix+"request_duration_seconds",
			"How long C1 took until the headers of its answers, by what was asked.", latencyBounds, "operation"),
	}
}

// print adds what was counted until now to a page.
func (t *tally) print(page *metrics.Page) {
	for _, operation := range c1api.Operations {
		for _, code := range codes {
			t.requests.Add(0, operation, code) // or the first failure would be no increase
		}
	}
	page.Counted(t.rotations)
	page.Counted(t.requests)
	page.Counted(t.latency)
}

// rotated counts a rotation that came to an end.
func (t *tally) rotated(kind target.Kind, reason, outcome string) {
	t.rotations.Add(1, string(kind), reason, outcome)
}

// exchanged counts a request to C1.
func (t *tally) exchanged(e c1api.Exchange) {
	if e.Status == 0 {
		t.requests.Add(1, e.Operation, noAnswer)
		return
	}
	t.requests.Add(1, e.Operation, fmt.Sprintf("%dxx", e.Status/100))
	t.latency.Observe(e.Took.Seconds(), e.Operation)
}
