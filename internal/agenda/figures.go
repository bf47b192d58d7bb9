// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"context"
	"time"
)

// Figures is what an agenda tells of itself. A zero time is none.
type Figures struct {
	Watermark    time.Time // minute up to which everything was listed
	Overdue      int       // entries that wait for longer than they should
	Oldest       time.Time // since when the oldest of those has been due
	Next         time.Time // when something is due next, exact within a minute
	PausedUntil  time.Time // when the other side is asked again, while everything waits
	PausedReason string    // why everything waits
}

// Figures counts what waits. An entry is overdue once it has waited for longer
// than late.
func (a *Agenda) Figures(ctx context.Context, late time.Duration) (Figures, error) {
	mark, err := a.index.watermark(ctx)
	if err != nil {
		return Figures{}, err
	}
	f := Figures{Next: a.queue.head()}
	if mark != 0 {
		f.Watermark = timeOf(mark)
	}
	now := a.o.Now()
	f.Overdue, f.Oldest = a.queue.late(now.Add(-late))
	f.PausedUntil, f.PausedReason = a.brake.paused(now)
	if f.Next.IsZero() {
		minute, err := a.index.nextMinute(ctx, mark)
		if err != nil {
			return Figures{}, err
		}
		if minute != 0 {
			f.Next = timeOf(minute)
		}
	}
	return f, nil
}

// Planned returns the keys that have an entry until a time, and no older than an
// hour: at most so many, the oldest first. What was listed and is not settled yet is
// among them.
func (a *Agenda) Planned(ctx context.Context, until time.Time, most int) ([]string, error) {
	mark, err := a.index.watermark(ctx)
	if err != nil || mark == 0 {
		return nil, err
	}
	done, _ := a.queue.doneUpTo(mark)
	first := min(mark, done+1)
	var found []string
	seen := map[string]bool{}
	for minute := max(first, minuteOf(a.o.Now())-watermarkEvery); minute <= minuteOf(until)+1; minute++ {
		keys, err := a.index.list(ctx, minute)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if !seen[key] && len(found) < most {
				seen[key] = true
				found = append(found, key)
			}
		}
	}
	return found, nil
}
