// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// What the config says of the mount's own credential, and the credential's state. How it
// is rotated is in kind_identity.go.

// identityName stands for a binding's name in the identity's records.
const identityName = "config"

// expiryWarning is how long before the credential expires status warns.
const expiryWarning = 14 * 24 * time.Hour

// reconciled is the identity's state by what the config says now, and what it leaves
// alive at C1. An open attempt is left to be concluded: its credential may be the one
// in the config.
func (t *turn) reconciled(cfg *config, state *target.State, o target.Origin) (next *target.State, left []string) {
	now, bind := t.now(), cfg.identityBinding()
	if state == nil {
		state = newState(identityRef)
	}
	if bind == nil || state.Binding != "" && state.Tenant != cfg.tenant() {
		if state.Current != nil || state.Attempt != nil || len(state.Retire) > 0 {
			state, left = state.Forgotten(now)
		}
	}
	if bind == nil || state.Attempt != nil {
		return state, left
	}
	if !cfg.sameCredential(state) {
		held := target.Credential{ClientID: cfg.ClientID, Fingerprint: target.Fingerprint(cfg.ClientSecret)}
		if cfg.use() == c1api.UseServicePrincipal {
			held.CredentialID = c1api.CredentialIDOf(cfg.ClientID)
		}
		end := now.Add(bind.GracePeriod)
		if before := state.Current; before != nil && before.Binding != "" {
			left = append(left, fmt.Sprintf("credential %s, which this mount made, until %s", before.ClientID, rfc3339(end)))
		}
		o.Reason, o.Binding = target.ReasonConfig, identityName
		state = state.Claimed(identityName, cfg.tenant(), "").Adopted(now, o, held, end)
	}
	switch {
	case !state.Scheduled:
		state = state.ComesToBeScheduled(now, bind.Schedule, time.Time{}).Rescheduled(now, bind.Schedule)
	case state.NextRotation.IsZero() != bind.Schedule.Latest(now).IsZero():
		state = state.Rescheduled(now, bind.Schedule)
	}
	return state, left
}

// identityExpected plans a look at the identity before a config is stored that has
// another credential: should the process die then, the look finds it.
func (b *backend) identityExpected(ctx context.Context, cfg *config) error {
	if cfg.identityBinding() == nil {
		return nil
	}
	t, err := b.takeTurn(ctx, identityRef)
	if err != nil {
		return err
	}
	defer t.release()
	state := t.state
	if cfg.sameCredential(state) {
		return nil
	}
	if state == nil {
		state = newState(identityRef)
	}
	return t.save(ctx, state.LookPlanned(b.now().Add(time.Minute)))
}

// identityWritten takes a config that was just stored, and returns what to tell
// whoever wrote it. before is the config until then; it may be nil.
func (b *backend) identityWritten(ctx context.Context, before, cfg *config, o target.Origin) (warnings []string) {
	var left []string
	err := func() error {
		t, err := b.takeTurn(ctx, identityRef)
		if err != nil {
			return err
		}
		defer t.release()
		var next *target.State
		next, left = t.reconciled(cfg, t.state, o)
		if a := next.Attempt; a != nil {
			left = append(left, fmt.Sprintf("perhaps a credential whose name ends with %q, made by a rotation of unknown outcome; the engine looks for it at %s, and ends it if this identity may",
				strings.TrimSpace(tagOf(a.ID)), rfc3339(a.NextTry)))
		}
		if before != nil && before.RootRotation != cfg.RootRotation && next.Scheduled {
			next = next.Rescheduled(b.now(), cfg.RootRotation)
		}
		if t.state == nil && next.Current == nil || next == t.state {
			return nil
		}
		return t.save(ctx, next)
	}()
	if err != nil {
		b.Logger().Warn("the config is stored; the engine looks up its expiry later", "error", err)
		return []string{"the config is stored; the engine looks up later when its credential expires: " + err.Error()}
	}
	return b.leftAlive(left)
}

// identityForgotten takes that the config was deleted, and returns what to
// tell whoever deleted it.
func (b *backend) identityForgotten(ctx context.Context) (warnings []string, err error) {
	err = b.change(ctx, identityRef, func(t *turn) (*target.State, error) {
		next, left := t.state.Forgotten(t.now())
		warnings = b.leftAlive(left)
		return next, nil
	})
	return warnings, err
}

// leftAlive logs what a config that is no longer leaves at C1, and returns it for who
// has written or deleted the config.
func (b *backend) leftAlive(left []string) (warnings []string) {
	for _, what := range left {
		b.Logger().Warn("a config that was replaced or deleted leaves something alive at C1", "what", what)
		warnings = append(warnings, "stays alive at C1: "+what)
	}
	return warnings
}

// identity is what is known of the mount's own credential.
type identity struct {
	expires time.Time // zero: never, or that is not known
	next    time.Time // when the clock replaces it; zero: never
	dpop    bool      // C1 takes it only with proofs
	warning string    // once it expires soon
}

// identity reads what is known of the config's credential.
func (b *backend) identity(ctx context.Context, cfg *config) (id identity, err error) {
	if cfg == nil {
		return id, nil
	}
	id.dpop = cfg.RequireDPoP
	if s := b.sessions.peek(); s != nil && s.config.Revision == cfg.Revision {
		id.dpop = id.dpop || s.client.Health().DPoP
	}
	if cfg.AccessToken != "" {
		id.expires, _ = c1api.TokenExpiry(cfg.AccessToken)
	} else {
		t, err := readState(ctx, b.store, identityRef)
		if err != nil {
			return id, err
		}
		if cfg.sameCredential(t) {
			id.expires, id.next = t.Current.ExpiresAt, t.RotationAt()
			id.dpop = id.dpop || t.Current.RequireDPoP
		}
	}
	id.warning = id.warn(b.now(), cfg)
	return id, nil
}

// warn says when the credential expires and what to do, once that is near.
func (id *identity) warn(now time.Time, cfg *config) string {
	if id.expires.IsZero() || now.Before(id.expires.Add(-expiryWarning)) {
		return ""
	}
	verb, way := "expires", "write another one into config"
	if !now.Before(id.expires) {
		verb = "expired"
	}
	switch {
	case !id.next.IsZero():
		way = "the engine rotates it at " + rfc3339(id.next)
	case cfg.identityBinding() != nil:
		way = "write config/rotate-root, or set root_rotation_period in config"
	}
	return fmt.Sprintf("the mount's credential %s at %s: %s", verb, rfc3339(id.expires), way)
}
