// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// scrape reads metrics, and returns the text and each series, by name and labels,
// with its value; a histogram's is how much it observed.
func (e *engine) scrape() (text string, series map[string]float64) {
	e.Helper()
	data := e.read("metrics").Data
	require.Equal(e, http.StatusOK, data[logical.HTTPStatusCode])
	require.Equal(e, "text/plain; version=0.0.4; charset=utf-8", data[logical.HTTPContentType])
	text = data[logical.HTTPRawBody].(string)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(e, err)
	series = map[string]float64{}
	for name, family := range families {
		require.NotEmpty(e, family.GetHelp(), name)
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			series[key] = valueOf(m)
		}
	}
	return text, series
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount())
	case m.Counter != nil:
		return m.Counter.GetValue()
	default:
		return m.Gauge.GetValue()
	}
}

func TestMetricsOfAnEmptyMount(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	_, s := e.scrape()
	require.EqualValues(t, 1, s["vault_c1_info{version="+testVersion+"}"])
	for _, name := range []string{"configured", "healthy", "paused", "bindings", "overdue_targets", "overdue_oldest_seconds", "token_mints_total"} {
		require.Contains(t, s, "vault_c1_"+name)
		require.Zero(t, s["vault_c1_"+name], name)
	}
	for _, name := range []string{"identity_expires_seconds", "last_answer_timestamp_seconds", "rotations_total"} {
		require.NotContains(t, s, "vault_c1_"+name, "it is not known")
	}
	require.Zero(t, sumOf(s, "vault_c1_breaker{"))
	require.Contains(t, s, "vault_c1_requests_total{operation=rotate,code=none}", "or the first would be no increase")
}

// metricsSayWhatStatusSays checks that metrics has each number of status.
func (e *engine) metricsSayWhatStatusSays() map[string]float64 {
	e.Helper()
	status := e.read("status").Data
	_, s := e.scrape()
	for name, want := range map[string]any{
		"bindings": status["bindings"], "bindings_ready": status["ready"], "rotating_targets": status["rotating"],
		"overdue_targets": status["overdue"], "configured": status["configured"], "healthy": status["healthy"],
		"paused": status["paused_reason"] != "", "token_mints_total": status["token_mints"],
	} {
		switch want {
		case true:
			want = 1
		case false:
			want = 0
		}
		require.EqualValues(e, want, s["vault_c1_"+name], name)
	}
	for _, reason := range target.AttentionReasons {
		require.EqualValues(e, status[reason], s["vault_c1_attention_targets{reason="+reason+"}"], reason)
	}
	for _, state := range breakerStates {
		require.EqualValues(e, state == status["breaker"], s["vault_c1_breaker{state="+state+"}"] == 1, state)
	}
	return s
}

func TestMetricsSayWhatStatusSays(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.metricsSayWhatStatusSays()
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	s := e.metricsSayWhatStatusSays()
	require.EqualValues(t, 1, s["vault_c1_rotations_total{kind=connector,reason=read,outcome=issued}"])
	require.EqualValues(t, 1, s["vault_c1_healthy"])
	require.EqualValues(t, 1, s["vault_c1_requests_total{operation=rotate,code=2xx}"])
	require.EqualValues(t, 1, s["vault_c1_request_duration_seconds{operation=rotate}"])
	require.InDelta(t, e.clock.now().Unix(), s["vault_c1_last_answer_timestamp_seconds"], 60)

	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	s = e.metricsSayWhatStatusSays()
	require.EqualValues(t, 1, s["vault_c1_attention_targets{reason=ambiguous}"])
	require.EqualValues(t, 1, s["vault_c1_rotations_total{kind=connector,reason=read,outcome=ambiguous}"])
	require.EqualValues(t, 1, s["vault_c1_requests_total{operation=rotate,code=none}"])

	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Status: http.StatusNotFound, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	s = e.metricsSayWhatStatusSays()
	require.EqualValues(t, 1, s["vault_c1_rotations_total{kind=connector,reason=read,outcome=failed}"])
	require.EqualValues(t, 1, s["vault_c1_requests_total{operation=rotate,code=4xx}"])

	require.EqualValues(t, e.c1.Requests(c1test.OpRotateConnector), sumOf(s, "vault_c1_requests_total{operation=rotate,"))
}

// sumOf adds up the series that begin so.
func sumOf(series map[string]float64, prefix string) (sum float64) {
	for key, value := range series {
		if strings.HasPrefix(key, prefix) {
			sum += value
		}
	}
	return sum
}

