// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// announce counts and logs a rotation's end, or that a credential was adopted, and sends
// it as an event.
func (t *turn) announce(ctx context.Context, r *target.Record) {
	fields := []any{
		"target", t.ref.String(), "binding", r.Binding, "outcome", r.Outcome, "reason", r.Reason,
		"version", r.Version, "attempt_id", r.ID, "request_id", r.RequestID,
	}
	succeeded := r.HandedOut() || r.Outcome == target.OutcomeDiscarded
	verb := "rotate"
	switch {
	case r.Reason == target.ReasonAdopt:
		verb = "adopt"
		t.Logger().Info("adopted", fields...) // no rotation, so it is not counted as one
	case succeeded:
		t.Logger().Info("rotated", fields...)
	default:
		t.Logger().Warn("rotation did not end well", append(fields, "error", r.Error)...)
	}
	if verb == "rotate" {
		t.tally.rotated(t.ref.Kind, r.Reason, r.Outcome)
	}
	eventType := string(t.ref.Kind) + "-" + verb
	if !succeeded {
		eventType += "-fail"
	}
	bindings, creds := pathsOf(t.ref.Kind)
	path, dataPath := creds+"/"+r.Binding, bindings+"/"+r.Binding+"/history"
	if t.ref.Kind == target.Identity {
		path, dataPath = "config/rotate-root", "config"
	}
	t.sendEvent(ctx, eventType,
		logical.EventMetadataModified, fmt.Sprint(succeeded),
		logical.EventMetadataOperation, r.Reason,
		logical.EventMetadataPath, path,
		logical.EventMetadataDataPath, dataPath,
		"name", r.Binding,
		"outcome", r.Outcome,
		"version", fmt.Sprint(r.Version),
		"fingerprint_sha256", r.Fingerprint,
	)
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

// sendEvent sends an event of type c1/<name>, for which nobody waits. A lost
// event changes nothing, so failures are only logged.
func (b *backend) sendEvent(ctx context.Context, name string, metadata ...string) {
	send := func() {
		err := logical.SendEvent(context.WithoutCancel(ctx), b, "c1/"+name, metadata...)
		if err != nil && !errors.Is(err, framework.ErrNoEvents) {
			b.Logger().Debug("could not send an event", "event_type", "c1/"+name, "error", err)
		}
	}
	if !b.work.Enter() {
		send() // the plugin is stopping
		return
	}
	go func() {
		defer b.work.Leave()
		send()
	}()
}
