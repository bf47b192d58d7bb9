// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var (
	errDown    = errors.New("out of reach")
	errStorage = errors.New("storage failed")
)

// settled is one call of Settle.
type settled struct {
	Task
	at time.Time
}

// world is an agenda in fake time, with a fake of everything that it is given.
type world struct {
	*testing.T
	*Agenda
	storage *storage
	stop    context.CancelFunc

	mu      sync.Mutex
	ahead   time.Duration // of this machine's clock
	standby bool
	workers int
	settle  func(Task) (Outcome, error) // nil: reached, and done with
	down    bool                        // what a probe hears
	after   time.Duration               // and how long it is asked to wait
	done    []settled
	probes  int
	asked   int // for the clock
}

// inBubble runs a test in fake time, in the middle of a minute.
func inBubble(t *testing.T, do func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * time.Second)
		w := &world{T: t, storage: &storage{Storage: &logical.InmemStorage{}}, workers: 4}
		w.start()
		defer func() {
			w.stop()
			synctest.Wait()
		}()
		require.NoError(t, w.Start(context.Background()))
		do(w)
	})
}

// start runs a process in place of the one before, which dies.
func (w *world) start() {
	if w.stop != nil {
		w.stop()
		synctest.Wait()
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.Agenda = New(ctx, Options{
		Storage: w.storage, Logger: hclog.NewNullLogger(), Now: w.now,
		MayRun:  func() bool { w.mu.Lock(); defer w.mu.Unlock(); return !w.standby },
		Workers: func(context.Context) (int, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.workers, nil },
		Settle:  w.settleTask, Probe: w.probe, ClockTrusted: w.clockTrusted,
	})
	w.Wake()
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead).Round(0)
}

func (w *world) settleTask(_ context.Context, task Task) (Outcome, error) {
	w.mu.Lock()
	w.done = append(w.done, settled{task, time.Now()})
	settle := w.settle
	w.mu.Unlock()
	if settle == nil {
		return Outcome{Signal: Signal{Reach: Reached}}, nil
	}
	return settle(task)
}

func (w *world) probe(context.Context) Signal {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	if w.down {
		return Signal{Reach: Unreached, After: w.after, Why: errDown}
	}
	return Signal{Reach: Reached}
}

func (w *world) clockTrusted(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.ahead > time.Minute {
		return fmt.Errorf("this clock is %s ahead", w.ahead)
	}
	return nil
}

// set changes what the agenda is given.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// outage takes the other side down or brings it back, for probes and for tasks.
func (w *world) outage(down bool) {
	w.set(func() {
		w.down, w.settle = down, nil
		if down {
			w.settle = func(Task) (Outcome, error) { return unreached(0), nil }
		}
	})
}

// unreached is what came of a task that is as due as before.
func unreached(after time.Duration) Outcome {
	return Outcome{Next: time.Now().Add(time.Second), Signal: Signal{Reach: Unreached, After: after, Why: errDown}}
}

func (w *world) put(key string, in time.Duration) int64 {
	w.Helper()
	minute, err := w.Put(context.Background(), key, time.Now().Add(in))
	require.NoError(w, err)
	return minute
}

// times are when a key was settled.
func (w *world) times(key string) (at []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.done {
		if s.Key == key {
			at = append(at, s.at)
		}
	}
	return at
}

// all is what was settled, in order.
func (w *world) all() []settled {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.done)
}

func (w *world) probed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes
}

func (w *world) clockAsked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *world) settledSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.done)
}

func (w *world) figures() Figures {
	w.Helper()
	f, err := w.Figures(context.Background(), 10*time.Second)
	require.NoError(w, err)
	return f
}

// left are the due entries in storage.
func (w *world) left() []string {
	w.Helper()
	keys, err := logical.CollectKeysWithPrefix(context.Background(), w.storage, Prefix)
	require.NoError(w, err)
	return keys
}

