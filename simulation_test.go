// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/time/rate"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
)

// outage is a time in which C1 takes no connection.
type outage struct{ from, to time.Time }

// plan is what one simulation is given.
type plan struct {
	refs      []targetRef
	names     []string // under which storage knows them, and lists them in order; nil: their IDs
	schedule  schedule
	config    config
	latency   time.Duration // of any request to C1
	start     time.Time
	length    time.Duration
	written   func(i int) time.Duration // after the start; in order
	rotated   bool                      // the write of a binding rotates it (no skip_initial_rotation)
	firstTurn func(i int) time.Time     // instead of the schedule's, for a mount that has run for long; may be nil
	outages   []outage
	keep      bool // the time of each rotation, by target
}

func (p *plan) name(i int) string {
	if p.names != nil {
		return p.names[i]
	}
	return p.refs[i].ConnectorID
}

func (p *plan) index() map[string]int32 {
	if p.names == nil {
		return indexOf(p.refs)
	}
	index := map[string]int32{}
	for i, name := range p.names {
		index[name] = int32(i)
	}
	return index
}

// course is what came of it.
type course struct {
	plan
	turns     map[targetRef][]time.Time // only with keep
	rotations int
	checks    int
	perMinute []int32       // rotations begun, from the start on
	asked     []int32       // requests, likewise
	backlog   []int32       // looks that were due before the minute began and were not done then
	late      time.Duration // worst time between a rotation's turn and its begin
	overdue   int           // rotations begun more than lateAfter after their turn
	broken    int           // rotations more than lateAfter beyond rotation_period
	earliest  float64       // shortest time between two rotations, as a share of the period
	maxLooks  int           // held in memory
}

// scheduledState is what the simulation keeps of a target's state.
type scheduledState struct {
	rotated, next, verify time.Time
	planned               int // minute of the look that is planned, from the start on
}

// simulation is a mount in simulated time.
type simulation struct {
	course
	b       *backend
	store   *dueStorage
	limiter *rate.Limiter
	granted time.Time // the last turn in the rate limit

	at      time.Time
	states  []scheduledState
	index   map[string]int32 // by name
	created int
	asking  []asking // under way, soonest first
	pending []int32  // looks planned per minute and not done
	waiting int32    // those of past minutes
	minute  int      // since the start, counted so far
	scratch target
	current credential
	bind    binding
}

// asking is a look that waits for C1.
type asking struct {
	l         *look
	i         int32
	sent, end time.Time
	verify    bool
}

// simulate plays a plan to its end.
func simulate(p plan) *course {
	s := &simulation{
		course: course{plan: p, earliest: math.Inf(1)}, store: newDueStorage(p.config), at: p.start,
		limiter: limiterOf(p.config.MaxRequestsPerSecond), states: make([]scheduledState, len(p.refs)), index: p.index(),
		bind: binding{RotateOn: rotateOnSchedule, Schedule: p.schedule},
	}
	minutes := int(p.length/time.Minute) + 3
	s.perMinute, s.asked, s.backlog = make([]int32, minutes), make([]int32, minutes), make([]int32, minutes)
	s.pending = make([]int32, minutes)
	if p.keep {
		s.turns = map[targetRef][]time.Time{}
	}
	s.b = newBackend(testVersion, seams{now: func() time.Time { return s.at }})
	mustDo(s.b.Setup(context.Background(), &logical.BackendConfig{StorageView: s.store, System: newSystem(), Logger: hclog.NewNullLogger()}))
	mustDo(s.b.due.start(context.Background()))
	for end := p.start.Add(p.length); s.at.Before(end); s.at = s.next(end) {
		s.count()
		s.writeBindings()
		s.answer()
		s.dispatch()
	}
	s.count()
	c := s.course // without what the simulation holds in memory
	return &c
}

// limiterOf is what the client makes of max_requests_per_second.
func limiterOf(perSecond float64) *rate.Limiter {
	burst := math.Floor(perSecond / 25)
	switch {
	case perSecond <= 0:
		return nil
	case burst < 2:
		return rate.NewLimiter(rate.Limit(perSecond), 1)
	default:
		return rate.NewLimiter(rate.Limit(perSecond-burst), int(burst))
	}
}

// turn is when a request has room in the rate limit, by the client's rule for
// background calls: first come, first served, and one of a burst is kept.
func (s *simulation) turn() time.Time {
	if s.limiter == nil {
		return s.at
	}
	at := later(s.at, s.granted)
	kept := 0.0
	if s.limiter.Burst() >= 4 {
		kept = 1
	}
	for {
		lacking := 1 + kept - s.limiter.TokensAt(at)
		if lacking <= 0 && s.limiter.AllowN(at, 1) {
			s.granted = at
			return at
		}
		at = at.Add(max(time.Duration(lacking/float64(s.limiter.Limit())*float64(time.Second)), time.Millisecond))
	}
}

