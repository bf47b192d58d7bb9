// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"container/heap"
	"sync"
	"time"
)

// look is a target that will be settled at a time. It holds the minutes whose
// due entries brought it up, and which are dropped after it was settled.
type look struct {
	name    string // under which storage knows it
	at      time.Time
	entries []int64
	index   int       // in the heap; -1 while it is being settled
	again   time.Time // asked for while it was being settled; zero if not
}

// lookQueue are the looks of the minutes that were listed, the oldest first.
// All of it can be lost: the due entries bring it back.
type lookQueue struct {
	mu    sync.Mutex
	heap  lookHeap
	named map[string]*look // queued or being settled
	open  map[int64]int    // entries of a minute that are not dropped yet
	dirty bool             // an entry was dropped since the watermark was stored
	wake  chan struct{}
}

func newLookQueue() *lookQueue {
	return &lookQueue{named: map[string]*look{}, open: map[int64]int{}, wake: make(chan struct{}, 1)}
}

// push asks for a look at a time, on behalf of the due entry in a minute, or of
// none (0). A target that is queued already is looked at once, at the sooner of
// both times.
func (q *lookQueue) push(name string, at time.Time, minute int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.named[name]
	switch {
	case l == nil:
		l = &look{name: name, at: at}
		q.named[name] = l
		heap.Push(&q.heap, l)
	case l.index < 0:
		if l.again.IsZero() || at.Before(l.again) {
			l.again = at
		}
	case at.Before(l.at):
		l.at = at
		heap.Fix(&q.heap, l.index)
	}
	if minute != 0 {
		l.entries = append(l.entries, minute)
		q.open[minute]++
	}
	q.signal()
}

// signal wakes the worker.
func (q *lookQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop returns the oldest look that is due, or nil.
func (q *lookQueue) pop(now time.Time) *look {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 || q.heap[0].at.After(now) {
		return nil
	}
	return heap.Pop(&q.heap).(*look)
}

// head is the time of the oldest look; zero when there is none.
func (q *lookQueue) head() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return time.Time{}
	}
	return q.heap[0].at
}

// putBack queues a look that was popped once more, with its entries.
func (q *lookQueue) putBack(l *look, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.requeue(l, at)
}

func (q *lookQueue) requeue(l *look, at time.Time) {
	if !l.again.IsZero() && l.again.Before(at) {
		at = l.again
	}
	l.at, l.again = at, time.Time{}
	heap.Push(&q.heap, l)
	q.signal()
}

// finish ends a look that was popped and whose first n entries are dropped. It
// comes back if somebody asked for it, or listed a new entry, meanwhile.
func (q *lookQueue) finish(l *look, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, minute := range l.entries[:n] {
		if q.open[minute]--; q.open[minute] == 0 {
			delete(q.open, minute)
		}
	}
	q.dirty = q.dirty || n > 0
	l.entries = l.entries[n:]
	if !l.again.IsZero() {
		q.requeue(l, l.again)
		return
	}
	delete(q.named, l.name)
	q.signal()
}

// entriesOf are the due entries that a popped look has to drop.
func (q *lookQueue) entriesOf(l *look) []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return l.entries
}

func (q *lookQueue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.named)
}

// doneUpTo is the last minute, at most the given one, before which no entry is
// open, and whether entries were dropped since it was last taken over.
func (q *lookQueue) doneUpTo(reached int64) (minute int64, dirty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for m := range q.open {
		reached = min(reached, m-1)
	}
	return reached, q.dirty
}

func (q *lookQueue) clean() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dirty = false
}

// late counts the looks that are due since before a time and wait for their
// turn, and says since when the oldest does.
func (q *lookQueue) late(before time.Time) (n int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.named {
		if l.index < 0 || l.at.After(before) {
			continue // being settled, or not late
		}
		n++
		if oldest.IsZero() || l.at.Before(oldest) {
			oldest = l.at
		}
	}
	return n, oldest
}

// lookHeap implements heap.Interface; lookQueue guards it.
type lookHeap []*look

func (h lookHeap) Len() int           { return len(h) }
func (h lookHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h lookHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *lookHeap) Push(x any) {
	l := x.(*look)
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *lookHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	l.index = -1
	return l
}
