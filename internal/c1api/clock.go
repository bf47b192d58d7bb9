// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// offsetNoise is what a Date header cannot tell: it has whole seconds and
	// has travelled.
	offsetNoise = 5 * time.Second

	// skewMatters is the offset from which a refused assertion may be the
	// clock's fault.
	skewMatters = 30 * time.Second
)

// clock is this machine's clock with what is known of C1's.
type clock struct {
	now     func() time.Time
	learned atomic.Int64 // C1's clock minus ours, in nanoseconds
}

// learn takes C1's time from an answer that has just arrived.
func (c *clock) learn(h http.Header) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	// Date is cut to the second: its middle is the best guess.
	offset := date.Add(time.Second / 2).Sub(c.now())
	if offset.Abs() <= offsetNoise {
		offset = 0
	}
	c.learned.Store(int64(offset))
}

// offset is C1's clock minus ours, 0 when they agree or nothing is known.
func (c *clock) offset() time.Duration { return time.Duration(c.learned.Load()) }

// c1Now is the time on C1's clock.
func (c *clock) c1Now() time.Time { return c.now().Add(c.offset()) }

// skew says how far this machine's clock is off, "" when that does not matter.
func (c *clock) skew() string {
	offset := c.offset().Round(time.Second)
	switch {
	case offset > skewMatters:
		return fmt.Sprintf("this machine's clock is %s behind C1's", offset)
	case offset < -skewMatters:
		return fmt.Sprintf("this machine's clock is %s ahead of C1's", -offset)
	default:
		return ""
	}
}
