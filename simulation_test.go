// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/time/rate"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// outage is a time in which C1 takes no connection.
type outage struct{ from, to time.Time }

// plan is what one simulation is given.
type plan struct {
	refs      []target.Ref
	names     []string       // under which storage knows them, and lists them in order; nil: their IDs
	splays    []target.Splay // as their states have them; nil: any
	schedule  target.Schedule
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

func (p *plan) splay(i int) target.Splay {
	if p.splays != nil {
		return p.splays[i]
	}
	return anySplay(p.refs[i])
}

// anySplay is a splay as if drawn, and the same in each run.
func anySplay(ref target.Ref) target.Splay {
	h := fnv.New32a()
	_, _ = h.Write([]byte(ref.Key())) // a hash takes everything
	return target.Splay(h.Sum32() >> 16)
}

// course is what came of it.
type course struct {
	plan
	turns     map[target.Ref][]time.Time // only with keep
	rotations int
	checks    int
	perMinute []int32       // rotations begun, from the start on
	asked     []int32       // requests, likewise
	backlog   []int32       // looks that were due before the minute began and were not done then
	late      time.Duration // worst time between a rotation's turn and its begin
	overdue   int           // rotations begun more than lateAfter after their turn
	broken    int           // rotations more than lateAfter beyond rotation_period
	earliest  float64       // shortest time between two rotations, as a share of the period
}

// scheduledState is what the simulation keeps of a target's state.
type scheduledState struct {
	rotated, next, verify time.Time
	planned               int // minute of the look that is planned, from the start on
}

// simulation is a mount in simulated time.
type simulation struct {
	course
	agenda  *agenda.Agenda
	store   *dueStorage
	limiter *rate.Limiter
	granted time.Time // the last turn in the rate limit
	probed  time.Time // the last probe's turn

	at      time.Time
	states  []scheduledState
	keys    *keys
	created int
	take    time.Time // when the worker asks its agenda again
	asking  []asking  // under way, soonest first
	pending []int32   // looks planned per minute and not done
	waiting int32     // those of past minutes
	minute  int       // since the start, counted so far
	bind    binding
}

// asking is a look that waits for C1.
type asking struct {
	e         *agenda.Entry
	i         int32
	sent, end time.Time
	verify    bool
}

// simulate plays a plan to its end.
func simulate(p plan) *course {
	s := &simulation{
		course: course{plan: p, earliest: math.Inf(1)}, store: newDueStorage(), at: p.start,
		limiter: limiterOf(p.config.MaxRequestsPerSecond), states: make([]scheduledState, len(p.refs)), keys: keysOf(p),
		bind: binding{RotateOn: rotateOnSchedule, Schedule: p.schedule},
	}
	minutes := int(p.length/time.Minute) + 3
	s.perMinute, s.asked, s.backlog = make([]int32, minutes), make([]int32, minutes), make([]int32, minutes)
	s.pending = make([]int32, minutes)
	if p.keep {
		s.turns = map[target.Ref][]time.Time{}
	}
	workers := min(p.config.RotationWorkers, c1api.BackgroundRequests(p.config.MaxConcurrentRequests))
	s.agenda = agenda.New(context.Background(), agenda.Options{
		Storage: s.store, Logger: hclog.NewNullLogger(), Now: func() time.Time { return s.at },
		Workers: func(context.Context) (int, error) { return workers, nil },
		Probe:   func(context.Context) agenda.Signal { return s.probe() }, ClockTrusted: func(context.Context) error { return nil },
	})
	mustDo(s.agenda.Start(context.Background()))
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

// next is when something happens.
func (s *simulation) next(end time.Time) time.Time {
	next := sooner(end, s.nextTake())
	if s.created < len(s.refs) {
		next = sooner(next, s.start.Add(s.written(s.created)))
	}
	if len(s.asking) > 0 {
		next = sooner(next, s.asking[0].end)
	}
	return later(next, s.at.Add(time.Microsecond))
}

// nextTake is when the worker asks its agenda again. The real one also does so in
// the minutes that have no entries, one by one; nothing comes of it.
func (s *simulation) nextTake() time.Time {
	m := s.slot(s.at) + 1
	if s.take.Equal(s.minuteAt(m)) && s.created == len(s.refs) && s.waiting+s.pending[m-1] == 0 {
		for m < len(s.pending)-1 && s.pending[m] == 0 {
			m++
		}
		return s.minuteAt(m)
	}
	return s.take
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// minuteAt is when the minute of a slot begins.
func (c *course) minuteAt(slot int) time.Time {
	return time.Unix((minuteOf(c.start)+int64(slot))*60, 0)
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
	}
}

// plan stores when to look next, as the engine does.
func (s *simulation) plan(i int32) {
	at := nextAt(s.target(i))
	_, err := s.agenda.Put(context.Background(), s.keys.of[i], at)
	mustDo(err)
	m := max(s.slot(at), s.minute)
	if m < len(s.pending) {
		s.pending[m]++
	}
	s.states[i].planned = m
}

// target is a state as the engine's own code takes it.
func (s *simulation) target(i int32) *target.State {
	st := s.states[i]
	t := &target.State{
		Ref: s.refs[i], Splay: s.splay(int(i)), Scheduled: true, Current: &target.Credential{RotatedAt: st.rotated}, NextRotation: st.next,
	}
	if !st.verify.IsZero() {
		t.Recheck = &target.Recheck{At: st.verify, Why: target.Periodic}
	}
	return t
}

// terms are what config and binding ask of each of them.
func (s *simulation) terms() target.Terms {
	return (&session{config: &s.config}).terms(&s.bind)
}

// rotatedNow is a state after a rotation that succeeds now.
func (s *simulation) rotatedNow(t *target.State) *target.State {
	return t.Begin(target.Origin{}, s.at).Succeeded(s.at, s.terms(), target.Result{})
}

func (s *simulation) remember(i int32, t *target.State) {
	st := &s.states[i]
	st.rotated, st.next, st.verify = t.Current.RotatedAt, t.NextRotation, recheckAt(t)
}

// writeBindings is the operator.
func (s *simulation) writeBindings() {
	for ; s.created < len(s.refs) && !s.start.Add(s.written(s.created)).After(s.at); s.created++ {
		i := int32(s.created)
		t := s.target(i)
		switch {
		case s.firstTurn != nil:
			t.NextRotation = s.firstTurn(s.created)
			t.Current.RotatedAt = t.NextRotation.Add(t.NextRotation.Sub(s.schedule.After(t.NextRotation, t.Splay)))
			t = s.steadyCheck(t)
		case s.rotated:
			t = s.rotatedNow(t)
		default:
			t.NextRotation = s.schedule.After(s.at, t.Splay)
		}
		s.remember(i, t)
		s.plan(i)
	}
}

// steadyCheck puts the next drift check of a target that was checked for long
// anywhere in its period.
func (s *simulation) steadyCheck(t *target.State) *target.State {
	t = t.LookReplanned(s.at, s.config.checkEvery(&s.bind))
	if at := recheckAt(t); !at.IsZero() {
		t.Recheck = &target.Recheck{At: s.at.Add(time.Duration(float64(at.Sub(s.at)) * uniform(s.created))), Why: target.Periodic}
	}
	return t
}

// dispatch hands out what is due, as the worker's loop does.
func (s *simulation) dispatch() {
	for {
		e, next, err := s.agenda.Take(context.Background())
		mustDo(err)
		if e != nil {
			s.settle(e)
		} else if s.take = next; next.After(s.at) {
			return
		}
	}
}

var errDown = &c1api.Error{Reason: c1api.ReasonNotSent, Message: "connection refused"}

func (s *simulation) down(at time.Time) bool {
	return slices.ContainsFunc(s.outages, func(o outage) bool { return !at.Before(o.from) && at.Before(o.to) })
}

// probe is a request of its own, which takes its turn.
func (s *simulation) probe() agenda.Signal {
	if !s.down(s.at) {
		s.turn()
	}
	return s.reach(s.at)
}

// reach is what a request hears that is sent at a time.
func (s *simulation) reach(at time.Time) agenda.Signal {
	if s.down(at) {
		return agenda.Signal{Reach: agenda.Unreached, Why: errDown}
	}
	return agenda.Signal{Reach: agenda.Reached}
}

// settle begins to settle an entry.
func (s *simulation) settle(e *agenda.Entry) {
	i := s.keys.index[e.Task().Key]
	st := s.states[i]
	verify := !st.verify.IsZero() && !s.at.Before(st.verify)
	if verify || !s.at.Before(st.next) {
		s.ask(asking{e: e, i: i, verify: verify})
		return
	}
	var out agenda.Outcome
	if next := nextAt(s.target(i)); s.agenda.Listed(next) {
		out.Next = next
	}
	s.agenda.Done(context.Background(), e, out, nil)
}

// ask sends a request as soon as it may.
func (s *simulation) ask(a asking) {
	a.sent = s.turn()
	a.end = a.sent.Add(s.latency)
	if s.down(a.sent) {
		if a.sent.After(s.probed) {
			s.probed = s.turn() // who fails until then shares the probe
		}
		a.end = s.probed
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
			s.agenda.Done(context.Background(), a.e, agenda.Outcome{Next: s.at.Add(busyRetry), Signal: s.reach(a.sent)}, nil)
			continue
		}
		t := s.target(a.i)
		switch {
		case a.verify:
			s.checks++
			t, _ = t.Observed(s.at, s.terms(), target.Seen{})
			if !s.at.Before(t.NextRotation) {
				s.remember(a.i, t)
				s.ask(asking{e: a.e, i: a.i})
				continue
			}
		default:
			s.noteRotation(a, t)
			t = s.rotatedNow(t)
		}
		s.remember(a.i, t)
		s.done(a.i)
		s.plan(a.i)
		s.agenda.Done(context.Background(), a.e, agenda.Outcome{Signal: agenda.Signal{Reach: agenda.Reached}}, nil)
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

func (s *simulation) noteRotation(a asking, t *target.State) {
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

// dueStorage holds due entries and the watermark, and nothing else.
type dueStorage struct {
	mu      sync.Mutex
	single  map[string][]byte
	minutes map[string]map[string]struct{} // IDs of connectors
}

func newDueStorage() *dueStorage {
	return &dueStorage{single: map[string][]byte{}, minutes: map[string]map[string]struct{}{}}
}

const minuteDigits = 10

// cut takes a due entry's key apart.
func (d *dueStorage) cut(key string) (minute, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, agenda.Prefix)
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
	ids := d.minutes[strings.Trim(strings.TrimPrefix(prefix, agenda.Prefix), "/")]
	names := make([]string, 0, len(ids))
	for id := range ids {
		names = append(names, id)
	}
	slices.Sort(names)
	return names, nil
}

// connectorsAt are n connectors of C1 with IDs as C1 makes them: 27 characters,
// of which the first tell the second and the rest are random.
func connectorsAt(n int) []target.Ref {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random := rand.New(rand.NewPCG(1, 2))
	id := func() string {
		b := []byte("2mP7Zk")
		for len(b) < 27 {
			b = append(b, alphabet[random.IntN(len(alphabet))])
		}
		return string(b)
	}
	refs := make([]target.Ref, n)
	app := id()
	for i := range refs {
		if i%100 == 0 {
			app = id()
		}
		refs[i] = target.Ref{Kind: target.Connector, AppID: app, ConnectorID: id()}
	}
	return refs
}

// keys are what a list of targets is called in the agenda.
type keys struct {
	of    []string
	index map[string]int32
}

var knownKeys sync.Map // by the address of a list of targets, which simulations share

func keysOf(p plan) *keys {
	refs := p.refs
	if known, ok := knownKeys.Load(&refs[0]); ok {
		return known.(*keys)
	}
	k := &keys{of: make([]string, len(refs)), index: make(map[string]int32, len(refs))}
	for i := range refs {
		k.of[i] = p.name(i)
		k.index[k.of[i]] = int32(i)
	}
	knownKeys.Store(&refs[0], k)
	return k
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
	for i := range c.refs {
		sum += 1 / c.schedule.After(c.start, c.splay(i)).Sub(c.start).Minutes()
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
	return *cfg
}
