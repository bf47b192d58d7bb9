// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package monitoring

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// page is the answer to one scrape.
type page struct {
	contentType string
	body        []byte
}

// sample is one line of a page.
type sample struct {
	labels labels.Labels
	value  float64
}

// samples parses a page as Prometheus does, which must like all of it.
func (p page) samples(t *testing.T) []sample {
	t.Helper()
	lines, err := textparse.New(p.body, p.contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	require.NoError(t, err, "without a fallback")
	var found []sample
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		if entry != textparse.EntrySeries {
			continue
		}
		var s sample
		lines.Labels(&s.labels)
		_, _, s.value = lines.Series()
		found = append(found, s)
	}
}

// value is what a page says of a name, with labels as name, value pairs.
func (p page) value(t *testing.T, name string, pairs ...string) float64 {
	t.Helper()
	want := labels.FromStrings(append([]string{model.MetricNameLabel, name}, pairs...)...)
	for _, s := range p.samples(t) {
		if labels.Equal(s.labels, want) {
			return s.value
		}
	}
	t.Fatalf("there is no %s in\n%s", want, p.body)
	return 0
}

const (
	scrapeEvery   = 30 * time.Second
	evaluateEvery = time.Minute
)

// replay is time as Prometheus sees it: pages that were really scraped, told again and
// again for as long as an alert waits, with the rules of the examples.
type replay struct {
	*testing.T
	now    time.Time
	store  *teststorage.TestStorage
	engine *promql.Engine
	rules  []*rules.AlertingRule
}

func newReplay(t *testing.T, file string) *replay {
	t.Helper()
	r := &replay{
		T: t, now: time.Unix(1_800_000_000, 0), store: teststorage.New(t),
		engine: promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000),
	}
	groups := parseRules(t, file)
	require.Len(t, groups.Groups, 1)
	expressions := parser.NewParser(parser.Options{})
	for _, rule := range groups.Groups[0].Rules {
		expr, err := expressions.ParseExpr(rule.Expr)
		require.NoError(t, err, rule.Alert)
		r.rules = append(r.rules, rules.NewAlertingRule(rule.Alert, expr, time.Duration(rule.For), 0,
			labels.FromMap(rule.Labels), labels.FromMap(rule.Annotations), labels.EmptyLabels(), "", true, promslog.NewNopLogger()))
	}
	return r
}

func parseRules(t *testing.T, file string) *rulefmt.RuleGroups {
	t.Helper()
	groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	return groups
}

// lasts lets a page be what is scraped for a while; nil is that none can be.
func (r *replay) lasts(d time.Duration, p *page) *replay {
	r.Helper()
	var lines []sample
	up := 0.0
	if p != nil {
		lines, up = p.samples(r.T), 1
	}
	lines = append(lines, sample{labels.FromStrings(model.MetricNameLabel, "up"), up})
	for i := range lines { // what the scrape's configuration adds
		lines[i].labels = labels.NewBuilder(lines[i].labels).
			Set("job", "vault-c1").Set("instance", "vault.example.com:8200").Set("mount", "c1").Labels()
	}
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(scrapeEvery) {
		add := r.store.Appender(r.Context())
		for _, line := range lines {
			_, err := add.Append(storage.SeriesRef(0), line.labels, r.now.UnixMilli(), line.value)
			require.NoError(r, err)
		}
		require.NoError(r, add.Commit())
		if r.now.Unix()%int64(evaluateEvery.Seconds()) != 0 {
			continue
		}
		for _, rule := range r.rules {
			_, err := rule.Eval(r.Context(), 0, r.now, rules.EngineQueryFunc(r.engine, r.store), nil, 0)
			require.NoError(r, err, rule.Name())
			rule.SetEvaluationTimestamp(r.now)
		}
	}
	return r
}

// firing are the alerts that fire, in the order of the rules.
func (r *replay) firing() []string {
	names := []string{}
	for _, rule := range r.rules {
		if rule.State() != rules.StateFiring {
			continue
		}
		names = append(names, rule.Name())
		rule.ForEachActiveAlert(func(a *rules.Alert) {
			require.NotContains(r, a.Annotations.Get("summary"), "<error")
			require.Contains(r, a.Annotations.Get("summary"), "c1")
		})
	}
	return names
}

// ask evaluates an expression now.
func (r *replay) ask(expr string) promql.Vector {
	r.Helper()
	result, err := rules.EngineQueryFunc(r.engine, r.store)(r.Context(), expr, r.now.Add(-scrapeEvery))
	require.NoError(r, err, expr)
	return result
}
