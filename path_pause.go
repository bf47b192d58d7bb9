// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathPause(k target.Kind) *framework.Path {
	bindings, _ := pathsOf(k)
	return &framework.Path{
		Pattern:      bindings + "/" + anyName + "/pause$",
		DisplayAttrs: display("pause", string(k)),
		Fields: map[string]*framework.FieldSchema{
			"name":   nameField(),
			"reason": {Type: framework.TypeString, Required: true, Description: "Why, in your words: the binding's read, status and readers' warnings show it."},
		},
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:  "Pause the scheduled rotations of a " + string(k) + " until it is resumed.",
			Callback: handleFor(k, (*backend).pause),
			Responses: answer("The pause as it is kept.", map[string]*framework.FieldSchema{
				"paused":        {Type: framework.TypeBool, Required: true, Description: "true."},
				"paused_reason": {Type: framework.TypeString, Required: true, Description: "Why."},
				"paused_by":     {Type: framework.TypeString, Required: true, Description: "Who: the token's display name, or the entity's ID where it has none."},
				"paused_at":     {Type: framework.TypeString, Required: true, Description: "When, RFC 3339."},
			}),
		})),
		HelpSynopsis: "Pause the scheduled rotations of a binding.",
		HelpDescription: `
Until …/resume is written, the engine does not rotate this binding by itself, not
even to recover from an unknown outcome. Readers get the credential as before, with
a warning; …/rotate and writes to the creds path still rotate; checks and planned
ends continue. A credential that expires at C1 meanwhile is not replaced. The pause
waits for a rotation that is under way. Pausing again replaces the reason.
`,
	}
}

func pathResume(k target.Kind) *framework.Path {
	bindings, _ := pathsOf(k)
	return &framework.Path{
		Pattern:      bindings + "/" + anyName + "/resume$",
		DisplayAttrs: display("resume", string(k)),
		Fields:       map[string]*framework.FieldSchema{"name": nameField()},
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:  "Resume the scheduled rotations of a paused " + string(k) + ".",
			Callback: handleFor(k, (*backend).resume),
			Responses: answer("When the engine rotates next.", map[string]*framework.FieldSchema{
				"next_rotation": {Type: framework.TypeString, Required: true, Description: "Time of the next rotation, RFC 3339; in the past if it is due at once, empty when only callers rotate."},
			}),
		})),
		HelpSynopsis: "Resume the scheduled rotations of a paused binding.",
		HelpDescription: `
The engine rotates within seconds if a rotation became due meanwhile: a scheduled
time that has passed, a rotation that failed, an unknown outcome. The answer says
when the next rotation is. A binding that is not paused stays as it is.
`,
	}
}

func (b *backend) pause(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	reason := strings.TrimSpace(d.Get("reason").(string))
	if reason == "" {
		return nil, refuse("reason is required: whoever finds the binding paused must know why")
	}
	if err := validLabel("reason", reason); err != nil {
		return nil, err
	}
	o := originOf(req)
	t, err := b.changeClock(ctx, d.Get("name").(string), k, "pause", func(t *turn, terms target.Terms) *target.State {
		return t.state.WithPause(t.now(), terms, target.Pause{Reason: reason, By: cmp.Or(o.DisplayName, o.EntityID), At: t.now()})
	})
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: pauseData(t)}, nil
}

func (b *backend) resume(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	resp := &logical.Response{}
	t, err := b.changeClock(ctx, d.Get("name").(string), k, "resume", func(t *turn, terms target.Terms) *target.State {
		if t.state.Paused == nil {
			resp.AddWarning("it was not paused")
		}
		return t.state.Resumed(t.now(), terms)
	})
	if err != nil {
		return nil, err
	}
	resp.Data = map[string]any{"next_rotation": rfc3339(t.RotationAt())}
	return resp, nil
}

// pauseData is what a binding's read and the answer of a pause say of it.
func pauseData(t *target.State) map[string]any {
	p := t.Paused
	if p == nil {
		p = &target.Pause{}
	}
	return map[string]any{"paused": t.Paused != nil, "paused_reason": p.Reason, "paused_by": p.By, "paused_at": rfc3339(p.At)}
}

// changeClock changes whether the clock rotates a scheduled binding, tells so, and
// returns the state.
func (b *backend) changeClock(ctx context.Context, name string, k target.Kind, what string, change func(*turn, target.Terms) *target.State) (*target.State, error) {
	t, bind, s, err := b.takeScheduled(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer t.release()
	next := change(t, s.terms(bind))
	if next == t.state {
		return next, nil
	}
	if err := t.save(ctx, next); err != nil {
		return nil, err
	}
	t.Logger().Info("scheduled rotations of a binding: "+what, "target", t.ref.String(), "binding", name)
	bindings, _ := pathsOf(k)
	t.sendEvent(ctx, string(k)+"-"+what,
		logical.EventMetadataModified, "true",
		logical.EventMetadataOperation, what,
		logical.EventMetadataPath, bindings+"/"+name+"/"+what,
		logical.EventMetadataDataPath, bindings+"/"+name,
		"name", name,
	)
	return next, nil
}