// next is when something happens, by the rules of the worker's own loop.
func (s *simulation) next(end time.Time) time.Time {
	next := sooner(end, s.nextMinute())
	if s.created < len(s.refs) {
		next = sooner(next, s.start.Add(s.written(s.created)))
	}
	busy := len(s.asking)
	if busy > 0 {
		next = sooner(next, s.asking[0].end)
	}
	if head := s.b.looks.head(); !head.IsZero() && (busy == 0 || busy < s.b.gate.width(s.at, s.b.worker.width())) {
		next = sooner(next, s.b.gate.notBefore(head))
	}
	return later(next, s.at.Add(time.Microsecond))
}

// nextMinute is when the worker lists again. The real one also lists the minutes
// that have no entries, one by one; nothing comes of it.
func (s *simulation) nextMinute() time.Time {
	m := s.slot(s.at) + 1
	if s.created == len(s.refs) && s.b.looks.size() == 0 && s.waiting+s.pending[m-1] == 0 {
		for m < len(s.pending)-1 && s.pending[m] == 0 {
			m++
		}
	}
	return time.Unix((minuteOf(s.start)+int64(m))*60, 0)
}

// slot is the index of a time's minute.
func (c *course) slot(at time.Time) int { return int(minuteOf(at) - minuteOf(c.start)) }

// tally counts in a time's minute, if that is part of the course.
func (c *course) tally(perMinute []int32, at time.Time) {
	if m := c.slot(at); m < len(perMinute) {
		perMinute[m]++
	}
}

// count takes notes when a minute begins.
func (s *simulation) count() {
	for now := s.slot(s.at); s.minute < now; {
		s.waiting += s.pending[s.minute]
		s.pending[s.minute] = 0
		s.minute++
		s.backlog[s.minute] = s.waiting
		s.maxLooks = max(s.maxLooks, s.b.looks.size())
	}
}

// plan stores when to look next, as the engine does.
func (s *simulation) plan(i int32) {
	at := s.target(i).nextLook()
	_, err := s.b.due.put(context.Background(), s.name(int(i)), at)
	mustDo(err)
	m := max(s.slot(at), s.minute)
	if m < len(s.pending) {
		s.pending[m]++
	}
	s.states[i].planned = m
}

// target is a state as the engine's own code takes it. It is good until the next
// call.
func (s *simulation) target(i int32) *target {
	st := s.states[i]
	s.current = credential{RotatedAt: st.rotated}
	s.scratch = target{Ref: s.refs[i], Scheduled: true, Current: &s.current, NextRotation: st.next, VerifyAt: st.verify}
	return &s.scratch
}

func (s *simulation) take(i int32, t *target) {
	st := &s.states[i]
	st.rotated, st.next, st.verify = t.Current.RotatedAt, t.NextRotation, t.VerifyAt
}

// writeBindings is the operator.
func (s *simulation) writeBindings() {
	for ; s.created < len(s.refs) && !s.start.Add(s.written(s.created)).After(s.at); s.created++ {
		i := int32(s.created)
		t := s.target(i)
		switch {
		case s.firstTurn != nil:
			t.NextRotation = s.firstTurn(s.created)
			t.Current.RotatedAt = t.NextRotation.Add(t.NextRotation.Sub(s.schedule.after(t.NextRotation, t.Ref)))
			s.steadyCheck(t)
		case s.rotated:
			t.Current.RotatedAt = s.at
			t.keep(&s.bind, &s.config, &material{}, nil)
		default:
			t.NextRotation = s.schedule.after(s.at, t.Ref)
		}
		s.take(i, t)
		s.plan(i)
	}
}

// steadyCheck puts the next drift check of a target that was checked for long
// anywhere in its period.
func (s *simulation) steadyCheck(t *target) {
	t.planCheck(s.config.checkEvery(&s.bind), s.at)
	if !t.VerifyAt.IsZero() {
		t.VerifyAt = s.at.Add(time.Duration(float64(t.VerifyAt.Sub(s.at)) * uniform(s.created)))
	}
}

// dispatch hands out what is due, as the worker's loop does.
func (s *simulation) dispatch() {
	mustDo(s.b.feed(context.Background()))
	for len(s.asking) < s.b.gate.width(s.at, s.b.worker.width()) {
		l := s.b.looks.pop(s.at)
		if l == nil {
			return
		}
		s.settle(l)
		mustDo(s.b.feed(context.Background()))
	}
}

