// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// maxListed bounds how many targets status describes per reason.
const maxListed = 100

func pathStatus() *framework.Path {
	return &framework.Path{
		Pattern: "status$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "status", Navigation: true,
		},
		Operations: only(logical.ReadOperation, &framework.PathOperation{
			Summary:  "Read the health of the mount and what needs attention.",
			Callback: handle((*backend).readStatus),
			// The connection's state is in the memory of the node that acts.
			ForwardPerformanceStandby: true,
			Responses:                 answer("Health, counts, and what needs attention.", statusFields()),
		}),
		HelpSynopsis: "Health, counts, and what needs attention.",
		HelpDescription: `
The cost of a read grows with what is wrong, not with what exists. See
docs/monitoring.md for what each reason means and what to do. A node that has not
called C1 since it started shows no connection yet.
`,
	}
}

// statusFields are those of an answer.
func statusFields() map[string]*framework.FieldSchema {
	count := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeInt, Required: true, Description: description}
	}
	text := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: description}
	}
	return map[string]*framework.FieldSchema{
		"healthy":             {Type: framework.TypeBool, Required: true, Description: "Configured, and nothing is wrong."},
		"configured":          {Type: framework.TypeBool, Required: true, Description: "Whether config was written."},
		"version":             text("Version of the plugin."),
		"tenant":              text("URL of the tenant."),
		"bindings":            count("Bindings of this mount."),
		"ready":               count("Bindings that nothing is wrong with."),
		"ambiguous":           count("Targets with a rotation of unknown outcome."),
		"failing":             count("Targets whose scheduled rotation does not succeed."),
		"drifted":             count("Targets for which C1 holds something other than what was vended."),
		"retiring":            count("Targets with a credential that could not be ended yet."),
		"paused":              count("Targets that the engine does not rotate by itself, because somebody has paused them. They count as healthy."),
		"rotating":            count("Targets with a rotation that began in the last few minutes and is still open."),
		"overdue":             count("Targets that have been waiting for the engine for more than 10 s."),
		"oldest_overdue":      text("Since when the oldest overdue target has been waiting, RFC 3339; empty when there is none."),
		"next_due":            text("When something is to be done next, RFC 3339, exact within a minute; empty when nothing is planned."),
		"paused_until":        text("While C1 is out of reach, when the next try is, RFC 3339; else empty."),
		"paused_reason":       text("Why everything that is due waits; else empty."),
		"attention":           {Type: framework.TypeSlice, Required: true, Description: "What needs attention: kind, IDs, binding, reason, detail, and credential_ids that wait to be ended; at most 100 per reason."},
		"watermark":           text("Minute up to which the engine has looked at due targets, RFC 3339."),
		"breaker":             text("closed, half-open or open; empty before the first call to C1."),
		"last_success":        text("Last answer from C1, RFC 3339; empty before the first."),
		"latency_ms":          {Type: framework.TypeInt64, Required: true, Description: "Duration of that answer in milliseconds."},
		"token_expires_at":    text("End of the access token in use, RFC 3339; empty without one and for a static one."),
		"clock_offset_ms":     {Type: framework.TypeInt64, Required: true, Description: "C1's clock minus this machine's, in milliseconds, when it matters."},
		"token_mints":         {Type: framework.TypeInt64, Required: true, Description: "Access tokens fetched since the client was built."},
		"identity_expires_at": text("When the mount's own credential expires at C1, RFC 3339; empty if it does not, or if that is not known."),
		"next_root_rotation":  text("When the engine next replaces the mount's credential, RFC 3339; empty if it does not do so on a schedule."),
		"identity_warning":    text("From 14 days before it expires: when, and what to do; else empty."),
		"note":                text("Empty, or why the lists above are incomplete."),
	}
}

func (b *backend) readStatus(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	o, err := b.overview(ctx)
	if err != nil {
		return nil, err
	}
	tenant := ""
	if o.cfg != nil {
		tenant = o.cfg.tenant()
	}
	data := map[string]any{
		"healthy": o.healthy(), "configured": o.cfg != nil, "version": b.version, "tenant": tenant,
		"bindings": o.bindings, "ready": o.ready, "rotating": o.rotating, "attention": o.attention, "note": o.note,
		"watermark": rfc3339(o.due.Watermark), "next_due": rfc3339(o.due.Next),
		"overdue": o.due.Overdue, "oldest_overdue": rfc3339(o.due.Oldest),
		"paused_until": rfc3339(o.due.PausedUntil), "paused_reason": o.due.PausedReason,
		"breaker": o.link.Breaker, "last_success": rfc3339(o.link.LastSuccess), "latency_ms": o.link.LastLatency.Milliseconds(),
		"token_expires_at": rfc3339(o.link.TokenExpiresAt), "token_mints": o.link.TokenMints,
		"clock_offset_ms":     o.link.ClockOffset.Milliseconds(),
		"identity_expires_at": rfc3339(o.identity.expires), "next_root_rotation": rfc3339(o.identity.next), "identity_warning": o.identity.warning,
	}
	for reason, count := range o.wrong {
		data[reason] = count
	}
	return &logical.Response{Data: data}, nil
}

// overview is what status and metrics tell of a mount.
type overview struct {
	cfg       *config
	link      c1api.Health // what this node knows of C1
	due       agenda.Figures
	identity  identity
	bindings  int
	ready     int
	rotating  int
	wrong     map[string]int // targets by what is wrong with them
	attention []any
	note      string
}

// healthy reports whether nothing needs a person.
func (o *overview) healthy() bool {
	wrong := o.due.Overdue
	for reason, count := range o.wrong {
		if reason != target.AttentionPaused { // which a person has chosen
			wrong += count
		}
	}
	return o.cfg != nil && wrong == 0 && o.due.PausedReason == "" && o.identity.warning == ""
}

