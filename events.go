// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

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

// sendEvent sends an event of type c1/<name>, for which nobody waits. A lost
// event changes nothing, so failures are only logged.
func (b *backend) sendEvent(ctx context.Context, name string, metadata ...string) {
	send := func() {
		err := logical.SendEvent(context.WithoutCancel(ctx), b, "c1/"+name, metadata...)
		if err != nil && !errors.Is(err, framework.ErrNoEvents) {
			b.Logger().Debug("could not send an event", "event_type", "c1/"+name, "error", err)
		}
	}
	if !b.work.enter() {
		send() // the plugin is stopping
		return
	}
	go func() {
		defer b.work.leave()
		send()
	}()
}
