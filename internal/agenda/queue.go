// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package agenda

import (
	"container/heap"
	"sync"
	"time"
)

// Entry is a key in the queue. It holds the minutes of the due entries that
// brought it up, which are dropped once it is settled.
type Entry struct {
	key     string
	due     time.Time // since when it has been due
	at      time.Time // when to try, no sooner than due
	minutes []int64
	index   int       // in the heap; -1 while it is being settled
	again   time.Time // asked for while it was being settled; zero if not
	alone   int       // failures in a row that were this key's own
}

// Task is what there is to do.
func (e *Entry) Task() Task { return Task{Key: e.key, Due: e.due, Alone: e.alone > 0} }

// queue holds the entries of the minutes that were listed, the oldest first.
type queue struct {
	mu    sync.Mutex
	heap  entryHeap
	byKey map[string]*Entry // queued or being settled
	open  map[int64]int     // due entries of a minute that are not dropped yet
	dirty bool              // a due entry was dropped since the watermark was stored
	wake  chan struct{}
}

func newQueue() *queue {
	return &queue{byKey: map[string]*Entry{}, open: map[int64]int{}, wake: make(chan struct{}, 1)}
}

// push asks for a key at a time, on behalf of the due entry in a minute, or of
// none (0). A key that is queued already is settled once, at the sooner of both
// times.
func (q *queue) push(key string, at time.Time, minute int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.byKey[key]
	switch {
	case e == nil:
		e = &Entry{key: key, due: at, at: at}
		q.byKey[key] = e
		heap.Push(&q.heap, e)
	case e.index < 0:
		if e.again.IsZero() || at.Before(e.again) {
			e.again = at
		}
	case at.Before(e.at):
		e.at = at
		if at.Before(e.due) {
			e.due = at
		}
		heap.Fix(&q.heap, e.index)
	}
	if minute != 0 {
		e.minutes = append(e.minutes, minute)
		q.open[minute]++
	}
	q.signal()
}

// signal wakes the worker.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop returns the oldest entry that is due, or nil.
func (q *queue) pop(now time.Time) *Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 || q.heap[0].at.After(now) {
		return nil
	}
	return heap.Pop(&q.heap).(*Entry)
}

// head is the time of the oldest entry; zero when there is none.
func (q *queue) head() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return time.Time{}
	}
	return q.heap[0].at
}

// busy is how many entries are being settled.
func (q *queue) busy() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.byKey) - len(q.heap)
}

// size is how many entries are held.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.byKey)
}

// putBack queues an entry that was popped once more, for a new time.
func (q *queue) putBack(e *Entry, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.requeue(e, at)
}

// putOff queues an entry that was popped once more, no sooner than at. It stays
// due since when it was.
func (q *queue) putOff(e *Entry, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due := e.due
	e.again = time.Time{}
	q.requeue(e, at)
	e.due = due
}

func (q *queue) requeue(e *Entry, at time.Time) {
	if !e.again.IsZero() && e.again.Before(at) {
		at = e.again
	}
	e.at, e.due, e.again = at, at, time.Time{}
	heap.Push(&q.heap, e)
	q.signal()
}

// finish ends an entry that was popped and whose first n due entries are dropped.
// It comes back if somebody asked for it, or another due entry was listed,
// meanwhile.
func (q *queue) finish(e *Entry, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, minute := range e.minutes[:n] {
		if q.open[minute]--; q.open[minute] == 0 {
			delete(q.open, minute)
		}
	}
	q.dirty = q.dirty || n > 0
	e.minutes = e.minutes[n:]
	if !e.again.IsZero() {
		q.requeue(e, e.again)
		return
	}
	delete(q.byKey, e.key)
	q.signal()
}

// minutesOf are the minutes of the due entries that a popped entry has to drop.
func (q *queue) minutesOf(e *Entry) []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return e.minutes
}

// doneUpTo is the last minute, at most the given one, up to which no due entry is
// open, and whether any was dropped since the watermark was stored.
func (q *queue) doneUpTo(reached int64) (minute int64, dirty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for m := range q.open {
		reached = min(reached, m-1)
	}
	return reached, q.dirty
}

func (q *queue) clean() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dirty = false
}

// late counts the entries that have been due since before a time and are not
// being settled, and says since when the oldest has been.
func (q *queue) late(before time.Time) (n int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.heap {
		if e.due.After(before) {
			continue
		}
		n++
		if oldest.IsZero() || e.due.Before(oldest) {
			oldest = e.due
		}
	}
	return n, oldest
}

// entryHeap implements heap.Interface; queue guards it.
type entryHeap []*Entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *entryHeap) Push(x any) {
	e := x.(*Entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *entryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = -1
	return e
}
