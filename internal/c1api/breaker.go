// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	breakerFailures = 5
	breakerPause    = 15 * time.Second
)

// What an exchange with C1 says about C1. Everything else counts as success:
// a refusal (4xx) proves that C1 is there, and 429 and 503 with Retry-After
// are obeyed by waiting, not by the breaker.
var (
	errBroken   = errors.New("C1 did not answer, or answered with a server error")
	errNothing  = errors.New("nothing can be said: the caller went away")
	errRejected = errors.New("the breaker is open")
)

// breaker stops asking a C1 that has not answered breakerFailures times in a
// row. After breakerPause it lets one probe through.
type breaker struct {
	gate     *gobreaker.CircuitBreaker[struct{}]
	streak   atomic.Int64 // failures in a row; gobreaker forgets its own when it opens
	openedAt atomic.Int64 // UnixNano
}

func newBreaker() *breaker {
	b := &breaker{}
	b.gate = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     breakerPause,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errNothing) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.openedAt.Store(time.Now().UnixNano())
			}
		},
	})
	return b
}

// run lets exchange happen unless the breaker is open; exchange returns nil,
// errBroken or errNothing. The error is errRejected when it did not happen.
func (b *breaker) run(exchange func() error) error {
	_, err := b.gate.Execute(func() (struct{}, error) {
		err := exchange()
		switch {
		case err == nil:
			b.streak.Store(0)
		case errors.Is(err, errBroken):
			b.streak.Add(1)
		}
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return errRejected
	}
	return err
}

// refusal is the error for a call that the breaker held back.
func (b *breaker) refusal() *Error {
	return &Error{
		Reason:     ReasonNotSent,
		Message:    fmt.Sprintf("C1 has not answered %d times in a row: nothing is sent for a while", b.streak.Load()),
		RetryAfter: max(time.Until(time.Unix(0, b.openedAt.Load()).Add(breakerPause)), time.Second),
	}
}

func (b *breaker) state() string { return b.gate.State().String() }
