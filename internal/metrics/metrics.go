// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package metrics counts, and prints figures in Prometheus' text format. It keeps
// nothing per process: one process serves many mounts, and each has its own.
//
// It stands on Prometheus' wire types and its text encoder alone. The client library
// would add three more modules and twice as much to the binary, for one registry with
// three families.
package metrics

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// ContentType is what a page is served as.
var ContentType = string(expfmt.NewFormat(expfmt.TypeTextPlain))

// family is all series of one name, one for each combination of label values. Until
// somebody scrapes, a series is its figures alone: there are many, in each mount.
type family[S any] struct {
	name, help string
	kind       dto.MetricType
	labels     []string

	mu     sync.Mutex
	series map[string]*S // by label values
}

func newFamily[S any](kind dto.MetricType, name, help string, labels []string) family[S] {
	return family[S]{name: name, help: help, kind: kind, labels: labels, series: map[string]*S{}}
}

// with returns the series of these label values; f.mu is held.
func (f *family[S]) with(values []string) *S {
	key := strings.Join(values, between)
	if f.series[key] == nil {
		f.series[key] = new(S)
	}
	return f.series[key]
}

// between stands between label values.
const between = "\x00"

// snapshot prints each series with what fill says of it.
func (f *family[S]) snapshot(fill func(*dto.Metric, S)) *dto.MetricFamily {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := familyOf(f.kind, f.name, f.help)
	for _, key := range slices.Sorted(maps.Keys(f.series)) {
		m := &dto.Metric{Label: labelled(f.labels, strings.Split(key, between))}
		fill(m, *f.series[key])
		now.Metric = append(now.Metric, m)
	}
	return now
}

func familyOf(kind dto.MetricType, name, help string, series ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: series}
}

// labelled pairs names with values.
func labelled(names, values []string) []*dto.LabelPair {
	var pairs []*dto.LabelPair
	for i, name := range names {
		pairs = append(pairs, &dto.LabelPair{Name: proto.String(name), Value: proto.String(values[i])})
	}
	return pairs
}

// Counter counts what happened, by label values. It is safe for concurrent use.
type Counter struct{ family[float64] }

// NewCounter returns a counter without any series.
func NewCounter(name, help string, labels ...string) *Counter {
	return &Counter{newFamily[float64](dto.MetricType_COUNTER, name, help, labels)}
}

// Add counts n more of these label values, one value for each label. Zero makes the
// series known: of one that begins with 1, Prometheus sees no increase.
func (c *Counter) Add(n float64, values ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.with(values) += n
}

func (c *Counter) snapshot() *dto.MetricFamily {
	return c.family.snapshot(func(m *dto.Metric, count float64) { m.Counter = &dto.Counter{Value: &count} })
}

// Histogram counts observations by size and label values. It is safe for concurrent use.
type Histogram struct {
	family[observed]
	bounds []float64
}

// observed is one series of a histogram.
type observed struct {
	count   uint64
	sum     float64
	buckets []uint64 // by bound, each with all that is smaller
}

// NewHistogram returns a histogram without any series. The bounds ascend; the last
// bucket, without a bound, comes by itself.
func NewHistogram(name, help string, bounds []float64, labels ...string) *Histogram {
	return &Histogram{family: newFamily[observed](dto.MetricType_HISTOGRAM, name, help, labels), bounds: bounds}
}

// Observe counts one observation of these label values, one value for each label.
func (h *Histogram) Observe(v float64, values ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.with(values)
	if o.buckets == nil {
		o.buckets = make([]uint64, len(h.bounds))
	}
	o.count++
	o.sum += v
	for i, bound := range h.bounds {
		if v <= bound {
			o.buckets[i]++
		}
	}
}

func (h *Histogram) snapshot() *dto.MetricFamily {
	return h.family.snapshot(func(m *dto.Metric, o observed) {
		m.Histogram = &dto.Histogram{SampleCount: &o.count, SampleSum: &o.sum}
		for i, bound := range h.bounds {
			m.Histogram.Bucket = append(m.Histogram.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: proto.Uint64(o.buckets[i])})
		}
	})
}

// Page is the answer to one scrape.
type Page struct{ families []*dto.MetricFamily }

// Counted adds what a counter or a histogram has counted until now.
func (p *Page) Counted(f interface{ snapshot() *dto.MetricFamily }) {
	if now := f.snapshot(); len(now.Metric) > 0 {
		p.families = append(p.families, now)
	}
}

// Total adds one counter that somebody else keeps.
func (p *Page) Total(name, help string, value float64) {
	p.families = append(p.families, familyOf(dto.MetricType_COUNTER, name, help,
		&dto.Metric{Counter: &dto.Counter{Value: &value}}))
}

// Gauge adds one figure. What is not known (NaN) is left out.
func (p *Page) Gauge(name, help string, value float64) {
	p.Gauges(name, help, "", map[string]float64{"": value})
}

// Gauges adds figures that one label tells apart.
func (p *Page) Gauges(name, help, label string, values map[string]float64) {
	var series []*dto.Metric
	for _, of := range slices.Sorted(maps.Keys(values)) {
		value := values[of]
		if math.IsNaN(value) {
			continue
		}
		m := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
		if label != "" {
			m.Label = labelled([]string{label}, []string{of})
		}
		series = append(series, m)
	}
	if len(series) > 0 {
		p.families = append(p.families, familyOf(dto.MetricType_GAUGE, name, help, series...))
	}
}

// Text is the page in Prometheus' text format.
func (p *Page) Text() (string, error) {
	var text strings.Builder
	for _, f := range p.families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

// Bit is 1 for yes and 0 for no.
func Bit(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