// pass lets time go by, and returns when everything has come to rest.
func pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// storage can fail, and counts.
type storage struct {
	logical.Storage
	mu    sync.Mutex
	fails func(op, key string) bool
	calls map[string]int
}

func (s *storage) call(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[op]++
	if s.fails != nil && s.fails(op, key) {
		return errStorage
	}
	return nil
}

// count returns how often an operation was called since it was asked last.
func (s *storage) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.calls[op]
	s.calls[op] = 0
	return n
}

func (s *storage) failWhen(fails func(op, key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = fails
}

func (s *storage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := s.call("get", key); err != nil {
		return nil, err
	}
	return s.Storage.Get(ctx, key)
}

func (s *storage) Put(ctx context.Context, e *logical.StorageEntry) error {
	if err := s.call("put", e.Key); err != nil {
		return err
	}
	return s.Storage.Put(ctx, e)
}

func (s *storage) Delete(ctx context.Context, key string) error {
	if err := s.call("delete", key); err != nil {
		return err
	}
	return s.Storage.Delete(ctx, key)
}

func (s *storage) List(ctx context.Context, prefix string) ([]string, error) {
	if err := s.call("list", prefix); err != nil {
		return nil, err
	}
	return s.Storage.List(ctx, prefix)
}

// What is due before the next listing is settled from memory, and its entry, which
// is for the next minute, costs one more look.
func TestWhatIsDueIsSettledInTime(t *testing.T) {
	inBubble(t, func(w *world) {
		due := map[string]time.Time{}
		for key, in := range map[string]time.Duration{"now": 0, "soon": 7 * time.Second, "later": 3 * time.Minute, "much-later": 5 * time.Hour} {
			due[key] = time.Now().Add(in)
			w.put(key, in)
		}
		pass(6 * time.Hour)
		for key, at := range due {
			require.Len(t, w.times(key), map[string]int{"now": 2, "soon": 2, "later": 1, "much-later": 1}[key], key)
			late := w.times(key)[0].Sub(at.Truncate(time.Minute))
			require.True(t, late >= 0 && late < time.Minute, "%s: %s", key, late)
		}
		require.Equal(t, due["soon"], w.times("soon")[0], "to the second")
		require.Empty(t, w.left(), "what is done leaves nothing")
	})
}

// What a task says of its own next time is kept to the second and needs no entry
// of its own.
func TestATaskComesBackWhenItSays(t *testing.T) {
	inBubble(t, func(w *world) {
		pass(40 * time.Second) // a minute begins
		began := time.Now().Add(time.Minute)
		w.set(func() {
			w.settle = func(Task) (Outcome, error) {
				if time.Since(began) < 90*time.Second {
					return Outcome{Next: time.Now().Add(9 * time.Second)}, nil
				}
				return Outcome{}, nil
			}
		})
		w.put("key", time.Minute)
		pass(105 * time.Second)
		require.Len(t, w.left(), 1, "the entry stays until the task is done")
		pass(5 * time.Minute)
		require.Len(t, w.times("key"), 11)
		require.Empty(t, w.left())
	})
}

func TestWhatIsAskedForWhileItIsBeingSettledIsSettledAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.set(func() {
			w.settle = func(Task) (Outcome, error) { time.Sleep(time.Minute); return Outcome{}, nil }
		})
		w.Hurry("key", time.Now())
		pass(time.Second)
		w.Hurry("key", time.Now().Add(2*time.Second))
		w.Hurry("key", time.Now())
		pass(10 * time.Minute)
		require.Len(t, w.times("key"), 2, "once for both, and never twice at the same time")
	})
}

