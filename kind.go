// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// kindOf returns what differs for a target.
func (b *backend) kindOf(ref target.Ref) kind { return b.kinds[ref.Kind] }

// kind is what rotate.go, settle.go, look.go and retire.go do differently for a
// connector, a decoy and the mount's own identity. All else is the same for them.
type kind interface {
	// get asks C1 for a target that is to be bound, and returns a decoy as C1 shows it.
	get(ctx context.Context, s *session, ref target.Ref) (*c1api.Decoy, error)

	// alsoLocks is the key of a lock that whoever rotates takes before the target's turn,
	// or "".
	alsoLocks() string
	// prepare finds out what a rotation has to know before it begins.
	prepare(ctx context.Context, t *turn, o *order) error
	// rotate has C1 rotate, and turns its answer into material.
	rotate(ctx context.Context, t *turn, o *order) (*material, error)
	// store stores the outcome of a rotation.
	store(ctx context.Context, t *turn, o *order, made *outcome) error
	// refusal is what whoever asked for a rotation is told when C1 has refused it.
	refusal(cause error) error
	// heals says what settles an attempt of unknown outcome; kept is whether readers of a
	// scheduled binding get its material.
	heals(open *target.State, kept bool) string
	// endUnused ends what was made and given to nobody, and reports whether it did. It
	// does nothing where only another rotation could.
	endUnused(ctx context.Context, t *turn, s *session, credentialID string) (bool, error)

	// reconciled is the target's state by what is stored elsewhere.
	reconciled(ctx context.Context, t *turn) (*target.State, error)
	// resolve decides an attempt that C1 can no longer commit late.
	resolve(ctx context.Context, t *turn, state *target.State, out *settled) (*target.State, verdict, error)
	// canBeSeen reports whether C1 can be asked what has become of what was vended last;
	// see asks.
	canBeSeen(state *target.State) bool
	see(ctx context.Context, s *session, state *target.State) (sight, error)

	// retireInTurn ends what is due and takes the target's turn to end; retire ends what
	// does not, once the turn was given back.
	retireInTurn(ctx context.Context, t *turn, out *settled) error
	retire(ctx context.Context, b *backend, state *target.State, out *settled) error
	// endLeased ends the credential of a lease.
	endLeased(ctx context.Context, b *backend, s *session, l *lease) error
	// end ends a credential at C1 by its ID, and says by which evidence. It may be
	// repeated.
	end(ctx context.Context, b *backend, s *session, ref target.Ref, credentialID string) (why string, err error)
}

// sight is what a look at a target has shown.
type sight struct {
	target.Seen
	state *target.State // with what C1 says of the target beside
	decoy *c1api.Decoy  // as C1 shows it; nil of other targets, and of one that is gone
}

// bindable is what connectors and decoys have in common: a binding, and C1 replaces what it
// rotates.
type bindable struct{}

func (bindable) alsoLocks() string { return "" }

func (bindable) prepare(context.Context, *turn, *order) error { return nil }

func (bindable) refusal(cause error) error { return fromC1(cause) }

func (bindable) heals(open *target.State, kept bool) string {
	switch {
	case !kept:
		return "rotating again settles it"
	case open.Paused != nil:
		return "rotating again settles it, which the engine does not do by itself while the binding is paused"
	default:
		return "the engine rotates it again at " + rfc3339(open.Attempt.CommitBy) + ", or sooner if somebody asks for it"
	}
}

func (bindable) reconciled(_ context.Context, t *turn) (*target.State, error) { //nolint:unparam // the identity has to read its config
	return t.state, nil
}