var errDown = &c1api.Error{Reason: c1api.ReasonNotSent, Message: "connection refused"}

func (s *simulation) down(at time.Time) bool {
	return slices.ContainsFunc(s.outages, func(o outage) bool { return !at.Before(o.from) && at.Before(o.to) })
}

// settle begins a look.
func (s *simulation) settle(l *look) {
	s.b.gate.mu.Lock()
	closes := s.b.gate.closes
	s.b.gate.mu.Unlock()
	if closes > 0 && s.down(s.at) { // the probe
		s.b.gate.close(s.at, errDown)
		s.b.looks.putBack(l, l.at)
		return
	}
	i := s.index[l.name]
	st := s.states[i]
	verify := !st.verify.IsZero() && !s.at.Before(st.verify)
	if verify || !s.at.Before(st.next) {
		s.ask(asking{l: l, i: i, verify: verify})
		return
	}
	s.b.gate.heard(s.at, errNotAsked)
	if next := s.target(i).nextLook(); minuteOf(next) <= s.b.due.reached.Load() {
		s.b.looks.putBack(l, next)
		return
	}
	s.end(l)
}

// ask sends a request as soon as it may.
func (s *simulation) ask(a asking) {
	a.sent = s.turn()
	a.end = a.sent.Add(s.latency)
	if s.down(a.sent) {
		a.end = a.sent
	} else {
		s.tally(s.asked, a.sent)
	}
	at, _ := slices.BinarySearchFunc(s.asking, a, func(b, a asking) int {
		return cmp.Or(b.end.Compare(a.end), -1) // behind its equals
	})
	s.asking = slices.Insert(s.asking, at, a)
}

// answer takes what C1 has answered by now.
func (s *simulation) answer() {
	for len(s.asking) > 0 && !s.asking[0].end.After(s.at) {
		a := s.asking[0]
		s.asking = s.asking[1:]
		if s.down(a.sent) {
			s.b.gate.heard(s.at, errDown)
			s.b.looks.putBack(a.l, a.l.at)
			continue
		}
		t := s.target(a.i)
		switch {
		case a.verify:
			s.checks++
			t.VerifyAt, t.CheckedAt = time.Time{}, s.at
			t.planCheck(s.config.checkEvery(&s.bind), s.at)
			if !s.at.Before(t.NextRotation) {
				s.take(a.i, t)
				s.ask(asking{l: a.l, i: a.i})
				continue
			}
		default:
			s.noteRotation(a, t)
			t.VerifyAt, t.Current.RotatedAt = time.Time{}, s.at
			t.keep(&s.bind, &s.config, &material{}, nil)
		}
		s.take(a.i, t)
		s.done(a.i)
		s.plan(a.i)
		s.b.gate.heard(s.at, nil)
		s.end(a.l)
	}
}

// done takes a look out of the backlog.
func (s *simulation) done(i int32) {
	switch m := s.states[i].planned; {
	case m < s.minute:
		s.waiting--
	case m < len(s.pending):
		s.pending[m]--
	}
}

// end drops what brought a look up.
func (s *simulation) end(l *look) {
	entries := s.b.looks.entriesOf(l)
	for _, minute := range entries {
		mustDo(s.b.due.drop(context.Background(), minute, l.name))
	}
	s.b.looks.finish(l, len(entries))
}

func (s *simulation) noteRotation(a asking, t *target) {
	s.rotations++
	s.tally(s.perMinute, a.sent)
	late := a.sent.Sub(t.NextRotation)
	s.late = max(s.late, late)
	if late > lateAfter {
		s.overdue++
	}
	if since := t.Current.RotatedAt; !since.IsZero() && s.schedule.Period > 0 {
		if a.sent.Sub(since) > s.schedule.Period+lateAfter {
			s.broken++
		}
		s.earliest = min(s.earliest, float64(a.sent.Sub(since))/float64(s.schedule.Period))
	}
	if s.turns != nil {
		s.turns[t.Ref] = append(s.turns[t.Ref], s.at)
	}
}

func mustDo(err error) {
	if err != nil {
		panic(err)
	}
}

// dueStorage holds due entries, the config and the watermark, and nothing else.
type dueStorage struct {
	mu      sync.Mutex
	single  map[string][]byte
	minutes map[string]map[string]struct{} // IDs of connectors
}

func newDueStorage(cfg config) *dueStorage {
	d := &dueStorage{single: map[string][]byte{}, minutes: map[string]map[string]struct{}{}}
	mustDo(storedConfig.Write(context.Background(), onDisk(d), store.Fixed(configKey), &cfg))
	return d
}