// overview gathers it. It lists the names of the bindings, and reads what is wrong.
func (b *backend) overview(ctx context.Context) (*overview, error) {
	var o overview
	var err error
	if o.cfg, err = readConfig(ctx, b.store); err != nil {
		return nil, err
	}
	if s := b.sessions.peek(); s != nil {
		o.link = s.client.Health()
	}
	if o.due, err = b.agenda.Figures(ctx, lateAfter); err != nil {
		return nil, err
	}
	if err := b.addTargets(ctx, &o); err != nil {
		return nil, err
	}
	if o.identity, err = b.identity(ctx, o.cfg); err != nil {
		return nil, err
	}
	return &o, nil
}

// addTargets adds the bindings and what is wrong with their targets.
func (b *backend) addTargets(ctx context.Context, o *overview) error {
	var err error
	if o.bindings, err = b.store.CountListed(ctx); err != nil {
		return err
	}
	// Before the marks: an attempt that is settled meanwhile is found in one of
	// both, or in both.
	rotating, unsettled, err := b.openAttempts(ctx, o.cfg)
	if err != nil {
		return err
	}
	o.wrong, o.attention = map[string]int{}, []any{}
	unready := map[store.Key]bool{} // bindings, so a deleted one does not count
	for _, reason := range target.AttentionReasons {
		found, err := b.flaggedFor(ctx, reason)
		if err != nil {
			return err
		}
		if reason == target.AttentionAmbiguous {
			// A mark is stored before the state that bears it out, so a mark alone
			// takes nothing from what the state says already.
			maps.Copy(unsettled, found)
			found = unsettled
			rotating = slices.DeleteFunc(rotating, func(name string) bool { return found[name].t != nil })
		}
		for i, name := range slices.Sorted(maps.Keys(found)) {
			f := found[name]
			if f.t.Binding != "" && f.t.Ref != identityRef && reason != target.AttentionPaused {
				unready[bindingKey(f.t.Ref.Kind, f.t.Binding)] = true
			}
			if i >= maxListed {
				o.note = "attention lists the first 100 targets per reason"
				continue
			}
			o.attention = append(o.attention, attentionEntry(f.t, reason, f.detail))
		}
		o.wrong[reason] = len(found)
	}
	o.rotating, o.ready = len(rotating), max(0, o.bindings-len(unready))
	return nil
}

// flagged is a target that needs a person.
type flagged struct {
	t      *target.State // empty if its state cannot be read
	detail string
}

// flaggedFor reads the targets that are marked for a reason, by name. A mark that the
// state does not bear out is dropped.
func (b *backend) flaggedFor(ctx context.Context, reason string) (map[string]flagged, error) {
	marked, err := markedFor(ctx, b.store, reason)
	if err != nil {
		return nil, err
	}
	found := map[string]flagged{}
	for _, name := range marked {
		t, err := readStateNamed(ctx, b.store, name)
		switch {
		case store.Unreadable(err):
			found[name] = flagged{&target.State{}, err.Error()}
		case err != nil:
			return nil, err
		case t == nil || t.Problems()[reason] == "":
			b.dropStrayMark(ctx, name, reason) // passed since, or a write of the state died after the mark's
		default:
			found[name] = flagged{t, t.Problems()[reason]}
		}
	}
	return found, nil
}

// dropStrayMark removes a mark for attention that the target's state does not
// know of. Under the target's lock nobody is about to write that state.
func (b *backend) dropStrayMark(ctx context.Context, name, reason string) {
	release, err := b.locks.TryLock(targetPrefix + name)
	if err != nil {
		return
	}
	defer release()
	if !b.WriteSafeReplicationState() || b.store.InDoubt(stateNamed(name)) {
		return // Vault may still carry out a write of a state that relies on it
	}
	t, err := readStateNamed(ctx, b.store, name)
	if err != nil || t != nil && t.Problems()[reason] != "" {
		return
	}
	_ = b.store.Remove(ctx, markKey(reason, name)) // the next status tries again
}

// attentionEntry is a target as status lists it.
func attentionEntry(t *target.State, reason, detail string) map[string]any {
	ids := []string{}
	if reason == target.AttentionRetiring {
		for _, r := range t.Retire {
			if r.Failures > 0 {
				ids = append(ids, r.CredentialID)
			}
		}
	}
	return map[string]any{
		"kind": string(t.Ref.Kind), "app_id": t.Ref.AppID, "connector_id": t.Ref.ConnectorID, "decoy_id": t.Ref.DecoyID,
		"binding": t.Binding, "reason": reason, "detail": detail, "credential_ids": ids,
	}
}

// openAttempts finds the rotations that have no outcome yet, from the due entries
// that each of them wrote: those that may be running, and those that are not any
// more, which are about to be marked. Both are by name.
func (b *backend) openAttempts(ctx context.Context, cfg *config) (rotating []string, unsettled map[string]flagged, err error) {
	if cfg == nil {
		return nil, nil, nil
	}
	now := b.now()
	names, err := b.agenda.Planned(ctx, now.Add(cfg.settleTime()), 10*maxListed)
	if err != nil {
		return nil, nil, err
	}
	unsettled = map[string]flagged{}
	for _, name := range names {
		t, err := readStateNamed(ctx, b.store, name)
		switch {
		case store.Unreadable(err):
			unsettled[name] = flagged{&target.State{}, err.Error()}
		case err != nil:
			return nil, nil, err
		case t == nil || t.Attempt == nil:
		case t.Ambiguity(now) != "":
			unsettled[name] = flagged{t, t.Ambiguity(now)}
		default:
			rotating = append(rotating, name)
		}
	}
	return rotating, unsettled, nil
}