func TestMetricsOfWhatIsOverdue(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.configureStatic()
	e.bindMany(2)
	e.clock.advance(2 * time.Hour)
	_, _, err := e.b.agenda.Take(t.Context())
	require.NoError(t, err)
	s := e.metricsSayWhatStatusSays()
	oldest, err := time.Parse(time.RFC3339, e.read("status").Data["oldest_overdue"].(string))
	require.NoError(t, err)
	require.InDelta(t, e.clock.now().Sub(oldest).Seconds(), s["vault_c1_overdue_oldest_seconds"], 5)
	require.NotZero(t, s["vault_c1_overdue_targets"])
}

// Nothing of what a mount has may be told by its figures: whoever scrapes them is not
// trusted with names, and a store of figures is read by many.
func TestMetricsNameNothingOfTheMount(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("payroll-sync")
	decoy := e.bindDecoy("honeypot", c1test.KindConnectorClient)
	vended := e.vend("connector-creds/payroll-sync").Data
	e.write("decoy-creds/honeypot", "placement", "web-1")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, DropAfter: true, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/payroll-sync", nil)
	text, _ := e.scrape()
	for _, told := range []string{
		"payroll", "honeypot", "web-1", ref.AppID, ref.ConnectorID, decoy, "entity-1", "approle-billing",
		vended["client_id"].(string), vended["client_secret"].(string), target.Fingerprint(vended["client_secret"].(string))[:12],
		e.c1.Identity().ClientID, strings.TrimPrefix(e.c1.URL(), "https://"),
	} {
		require.NotContains(t, text, told)
	}
}

// What a scrape costs is bounded by what is wrong, whatever exists.
func TestMetricsCostTheSameForAnyNumberOfBindings(t *testing.T) {
	t.Parallel()
	cost := func(bindings int) (operations, int) {
		e := newEngine(t)
		e.configureStatic()
		e.bindMany(bindings)
		e.scrape() // what is remembered is read once
		e.storage.failWhen(func(op, key string) bool {
			require.False(t, op == "list" && (key == bindingPrefix || key == agenda.Prefix), "it is as long as there are bindings")
			return false
		})
		e.storage.operations()
		text, _ := e.scrape()
		return e.storage.operations(), strings.Count(text, "\n")
	}
	few, lines := cost(3)
	many, same := cost(60)
	require.Equal(t, few, many)
	require.Equal(t, lines, same)
	require.Zero(t, few.puts+few.deletes)
}

func TestMetricsFailWithTheirStorage(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.restart()
	e.storage.failWhen(func(op, _ string) bool { return op == "list" })
	require.Equal(t, 500, e.refused(logical.ReadOperation, "metrics", nil).status)
	e.storage.failWhen(nil)
	e.scrape()
}

func TestMetricsTellWhenTheMountsCredentialExpires(t *testing.T) {
	t.Parallel()
	e, _ := ownMount(t, c1test.ExpiresIn(30*24*time.Hour))
	e.after(time.Minute) // C1 is asked in the background
	until, err := time.Parse(time.RFC3339, e.read("status").Data["identity_expires_at"].(string))
	require.NoError(t, err)
	_, s := e.scrape()
	require.InDelta(t, until.Sub(e.clock.now()).Seconds(), s["vault_c1_identity_expires_seconds"], 5)
	e.clock.advance(until.Sub(e.clock.now()) + time.Hour)
	_, s = e.scrape()
	require.Negative(t, s["vault_c1_identity_expires_seconds"], "it has expired")
}

// Every request to C1 is counted under an operation that begins at zero.
func TestEveryRequestIsOfAKnownOperation(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.bindDecoy("bait", c1test.KindConnectorClient, "annotate", true)
	lease := e.vend("connector-creds/hr").Secret
	e.write("decoy-creds/bait", "placement", "web-1")
	_, err := e.revoke(lease)
	require.NoError(t, err)
	e.write("config/rotate-root")
	_, s := e.scrape()
	seen := map[string]float64{}
	for key, value := range s {
		if rest, found := strings.CutPrefix(key, "vault_c1_requests_total{operation="); found {
			operation, _, _ := strings.Cut(rest, ",")
			seen[operation] += value
		}
	}
	require.ElementsMatch(t, c1api.Operations, slices.Collect(maps.Keys(seen)))
	for _, operation := range []string{"token", "introspect", "rotate", "revoke", "create", "update", "list"} {
		require.NotZero(t, seen[operation], operation)
	}
	require.EqualValues(t, e.read("status").Data["token_mints"], s["vault_c1_token_mints_total"])
}
