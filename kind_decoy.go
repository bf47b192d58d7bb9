// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// decoyKind: a fingerprint tells what became of a rotation, and nothing but another
// rotation makes a copy dead. C1 also says when a decoy was used.
type decoyKind struct{ bindable }

func (decoyKind) get(ctx context.Context, s *session, ref target.Ref) (*c1api.Decoy, error) {
	return s.client.GetDecoy(ctx, ref.DecoyID)
}

func (decoyKind) rotate(ctx context.Context, t *turn, o *order) (*material, error) {
	decoy, m, err := o.session.client.RotateDecoy(ctx, t.ref.DecoyID)
	if err != nil {
		return nil, err
	}
	return decoyMaterial(t.ref, decoy, m), nil
}

func (decoyKind) endUnused(context.Context, *turn, *session, string) (bool, error) { return false, nil }

func (decoyKind) resolve(ctx context.Context, t *turn, state *target.State, out *settled) (*target.State, verdict, error) {
	if !state.Resolvable() {
		return state.Undecidable(), goOn, nil
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, wait, err
	}
	var found c1api.Existence
	asked, err := ask(ctx, s, out, func(ctx context.Context) (err error) {
		found, err = s.client.DecoyExistence(ctx, t.ref.DecoyID)
		return err
	})
	if !asked {
		return state, wait, nil
	}
	if err != nil {
		t.Logger().Warn("could not compare a decoy's fingerprint; trying again", "target", t.ref.String(), "error", err)
		return state.Unseen(t.now()), goOn, nil
	}
	state = t.noteDecoy(ctx, state, found.Decoy)
	return state.Decided(t.now(), s.terms(nil), seenDecoy(found)), goOn, nil
}

func (decoyKind) canBeSeen(*target.State) bool { return true }

func (decoyKind) see(ctx context.Context, s *session, state *target.State) (sight, error) {
	found, err := s.client.DecoyExistence(ctx, state.Ref.DecoyID)
	if err != nil {
		return sight{}, err
	}
	shown := sight{Seen: seenDecoy(found), state: state, decoy: found.Decoy}
	switch {
	case found.Gone:
		shown.Drift = "the decoy is gone at C1 (" + found.Why + ")"
	case state.Current != nil && target.Differs(shown.Fingerprint, state.Current.Fingerprint):
		shown.Drift = "C1 shows a different fingerprint from the vended one: " + vendedBefore(state) + "; rotate again"
	}
	return shown, nil
}

func (decoyKind) retireInTurn(ctx context.Context, t *turn, out *settled) error {
	ended := endings{}
	for _, r := range t.state.DueEnds(t.now()) {
		err := t.endCopy(ctx, r.Version)
		ended[r.Version] = err
		out.asked(err)
		out.next = time.Time{}
	}
	if len(ended) == 0 {
		return nil
	}
	return t.save(ctx, t.retired(ctx, t.state, ended))
}

// endCopy makes a vended copy of a decoy dead, if it is still the current one.
func (t *turn) endCopy(ctx context.Context, version int) error {
	if t.state.Version != version {
		return nil
	}
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	if err := s.serves(t.state.Tenant); err != nil {
		return err
	}
	look, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.client.DecoyExistence(look, t.ref.DecoyID)
	if err != nil {
		return err
	}
	t.state = t.noteDecoy(ctx, t.state, found.Decoy)
	vended := "" // of a state that was lost nobody knows, so the copy counts as alive
	if t.state.Current != nil {
		vended = t.state.Current.Fingerprint
	}
	if found.Gone || target.Differs(found.Decoy.FingerprintSHA256, vended) {
		return nil
	}
	o := &order{session: s, origin: target.Origin{Reason: target.ReasonLeaseEnd}, outcome: target.OutcomeDiscarded}
	if o.bind, err = t.boundAs(ctx, t.ref, t.state.Binding); err != nil {
		return err
	}
	if o.keeps() {
		o.outcome = target.OutcomeStored
	}
	_, err = t.rotate(context.WithoutCancel(ctx), o)
	return err
}

func (decoyKind) retire(context.Context, *backend, *target.State, *settled) error { return nil }

func (decoyKind) endLeased(ctx context.Context, b *backend, _ *session, l *lease) error {
	lost := true
	err := b.change(ctx, l.Ref, func(t *turn) (*target.State, error) {
		lost = false
		if err := t.endCopy(ctx, l.Version); err != nil {
			return t.state, err
		}
		return t.retired(ctx, t.state, endings{l.Version: nil}), nil
	})
	if err == nil && lost {
		err = errors.New("there is no state of its target any more")
	}
	return err
}

func (decoyKind) end(context.Context, *backend, *session, target.Ref, string) (why string, err error) {
	return "", errors.New("a decoy's copy has no ID: only a rotation ends it")
}

// seenDecoy is what a look at a decoy has shown.
func seenDecoy(found c1api.Existence) target.Seen {
	seen := target.Seen{}
	if found.Gone {
		seen.Gone = found.Why
	}
	if found.Decoy != nil {
		seen.Fingerprint = found.Decoy.FingerprintSHA256
	}
	return seen
}
