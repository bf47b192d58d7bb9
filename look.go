// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// look asks C1 what has become of the target: somebody else may have rotated it,
// Vault may have been restored from an older snapshot, C1 may have committed a request
// of unknown outcome late, or somebody used a decoy.
func (t *turn) look(ctx context.Context, state *target.State, out *settled) (*target.State, verdict, error) {
	k := t.kindOf(t.ref)
	if !k.canBeSeen(state) {
		return state.NotLooked(), goOn, nil
	}
	s, err := t.session(ctx)
	if err != nil {
		return nil, wait, err
	}
	bind, err := t.boundAs(ctx, t.ref, state.Binding)
	if err != nil {
		return nil, wait, err
	}
	var shown sight
	asked, err := ask(ctx, s, out, func(ctx context.Context) (err error) {
		shown, err = k.see(ctx, s, state)
		return err
	})
	if !asked {
		return state, wait, nil
	}
	if err != nil {
		t.Logger().Warn("could not look at a target again; trying later", "target", t.ref.String(), "error", err)
		return state.Unseen(t.now()), goOn, nil
	}
	next, news := t.noteDecoy(ctx, shown.state, shown.decoy).Observed(t.now(), s.terms(bind), shown.Seen)
	if news {
		t.Logger().Warn("C1 holds something other than what was vended last", "target", t.ref.String(), "version", next.Version, "detail", shown.Drift)
	}
	return next, goOn, nil
}

// vendedBefore says what may have happened to a target that C1 shows in another way than
// it was vended.
func vendedBefore(t *target.State) string {
	if t.Recheck.Why == target.LateCommit {
		return "C1 carried out a request of unknown outcome late"
	}
	return "somebody else rotated it, or Vault was restored from an older snapshot"
}

// lookUpTarget asks C1 for a binding's target, and returns a decoy as C1 shows it. A refusal
// of this read alone is only a warning: the right to rotate is another.
func (b *backend) lookUpTarget(ctx context.Context, s *session, ref target.Ref) (decoy *c1api.Decoy, warning string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	decoy, err = b.kindOf(ref).get(ctx, s, ref)
	if c1api.IsReason(err, c1api.ReasonForbidden) {
		return nil, fmt.Sprintf("could not check that the %s exists: %s", ref, err), nil
	}
	if err == nil && decoy != nil && decoy.Disabled {
		warning = "the decoy is disabled at C1: nobody who uses it raises a finding"
	}
	return decoy, warning, err
}
