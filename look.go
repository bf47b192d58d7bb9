// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// look asks C1 what has become of the target: somebody else may have rotated it,
// Vault may have been restored from an older snapshot, C1 may have committed a request
// of unknown outcome late, or somebody used a decoy.
func (t *turn) look(ctx context.Context, state *target.State, out *settled) (*target.State, verdict, error) {
	if t.ref.Kind != target.Decoy && !state.CurrentAlive() {
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
	var seen target.Seen
	var decoy *c1api.Decoy
	shown := state
	asked, err := ask(ctx, s, out, func(ctx context.Context) (err error) {
		if t.ref.Kind == target.Identity {
			shown, seen, err = t.lookAtIdentity(ctx, s, state)
		} else {
			seen, decoy, err = see(ctx, s.client, state)
		}
		return err
	})
	if !asked {
		return state, wait, nil
	}
	if err != nil {
		t.Logger().Warn("could not look at a target again; trying later", "target", t.ref.String(), "error", err)
		return state.Unseen(t.now()), goOn, nil
	}
	next, news := t.noteDecoy(ctx, shown, decoy).Observed(t.now(), s.terms(bind), seen)
	if news {
		t.Logger().Warn("C1 holds something other than what was vended last", "target", t.ref.String(), "version", next.Version, "detail", seen.Drift)
	}
	return next, goOn, nil
}

// lookUp asks C1 for a binding's target, and returns a decoy as C1 shows it. A refusal
// of this read alone is only a warning: the right to rotate is another.
func (s *session) lookUp(ctx context.Context, ref target.Ref) (decoy *c1api.Decoy, warning string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if ref.Kind == target.Decoy {
		if decoy, err = s.client.GetDecoy(ctx, ref.DecoyID); err == nil && decoy.Disabled {
			warning = "the decoy is disabled at C1: nobody who uses it raises a finding"
		}
	} else {
		_, err = s.client.GetConnector(ctx, ref.AppID, ref.ConnectorID)
	}
	if c1api.IsReason(err, c1api.ReasonForbidden) {
		return nil, fmt.Sprintf("could not check that the %s exists: %s", ref, err), nil
	}
	return decoy, warning, err
}

// see asks C1 for what was vended last.
func see(ctx context.Context, client *c1api.Client, t *target.State) (target.Seen, *c1api.Decoy, error) {
	why := "somebody else rotated it, or Vault was restored from an older snapshot"
	if t.Recheck.Why == target.LateCommit {
		why = "a request of unknown outcome was committed late"
	}
	if t.Ref.Kind == target.Decoy {
		found, err := client.DecoyExistence(ctx, t.Ref.DecoyID)
		if err != nil {
			return target.Seen{}, nil, err
		}
		seen := seenDecoy(found)
		switch {
		case found.Gone:
			seen.Drift = "the decoy is gone at C1 (" + found.Why + ")"
		case t.Current != nil && target.Differs(seen.Fingerprint, t.Current.Fingerprint):
			seen.Drift = "C1 shows another fingerprint than the vended one: " + why + "; rotate again"
		}
		return seen, found.Decoy, nil
	}
	found, err := client.ConnectorCredentialExistence(ctx, t.Ref.AppID, t.Ref.ConnectorID, t.Current.CredentialID)
	switch {
	case err != nil || !found.Gone:
		return target.Seen{}, nil, err
	case found.Credential != nil && found.Credential.DeletedAt.IsZero():
		return target.Seen{Drift: "the credential expired at " + rfc3339(found.Credential.ExpiresAt) + "; rotate again"}, nil, nil
	default:
		return target.Seen{Drift: fmt.Sprintf("C1 no longer holds the vended credential (%s): %s; rotate again", found.Why, why)}, nil, nil
	}
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

// noteDecoy takes what C1 says of a decoy into the state. That it was used is sent as
// an event, at least once.
func (t *turn) noteDecoy(ctx context.Context, state *target.State, decoy *c1api.Decoy) *target.State {
	if decoy == nil {
		return state
	}
	next, used := state.Shown(t.now(), target.DecoyState{LastUsedAt: decoy.LastUsedAt, Disabled: decoy.Disabled})
	if !used {
		return next
	}
	t.Logger().Warn("a decoy was used", "target", t.ref.String(), "binding", next.Binding, "last_used_at", rfc3339(decoy.LastUsedAt))
	bindings, _ := pathsOf(t.ref.Kind)
	t.sendEvent(ctx, "decoy-used",
		logical.EventMetadataModified, "true",
		logical.EventMetadataOperation, "check",
		logical.EventMetadataPath, bindings+"/"+next.Binding,
		logical.EventMetadataDataPath, bindings+"/"+next.Binding,
		"name", next.Binding,
		"decoy_id", t.ref.DecoyID,
		"last_used_at", rfc3339(decoy.LastUsedAt),
	)
	return next
}
