// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const year = 365 * 24 * time.Hour

// The clock is ahead for a while, and comes back. Nothing is done by it, and
// afterwards everything comes at its own time.
func TestAClockThatJumpsAheadIsNotActedUpon(t *testing.T) {
	for _, jump := range []time.Duration{25 * time.Hour, year} {
		for _, during := range []time.Duration{time.Second, 10 * time.Minute} {
			t.Run(fmt.Sprintf("%s for %s", jump, during), func(t *testing.T) {
				inBubble(t, func(w *world) {
					due := time.Now().Add(24 * time.Hour)
					w.put("key", 24*time.Hour)
					pass(time.Minute)
					w.storage.count("list")
					w.set(func() { w.ahead = jump })
					pass(during)
					w.Refresh()
					pass(during)
					require.Zero(t, w.settledSoFar())
					require.LessOrEqual(t, w.storage.count("list"), 2*maxListed)
					f := w.figures()
					require.Contains(t, f.PausedReason, "ahead")
					require.NotZero(t, f.PausedUntil)

					w.set(func() { w.ahead = 0 })
					pass(time.Until(due) - time.Minute)
					require.Zero(t, w.settledSoFar())
					pass(2 * time.Minute)
					require.Len(t, w.times("key"), 1)
					require.Empty(t, w.figures().PausedReason)
				})
			})
		}
	}
}

// A process that was down for a year has a clock that moved as well. Once that is
// confirmed it lists all minutes, but never too many at a time.
func TestAJumpThatIsConfirmedIsActedUponInBoundedPasses(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put("early", time.Hour)
		w.put("late", year-time.Hour)
		w.stop()
		pass(year)
		w.storage.count("list")
		w.Agenda = New(context.Background(), w.o)
		e, _, err := w.Take(context.Background())
		require.NoError(t, err)
		require.Equal(t, "early", e.Task().Key)
		require.Equal(t, maxListed, w.storage.count("list"), "it does not wait for the last minute to be listed")
		require.Equal(t, 1, w.clockAsked())
		w.Settle(context.Background(), e)
		for passes := 0; ; passes++ {
			e, _, err = w.Take(context.Background())
			require.NoError(t, err)
			require.LessOrEqual(t, w.storage.count("list"), maxListed)
			if e != nil {
				require.Equal(t, "late", e.Task().Key)
				require.Greater(t, passes, 500)
				break
			}
		}
		require.Equal(t, 1, w.clockAsked(), "once for all of them")
	})
}

func TestAClockThatNobodyCanConfirmIsAskedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put("key", time.Hour)
		w.set(func() { w.standby = true })
		pass(2 * time.Hour)
		w.set(func() { w.standby, w.ahead = false, 2*time.Minute })
		w.Wake()
		pass(10 * time.Minute)
		require.InDelta(t, 11, w.clockAsked(), 2, "about once a minute")
		require.Zero(t, w.settledSoFar())
		w.set(func() { w.ahead = 0 })
		pass(4 * time.Minute)
		require.Len(t, w.times("key"), 1)
	})
}

// The watermark lies in the future when the clock goes back.
func TestAClockThatGoesBackDelaysNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		pass(90 * time.Minute)
		w.set(func() { w.ahead = -time.Hour })
		pass(time.Minute)
		at := w.now().Add(10 * time.Minute)
		_, err := w.Put(context.Background(), "key", at)
		require.NoError(t, err)
		w.start()
		pass(11 * time.Minute)
		require.Len(t, w.times("key"), 1)
		require.Zero(t, w.clockAsked())
	})
}

// A process that starts in the minute up to which the one before was done knows
// that this minute was listed, and plans nothing for it.
func TestAProcessKnowsWhatTheOneBeforeListed(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put("key", time.Hour)
		w.stop()
		w.Agenda = New(context.Background(), w.o)
		_, _, err := w.Take(context.Background())
		require.NoError(t, err)
		require.True(t, w.Listed(time.Now()))
		require.False(t, w.Listed(time.Now().Add(time.Minute)))
	})
}
