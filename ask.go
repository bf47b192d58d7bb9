// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// settled is what a settlement found.
type settled struct {
	about string    // the target, once it is known; until then, its name in storage
	next  time.Time // when to look again on behalf of the same due entry; zero if it is done with
	c1    error     // what C1 said last; errNotAsked, or nil if it did what was asked
	// alone: the last try failed for this target while C1 answered others.
	alone bool
}

func (o *settled) String() string { return o.about }

// errNotAsked: a settlement had no reason to call C1.
var errNotAsked = errors.New("C1 was not asked")

// asked notes what C1 said. A failure that concerns all targets outweighs what
// came before and after it.
func (o *settled) asked(err error) {
	notC1 := err != nil && c1api.AsError(err) == nil // storage, say
	if !notC1 && !concernsAll(o.c1) {
		o.c1 = err
	}
}

// concernsAll reports whether a failure says nothing of the one target: C1 is
// out of reach, or refuses this mount's identity.
func concernsAll(err error) bool {
	e := c1api.AsError(err)
	if e == nil {
		return false
	}
	switch e.Reason {
	case c1api.ReasonNotSent, c1api.ReasonUnavailable, c1api.ReasonRateLimited, c1api.ReasonIdentity:
		return true
	default:
		return false
	}
}

// awaitRoom waits until a request to C1 has room in the limits. Without it the state
// stays as it is, and what is due keeps its place.
func awaitRoom(ctx context.Context, s *session, out *settled) (context.Context, error) {
	room, err := s.client.AwaitTurn(ctx)
	if err != nil {
		out.asked(err)
	}
	return room, err
}

// ask asks C1 something once there is room for it. asked is false if there was none:
// then the state stays as it is.
func ask(ctx context.Context, s *session, out *settled, question func(context.Context) error) (asked bool, err error) {
	room, err := awaitRoom(ctx, s, out)
	if err != nil {
		return false, nil // it is told in out
	}
	room, cancel := s.bound(room)
	defer cancel()
	err = question(room)
	out.asked(err)
	return true, err
}

// verdict is how a settlement goes on after one step.
type verdict int

const (
	goOn    verdict = iota // with what is due next
	wait                   // nothing else can be done now
	planned                // nothing else is to be done, and what is next is planned
)
