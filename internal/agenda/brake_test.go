// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// each settles in a way that depends on the key.
func (w *world) each(outcome func(Task) Outcome) {
	w.set(func() { w.settle = func(task Task) (Outcome, error) { return outcome(task), nil } })
}

// reached is what comes of a task that is done.
func reached() Outcome { return Outcome{Signal: Signal{Reach: Reached}} }

func TestAnOutageCostsAProbeAtATimeAndTheOldestComesFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 300 {
			w.put(fmt.Sprintf("%03d", i), time.Duration(i)*time.Second+time.Minute)
		}
		w.outage(true)
		pass(10 * time.Minute)
		require.LessOrEqual(t, w.settledSoFar(), 4, "only what was under way when it began")
		before := w.probed()
		pass(10 * time.Minute)
		require.InDelta(t, 10, w.probed()-before, 1, "one a minute")
		require.GreaterOrEqual(t, w.figures().Overdue, 299)

		w.set(func() { w.done = nil })
		w.set(func() { w.down = false })
		w.each(func(Task) Outcome { time.Sleep(time.Millisecond); return reached() })
		pass(brakeLongest + time.Second)
		all := w.all()
		require.Len(t, all, 300)
		for i := 4; i < len(all); i++ { // four at the same time
			require.False(t, all[i].Due.Before(all[i-4].Due), "%d", i)
		}
	})
}

func TestSomebodyWhoIsAnsweredEndsTheWait(t *testing.T) {
	inBubble(t, func(w *world) {
		w.Hurry("key", time.Now())
		w.outage(true)
		pass(time.Hour + time.Second)
		w.outage(false)
		require.Len(t, w.times("key"), 1)
		w.Reached()
		synctest.Wait()
		require.Len(t, w.times("key"), 2)
	})
}

// One key that can never be done, whatever it hears, holds up nobody.
func TestAFailureOfOneKeyAloneNeverMakesTheOthersWait(t *testing.T) {
	for name, out := range map[string]func() Outcome{
		"refused for a day": func() Outcome { return unreached(24 * time.Hour) },
		"out of reach":      func() Outcome { return unreached(0) },
		"unclear": func() Outcome {
			return Outcome{Next: time.Now().Add(time.Second), Signal: Signal{Reach: Unclear, Why: errDown}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.each(func(task Task) Outcome {
					if task.Key == "bad" {
						return out()
					}
					return reached()
				})
				w.Hurry("bad", time.Now())
				for range 120 {
					w.Hurry("good", time.Now())
					pass(time.Minute)
					require.Empty(t, w.figures().PausedReason)
				}
				require.Len(t, w.times("good"), 120)
				tried := w.times("bad")
				require.GreaterOrEqual(t, len(tried), 120/5, "it is tried at least every five minutes, whatever it was asked")
				require.LessOrEqual(t, len(tried), 40, "and less and less")
				require.Equal(t, len(tried), w.probed())
				require.Equal(t, 1, w.figures().Overdue, "which is told")

				w.set(func() { w.settle = nil })
				pass(longestAfter)
				require.Zero(t, w.figures().Overdue)
			})
		})
	}
}

// A task is told when its last failure was its own, so that it can be shown.
func TestATaskIsToldThatItFailedAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		w.each(func(task Task) Outcome {
			if task.Alone {
				return Outcome{} // it takes care of itself
			}
			return unreached(0)
		})
		w.Hurry("bad", time.Now())
		pass(time.Minute)
		require.Len(t, w.times("bad"), 2)
		require.Equal(t, brakeFirst, w.times("bad")[1].Sub(w.times("bad")[0]))
		require.Zero(t, w.figures().Overdue)
	})
}

// A probe that is answered proves little when nothing else is.
func TestSeveralKeysThatFailMakeAllWait(t *testing.T) {
	inBubble(t, func(w *world) {
		w.each(func(Task) Outcome { return unreached(0) })
		w.set(func() { w.workers = 1 })
		for i := range 100 {
			w.Hurry(fmt.Sprint(i), time.Now())
		}
		pass(time.Second)
		require.Equal(t, several, w.settledSoFar())
		require.NotEmpty(t, w.figures().PausedReason)
		before := w.settledSoFar()
		pass(10 * time.Minute)
		require.LessOrEqual(t, w.settledSoFar()-before, 30, "a handful a minute")

		w.set(func() { w.settle = nil })
		pass(longestAfter)
		require.Empty(t, w.figures().PausedReason)
		require.Zero(t, w.figures().Overdue)
	})
}

// After an outage, a key that fails on its own does not keep it going.
func TestAKeyThatFailsAloneDoesNotProlongAnOutage(t *testing.T) {
	inBubble(t, func(w *world) {
		w.Hurry("bad", time.Now()) // the oldest
		w.outage(true)
		pass(5 * time.Minute)
		for i := range 50 {
			w.Hurry(fmt.Sprint(i), time.Now())
		}
		w.set(func() { w.down = false })
		w.each(func(task Task) Outcome {
			if task.Key == "bad" {
				return unreached(time.Hour)
			}
			return reached()
		})
		pass(brakeLongest)
		require.Empty(t, w.figures().PausedReason)
		require.Equal(t, 1, w.figures().Overdue)
	})
}

func TestALongRequestToWaitIsObeyedForFiveMinutesThenAskedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.outage(true)
		w.set(func() { w.after = 24 * time.Hour })
		w.Hurry("key", time.Now())
		pass(time.Second)
		require.Equal(t, 1, w.probed())
		pass(longestAfter - 2*time.Second)
		require.Equal(t, 1, w.probed(), "obeyed")
		pass(2 * time.Second)
		require.Equal(t, 2, w.probed(), "capped")
		w.outage(false)
		pass(longestAfter)
		require.Len(t, w.times("key"), 2)
	})
	synctest.Test(t, func(*testing.T) {
		var b brake
		now := time.Now()
		require.Equal(t, 2*time.Second, b.apply(now, Signal{After: 2 * time.Second, Why: errDown}), "what was asked for")
		now = now.Add(2 * time.Second)
		require.Equal(t, 2*brakeFirst, b.apply(now, Signal{After: 2 * time.Second, Why: errDown}), "which did not help")
	})
}

func TestFailuresAtTheSameTimeShareAProbe(t *testing.T) {
	inBubble(t, func(w *world) {
		w.set(func() {
			w.workers, w.down = 50, true
			w.settle = func(Task) (Outcome, error) { time.Sleep(time.Second); return unreached(0), nil }
		})
		for i := range 50 {
			w.Hurry(fmt.Sprint(i), time.Now())
		}
		pass(5 * time.Second)
		require.Equal(t, 50, w.settledSoFar())
		require.LessOrEqual(t, w.probed(), 2)
	})
}