func TestAsManyAreSettledAtOnceAsThereAreWorkersTheOldestFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		release := make(chan struct{})
		w.set(func() {
			w.settle = func(Task) (Outcome, error) { <-release; time.Sleep(time.Millisecond); return Outcome{}, nil }
		})
		for i := range 20 {
			w.put(fmt.Sprintf("%02d", i), time.Duration(20-i)*time.Minute)
		}
		w.set(func() { w.standby = true })
		pass(20 * time.Minute)
		w.set(func() { w.standby = false })
		w.Wake()
		synctest.Wait()
		require.Equal(t, 4, w.settledSoFar())
		w.set(func() { w.workers = 6 })
		w.Refresh()
		synctest.Wait()
		require.Equal(t, 6, w.settledSoFar())
		require.Equal(t, 14, w.figures().Overdue)
		close(release)
		pass(time.Second)
		all := w.all()
		require.Len(t, all, 20)
		for i := 6; i < 20; i++ { // six at the same time
			require.True(t, all[i].Due.After(all[i-6].Due))
		}
	})
}

// A writer whose minute is being listed at that very moment writes a later one.
func TestAnEntryIsNeverWrittenBehindTheListing(t *testing.T) {
	t.Parallel()
	s := &storage{Storage: &logical.InmemStorage{}}
	now := time.Unix(1_700_000_000, 0)
	d := &index{storage: s, now: func() time.Time { return now }}
	current := minuteOf(now)
	d.reached.Store(current + 5)
	minute, err := d.enter(context.Background(), "key", now)
	require.NoError(t, err)
	require.Equal(t, current+6, minute)

	var once sync.Once
	s.failWhen(func(op, _ string) bool {
		if op == "put" {
			once.Do(func() { d.reached.Store(current + 20) })
		}
		return false
	})
	minute, err = d.enter(context.Background(), "key", now.Add(10*time.Minute))
	require.NoError(t, err)
	require.Equal(t, current+21, minute)
	keys, err := d.list(context.Background(), minute)
	require.NoError(t, err)
	require.Equal(t, []string{"key"}, keys)

	for _, bad := range []string{"", "a/b"} {
		_, err := d.enter(context.Background(), bad, now)
		require.Error(t, err)
	}
}

func TestADeathForgetsNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 50 {
			w.put(fmt.Sprintf("key-%02d", i), time.Duration(i)*10*time.Second)
		}
		w.set(func() { w.settle = func(Task) (Outcome, error) { time.Sleep(5 * time.Second); return Outcome{}, nil } })
		for range 30 {
			pass(17 * time.Second)
			w.start()
		}
		pass(10 * time.Minute)
		for i := range 50 {
			require.NotEmpty(t, w.times(fmt.Sprintf("key-%02d", i)))
		}
		require.Empty(t, w.left())
	})
}

func TestOneKeyThatFailsOrPanicsIsTriedAgainAndSparesTheRest(t *testing.T) {
	for name, fail := range map[string]func(Task) (Outcome, error){
		"fails":  func(Task) (Outcome, error) { return Outcome{}, errStorage },
		"panics": func(Task) (Outcome, error) { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.set(func() {
					w.settle = func(task Task) (Outcome, error) {
						if task.Key == "bad" {
							return fail(task)
						}
						return Outcome{}, nil
					}
				})
				w.put("bad", 0)
				w.put("good", 0)
				pass(10*time.Minute + time.Second)
				require.Len(t, w.times("good"), 2)
				require.InDelta(t, 10, len(w.times("bad")), 1, "each minute")
				w.set(func() { w.settle = nil })
				pass(2 * time.Minute)
				require.Empty(t, w.left())
			})
		})
	}
}

func TestStorageThatFailsForAWhileLosesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 10 {
			w.put(fmt.Sprint(i), time.Duration(i)*time.Minute)
		}
		for _, op := range []string{"list", "get", "put", "delete"} {
			w.storage.failWhen(func(o, _ string) bool { return o == op })
			pass(3 * time.Minute)
		}
		w.storage.failWhen(nil)
		pass(3 * time.Minute)
		for i := range 10 {
			require.NotEmpty(t, w.times(fmt.Sprint(i)))
		}
		require.Empty(t, w.left())
	})
}

