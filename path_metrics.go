// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/metrics"
)

// breakerStates are the states that Health tells.
var breakerStates = []string{"closed", "half-open", "open"}

func pathMetrics() *framework.Path {
	return &framework.Path{
		Pattern:      "metrics$",
		DisplayAttrs: display("", "metrics"),
		Operations: only(logical.ReadOperation, &framework.PathOperation{
			Summary:  "Read the mount's figures in Prometheus' text format.",
			Callback: handle((*backend).readMetrics),
			// The counters are in the memory of the node that acts.
			ForwardPerformanceStandby: true,
			Responses: map[int][]framework.Response{http.StatusOK: {{
				Description: "The figures, as text and not as JSON.",
				MediaType:   "text/plain",
			}}},
		}),
		HelpSynopsis: "The mount's figures in Prometheus' text format.",
		HelpDescription: `
What status says in numbers, what C1 answers, and what became of rotations, for
Prometheus to scrape with a token that may read this path. Counters belong to
the active process, and start again at zero with the next one. Nothing here names
a binding, a target or a credential. Costs what status costs. To look at it by
hand: vault read -format=raw c1/metrics. See docs/monitoring.md and examples/monitoring.
`,
	}
}

func (b *backend) readMetrics(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	o, err := b.overview(ctx)
	if err != nil {
		return nil, err
	}
	var page metrics.Page
	page.Gauges(metricPrefix+"info", "The version of the plugin that answers; always 1.", "version", map[string]float64{b.version: 1})
	o.printHealth(&page, b.now())
	o.printConnection(&page)
	b.tally.print(&page)
	text, err := page.Text()
	if err != nil {
		return nil, err
	}
	// A string: Vault would get bytes from a plugin in base64.
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: metrics.ContentType, logical.HTTPRawBody: text, logical.HTTPStatusCode: http.StatusOK,
	}}, nil
}

// printHealth prints what a person, or the clock, has to see to.
func (o *overview) printHealth(page *metrics.Page, now time.Time) {
	gauge := func(name, help string, value float64) { page.Gauge(metricPrefix+name, help, value) }
	gauge("configured", "Whether config was written.", metrics.Bit(o.cfg != nil))
	gauge("healthy", "Configured, and nothing needs attention.", metrics.Bit(o.healthy()))
	gauge("paused", "Whether everything that is due waits, because C1 is out of reach or this machine's clock is wrong.", metrics.Bit(o.due.PausedReason != ""))
	gauge("bindings", "Bindings of this mount.", float64(o.bindings))
	gauge("bindings_ready", "Bindings that nothing is wrong with.", float64(o.ready))
	wrong := map[string]float64{}
	for reason, count := range o.wrong {
		wrong[reason] = float64(count)
	}
	page.Gauges(metricPrefix+"attention_targets", "Targets that need attention, by reason.", "reason", wrong)
	gauge("rotating_targets", "Targets with a rotation that began in the last few minutes and is still open.", float64(o.rotating))
	gauge("overdue_targets", "Targets that have been waiting for the engine for more than 10 s.", float64(o.due.Overdue))
	oldest := 0.0
	if !o.due.Oldest.IsZero() {
		oldest = now.Sub(o.due.Oldest).Seconds()
	}
	gauge("overdue_oldest_seconds", "How long the oldest overdue target has been due; 0 when there is none.", oldest)
	left := math.NaN()
	if !o.identity.expires.IsZero() {
		left = o.identity.expires.Sub(now).Seconds()
	}
	gauge("identity_expires_seconds", "Seconds until the mount's own credential expires; absent if it does not, or if that is not known.", left)
}

// printConnection prints what this node knows of C1.
func (o *overview) printConnection(page *metrics.Page) {
	breaker := map[string]float64{}
	for _, state := range breakerStates {
		breaker[state] = metrics.Bit(o.link.Breaker == state)
	}
	page.Gauges(metricPrefix+"breaker", "1 for the breaker's state; before the first call to C1 it has none.", "state", breaker)
	page.Gauge(metricPrefix+"clock_offset_seconds", "C1's clock minus this machine's, when it matters.", o.link.ClockOffset.Seconds())
	last := math.NaN()
	if !o.link.LastSuccess.IsZero() {
		last = float64(o.link.LastSuccess.UnixMilli()) / 1000
	}
	page.Gauge(metricPrefix+"last_answer_timestamp_seconds", "When C1 answered last with a status below 500; absent before the first time.", last)
	page.Total(metricPrefix+"token_mints_total", "Access tokens fetched since the client was built; a write of config builds a new one.", float64(o.link.TokenMints))
}