const minuteDigits = 10

// cut takes a due entry's key apart.
func (d *dueStorage) cut(key string) (minute, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, duePrefix)
	if !ok {
		return "", "", false
	}
	return rest[:minuteDigits], rest[minuteDigits+1:], true
}

func (d *dueStorage) Get(_ context.Context, key string) (*logical.StorageEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value, ok := d.single[key]; ok {
		return &logical.StorageEntry{Key: key, Value: value}, nil
	}
	return nil, nil
}

func (d *dueStorage) Put(_ context.Context, e *logical.StorageEntry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	minute, id, ok := d.cut(e.Key)
	if !ok {
		d.single[e.Key] = e.Value
		return nil
	}
	ids := d.minutes[minute]
	if ids == nil {
		ids = map[string]struct{}{}
		d.minutes[minute] = ids
	}
	ids[id] = struct{}{}
	return nil
}

func (d *dueStorage) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	minute, id, _ := d.cut(key)
	if delete(d.minutes[minute], id); len(d.minutes[minute]) == 0 {
		delete(d.minutes, minute)
	}
	return nil
}

func (d *dueStorage) List(_ context.Context, prefix string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	minute, _, _ := strings.Cut(strings.TrimPrefix(prefix, duePrefix), "/")
	ids := d.minutes[minute]
	names := make([]string, 0, len(ids))
	for id := range ids {
		names = append(names, id)
	}
	slices.Sort(names)
	return names, nil
}

// connectorsAt are n connectors of C1 with IDs as C1 makes them: 27 characters,
// of which the first tell the second and the rest are random.
func connectorsAt(n int) []targetRef {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random := rand.New(rand.NewPCG(1, 2))
	id := func() string {
		b := []byte("2mP7Zk")
		for len(b) < 27 {
			b = append(b, alphabet[random.IntN(len(alphabet))])
		}
		return string(b)
	}
	refs := make([]targetRef, n)
	app := id()
	for i := range refs {
		if i%100 == 0 {
			app = id()
		}
		refs[i] = targetRef{Kind: kindConnector, AppID: app, ConnectorID: id()}
	}
	return refs
}

var indices sync.Map // of the address of a list of targets, which simulations share

func indexOf(refs []targetRef) map[string]int32 {
	if known, ok := indices.Load(&refs[0]); ok {
		return known.(map[string]int32)
	}
	index := make(map[string]int32, len(refs))
	for i, ref := range refs {
		index[ref.ConnectorID] = int32(i)
	}
	indices.Store(&refs[0], index)
	return index
}

// uniform is a number in [0, 1) for each binding, always the same.
func uniform(i int) float64 {
	_, fraction := math.Modf(float64(i+1) * math.Phi)
	return fraction
}

// figures

// busiest is the highest rate of a slice of time, times the mean rate that so
// many bindings have in the long run, with slices of so many minutes.
func (c *course) busiest(from, to time.Duration, slice int) float64 {
	most, first, last := 0, int(from/time.Minute), min(int(to/time.Minute), len(c.perMinute))
	for m := first; m+slice <= last; m += slice {
		n := 0
		for _, count := range c.perMinute[m : m+slice] {
			n += int(count)
		}
		most = max(most, n)
	}
	return float64(most) / float64(slice) / c.meanPerMinute()
}

// meanPerMinute is the rate in the long run: the splay takes a twentieth off
// the period on average.
func (c *course) meanPerMinute() float64 {
	sum := 0.0
	for _, ref := range c.refs {
		sum += 1 / c.schedule.after(c.start, ref).Sub(c.start).Minutes()
	}
	return sum
}

func (c *course) largestBacklog() int { return int(slices.Max(c.backlog)) }

// drained is how long after a time the backlog is gone, but for what is under
// way anyhow.
func (c *course) drained(from time.Time) time.Duration {
	for m := c.slot(from) + 1; m < len(c.backlog); m++ {
		if int(c.backlog[m]) <= c.config.RotationWorkers {
			return time.Unix((minuteOf(c.start)+int64(m))*60, 0).Sub(from)
		}
	}
	return -1
}

func (c *course) backlogAt(at time.Time) int { return int(c.backlog[c.slot(at)]) }

// limits are a config with what decides about the pace.
func limits(workers int, perSecond float64, driftCheck time.Duration) config {
	cfg := configDefaults()
	cfg.RotationWorkers, cfg.MaxRequestsPerSecond, cfg.DriftCheckPeriod = workers, perSecond, driftCheck
	for c1api.BackgroundRequests(cfg.MaxConcurrentRequests) < workers {
		cfg.MaxConcurrentRequests++
	}
	return cfg
}