func TestIdlenessWritesOnceAnHourAndListsEachMinuteOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put("key", 100*time.Hour)
		pass(time.Minute)
		w.storage.count("put")
		w.storage.count("list")
		pass(10 * time.Hour)
		require.Equal(t, 10, w.storage.count("put"))
		require.Equal(t, 600, w.storage.count("list"))
		require.Zero(t, w.clockAsked(), "nobody is asked for the time")
		require.Zero(t, w.probed())
	})
}

func TestAStandbyDoesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put("key", time.Minute)
		w.set(func() { w.standby = true })
		pass(time.Hour)
		require.False(t, w.Running())
		require.Zero(t, w.settledSoFar())
		w.set(func() { w.standby = false })
		w.Wake()
		pass(time.Second)
		require.Len(t, w.times("key"), 1)
		w.stop()
		synctest.Wait()
		w.Wake()
		require.False(t, w.Running(), "what has stopped stays so")
	})
}

func TestFiguresListTheMinutesOnceAsLongAsNothingChanges(t *testing.T) {
	inBubble(t, func(w *world) {
		requireNext := func(in time.Duration, lists int) {
			t.Helper()
			w.storage.count("list")
			for range 3 {
				next := w.figures().Next
				if in == 0 {
					require.Zero(t, next)
				} else {
					require.InDelta(t, time.Now().Add(in).Unix(), next.Unix(), 60)
				}
			}
			require.Equal(t, lists, w.storage.count("list"))
		}
		const all = near + 1
		requireNext(0, all)
		w.put("late", 5*time.Hour)
		requireNext(5*time.Hour, 0)
		w.put("soon", 3*time.Hour)
		requireNext(3*time.Hour, 0)
		pass(4 * time.Hour) // soon was settled
		requireNext(time.Hour, all)
		minute, err := w.Put(context.Background(), "sooner", time.Now().Add(30*time.Minute))
		require.NoError(t, err)
		requireNext(30*time.Minute, 0)
		require.NoError(t, w.Drop(context.Background(), minute, "sooner"))
		requireNext(time.Hour, all)
		w.Forget()
		requireNext(time.Hour, all)
		pass(time.Minute)
		w.put("near", 3*time.Minute)
		minute, err = w.Put(context.Background(), "nearer", time.Now().Add(2*time.Minute))
		require.NoError(t, err)
		require.NoError(t, w.Drop(context.Background(), minute, "nearer"))
		requireNext(3*time.Minute, 3)
	})
}

func TestFiguresSayWhatWaits(t *testing.T) {
	inBubble(t, func(w *world) {
		require.Zero(t, w.figures().Next)
		w.put("key", 3*time.Hour)
		due := time.Now().Add(3 * time.Hour)
		require.InDelta(t, due.Unix(), w.figures().Next.Unix(), 60)
		planned, err := w.Planned(context.Background(), due, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"key"}, planned)
		planned, err = w.Planned(context.Background(), due.Add(-5*time.Minute), 10)
		require.NoError(t, err)
		require.Empty(t, planned)
		w.outage(true)
		pass(3*time.Hour + 30*time.Minute)
		planned, err = w.Planned(context.Background(), time.Now(), 10)
		require.NoError(t, err)
		require.Equal(t, []string{"key"}, planned, "its minute was listed long ago, and it is not settled")
		pass(30 * time.Minute)
		f := w.figures()
		require.Equal(t, 1, f.Overdue)
		require.InDelta(t, due.Unix(), f.Oldest.Unix(), 60)
		require.InDelta(t, time.Now().Unix(), f.Watermark.Unix(), 60)
		require.Equal(t, errDown.Error(), f.PausedReason)
		require.True(t, f.PausedUntil.After(time.Now()) && f.PausedUntil.Before(time.Now().Add(brakeLongest)))
		w.outage(false)
		pass(2 * time.Minute)
		f = w.figures()
		require.Zero(t, f.Overdue)
		require.Zero(t, f.PausedUntil)
		require.Empty(t, f.PausedReason)
	})
}
