// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// storedFields are what stored material carries beside itself: the fields by
// which Vault Agent, Vault Secrets Operator and consul-template recognise a
// secret that rotates.
func storedFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"rotation_period":     {Type: framework.TypeInt64, Description: "With rotate_on=schedule: seconds between rotations; with a cron line, to the next scheduled time; 300 when only callers rotate."},
		"ttl":                 {Type: framework.TypeInt64, Description: "With rotate_on=schedule: seconds until the next rotation, at most refresh_interval, after which to read again; always more than 0."},
		"last_vault_rotation": {Type: framework.TypeString, Description: "With rotate_on=schedule: time of the rotation that made this, RFC 3339."},
	}
}

// vendRemembered answers a read of a scheduled binding, plain or by the KV API, as
// its handler would, or returns nil if that needs more than what is remembered.
func (b *backend) vendRemembered(req *logical.Request) *logical.Response {
	if req.Operation != logical.ReadOperation || len(req.Data) > 0 {
		return nil
	}
	path, byKV := strings.CutPrefix(req.Path, kvData)
	creds, name, _ := strings.Cut(path, "/")
	k, ok := kindOfCreds[creds]
	if !ok {
		return nil
	}
	bind := storedBinding.Recall(b.store, bindingKey(k, name))
	if bind == nil || !bind.scheduled() {
		return nil
	}
	t := storedState.Recall(b.store, stateKey(bind.Ref))
	if t == nil || !t.HasMaterial() {
		return nil
	}
	b.hurryIfPlannedTooFar(bind, t)
	if byKV {
		resp, err := kvSecret(bind, t)
		if err != nil {
			return nil // the handler says so
		}
		return resp
	}
	return storedResponse(bind, t, b.now())
}

// hurryIfPlannedTooFar has a target settled now whose plan lies further ahead than
// its schedule can say: nothing else would come to it before that time.
func (b *backend) hurryIfPlannedTooFar(bind *binding, t *target.State) {
	if !t.PlannedTooFar(bind.Schedule, b.now()) {
		return
	}
	if name, err := nameOf(b.life, b.store, t.Ref); err == nil {
		b.agenda.Hurry(name, b.now())
	}
}

// vendStored answers a read of a scheduled binding. It takes no lock, writes
// nothing and never asks C1.
func (b *backend) vendStored(ctx context.Context, bind *binding, name string) (*logical.Response, error) {
	t, err := b.storedMaterial(ctx, bind, name)
	if err != nil {
		return nil, err
	}
	b.hurryIfPlannedTooFar(bind, t)
	return storedResponse(bind, t, b.now()), nil
}

// storedMaterial reads the state that holds a scheduled binding's material, or refuses.
func (b *backend) storedMaterial(ctx context.Context, bind *binding, name string) (*target.State, error) {
	t, err := readState(ctx, b.store, bind.Ref)
	if err == nil && (t == nil || !t.HasMaterial()) {
		return nil, refuseUnrotated(b.now(), t, bind.Ref.Kind, name)
	}
	return t, err
}

// refuseUnrotated says why there is nothing to read yet, and the way out.
func refuseUnrotated(now time.Time, t *target.State, k target.Kind, name string) error {
	when := "the engine does not rotate it by itself"
	if t != nil {
		if step := t.Next(now); step.Do != target.Nothing && t.Paused == nil {
			when = "the first rotation is planned for " + rfc3339(step.At)
		}
		for _, problem := range t.ProblemList() {
			when += "; " + problem
		}
	}
	bindings, creds := pathsOf(k)
	return refuse("%s/%s has no material yet: %s; write %s/%s to rotate now", bindings, name, when, creds, name)
}

// storedResponse answers with the stored material. Nothing of it is leased.
func storedResponse(bind *binding, t *target.State, now time.Time) *logical.Response {
	ttl, overdue := refetchIn(bind, t, now)
	data := maps.Clone(t.Current.Material)
	maps.Copy(data, map[string]any{
		"version":             t.Version,
		"rotation_period":     periodSeconds(bind.Schedule, now),
		"ttl":                 ttl,
		"last_vault_rotation": rfc3339(t.Current.RotatedAt),
	})
	resp := &logical.Response{Data: data, WrapInfo: bind.wrapInfo()}
	if overdue {
		resp.AddWarning(fmt.Sprintf("the rotation due at %s has not succeeded yet: read again in %d s", rfc3339(t.NextRotation), ttl))
	}
	if a := t.Attempt; a != nil && a.Phase == target.Asking {
		resp.AddWarning("a rotation is under way: this credential may end at any moment, read again soon")
	}
	problems := t.Problems()
	delete(problems, target.AttentionRetiring) // of no interest to readers
	resp.Warnings = append(resp.Warnings, target.ListProblems(problems)...)
	return resp
}
