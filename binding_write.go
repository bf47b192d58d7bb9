// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/input"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// writeBinding creates or updates a binding. It looks the target up at C1, and
// rotates nothing but the target of a binding that comes to be scheduled.
func (b *backend) writeBinding(ctx context.Context, req *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	name := d.Get("name").(string)
	if _, ok := d.GetOk("revoke"); ok {
		return nil, refuse("revoke goes with a delete")
	}
	unlock, err := b.lockBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer unlock()

	stored, err := readBinding(ctx, b.store, k, name)
	if err != nil {
		return nil, err
	}
	if req.Operation == logical.PatchOperation {
		if stored == nil {
			return nil, failWith(http.StatusNotFound, "no %s is bound as %q: a patch does not create one", k, name)
		}
		input.PatchPairs(d, "metadata", stored.Metadata)
	}
	bind, err := mergeBinding(stored, d, k)
	if err != nil {
		return nil, err
	}
	w := &bindingWrite{
		name: name, stored: stored, bind: bind, skipInitial: d.Get("skip_initial_rotation").(bool), resp: &logical.Response{},
	}
	if w.session, err = b.session(ctx); err != nil {
		return nil, err
	}
	if d.Get("verify").(bool) {
		if err := b.verifyBinding(ctx, w); err != nil {
			return nil, err
		}
	}
	t, err := b.storeBinding(ctx, w)
	if err != nil {
		return nil, err
	}
	if limit := b.System().MaxLeaseTTL(); max(bind.TTL, bind.MaxTTL) > limit {
		w.resp.AddWarning(fmt.Sprintf("ttl or max_ttl is longer than the mount's maximum of %s, which applies", limit))
	}
	if bind.scheduled() {
		return b.scheduledAnswer(ctx, w, t, originOf(req))
	}
	if len(w.resp.Warnings) == 0 {
		return nil, nil // the CLI then says that it was written
	}
	return w.resp, nil
}

// scheduledAnswer rotates what has just come to be scheduled, and answers the write.
func (b *backend) scheduledAnswer(ctx context.Context, w *bindingWrite, t *target.State, asked target.Origin) (*logical.Response, error) {
	if w.comesToBeScheduled() && !w.skipInitial {
		var err error
		asked.Reason = target.ReasonInitial
		if t, err = b.rotateFirst(ctx, w, asked); err != nil {
			return nil, err
		}
	}
	w.resp.Data = map[string]any{"version": 0, "next_rotation": rfc3339(t.RotationAt())}
	if t.HasMaterial() {
		w.resp.Data["version"] = t.Version
		if _, err := w.bind.shown(t.Current.Material); err != nil { // who did not verify learns it now
			w.resp.AddWarning(err.Error())
		}
	}
	return w.resp, nil
}

// bindingWrite is one write of a binding that was checked.
type bindingWrite struct {
	session     *session
	name        string
	stored      *binding // as it was; nil if it is new
	bind        *binding
	decoy       *c1api.Decoy // as C1 shows it, if it was looked up
	skipInitial bool
	resp        *logical.Response
}

func (w *bindingWrite) wasScheduled() bool { return w.stored != nil && w.stored.scheduled() }

func (w *bindingWrite) comesToBeScheduled() bool { return w.bind.scheduled() && !w.wasScheduled() }

// storeBinding stores the binding and what it means for its target, which it
// returns. Whatever the process dies between, settle finds a state whose
// binding says something else, and puts it right.
func (b *backend) storeBinding(ctx context.Context, w *bindingWrite) (*target.State, error) {
	t, err := b.takeTurn(ctx, w.bind.Ref)
	if err != nil {
		return nil, err
	}
	defer t.release()
	next, err := t.claim(ctx, w)
	if err != nil {
		return nil, err
	}
	store := func() error {
		return storedBinding.Write(ctx, b.store, bindingKey(w.bind.Ref.Kind, w.name), w.bind)
	}
	now, every := b.now(), w.session.config.checkEvery(w.bind)
	if w.bind.scheduled() {
		next = planSchedule(next, w, now).LookReplanned(now, every)
		return next, inTurn(func() error { return t.save(ctx, next) }, store)
	}
	if next.Scheduled {
		if err := store(); err != nil {
			return nil, err
		}
		if next.HasMaterial() {
			w.resp.AddWarning(fmt.Sprintf("the stored material of version %d is removed from Vault; the credential itself stays alive at C1 until a rotation ends it there", next.Version))
		}
		next = next.Unscheduled().LookReplanned(now, every)
		return next, t.save(ctx, next)
	}
	if next = next.LookReplanned(now, every); next != t.state {
		if err := t.save(ctx, next); err != nil {
			return nil, err
		}
	}
	return next, store()
}

// planSchedule makes the target one that the clock rotates, or applies a
// schedule that has changed.
func planSchedule(t *target.State, w *bindingWrite, now time.Time) *target.State {
	schedule := w.bind.Schedule
	switch {
	case !t.Scheduled || w.comesToBeScheduled():
		if n := len(t.Retire); n > 0 {
			w.resp.AddWarning(fmt.Sprintf("%d leased credential(s) of %s end with their leases, if a rotation does not end them sooner", n, t.Ref))
		}
		first := time.Time{}
		if !w.skipInitial {
			first = now.Add(w.session.config.settleTime()) // should we die before we have rotated it
		}
		return t.ComesToBeScheduled(now, schedule, first)
	case schedule != w.stored.Schedule:
		t = t.Rescheduled(now, schedule)
	}
	return t.Hurried(now) // the write may be what it waited for
}

// rotateFirst rotates a target whose binding has just come to be scheduled. If
// C1 definitely did not, the binding is as it was before.
func (b *backend) rotateFirst(ctx context.Context, w *bindingWrite, asked target.Origin) (*target.State, error) {
	r, err := b.rotateKept(ctx, w.bind.Ref, w.name, asked)
	if err == nil {
		return r.t, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	status := http.StatusInternalServerError
	if u, ok := errors.AsType[*userError](err); ok {
		status = u.status
	}
	if status == statusOutcomeUnknown {
		return nil, failWith(status, "the binding is stored: %s", err)
	}
	if undo := b.undoBinding(ctx, w); undo != nil {
		return nil, failWith(status, "the binding is stored, since the write could not be undone (%s), and the engine rotates it at its next try: %s", undo, err)
	}
	return nil, failWith(status, "the binding was not stored: %s", err)
}

// undoBinding puts back what was there before the write.
func (b *backend) undoBinding(ctx context.Context, w *bindingWrite) error {
	k := w.bind.Ref.Kind
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return b.change(ctx, w.bind.Ref, func(t *turn) (*target.State, error) {
		next := t.state.Unscheduled()
		if w.stored != nil {
			return next, storedBinding.Write(ctx, b.store, bindingKey(k, w.name), w.stored)
		}
		return next.Claimed("", next.Tenant, ""), b.store.Remove(ctx, bindingKey(k, w.name))
	})
}

// mergeBinding puts the given fields over the stored binding and checks the
// whole.
func mergeBinding(stored *binding, d *framework.FieldData, k target.Kind) (*binding, error) {
	bind := &binding{Ref: target.Ref{Kind: k}}
	if stored != nil {
		*bind = *stored
	}
	if err := mergeTarget(&bind.Ref, d, stored != nil); err != nil {
		return nil, err
	}
	set(d, "rotate_on", &bind.RotateOn)
	set(d, "annotate", &bind.Annotate)
	if v, ok := d.GetOk("metadata"); ok {
		bind.Metadata = v.(map[string]string)
		if err := validMetadata(bind.Metadata); err != nil {
			return nil, err
		}
	}
	err := cmp.Or(
		setDuration(d, "cooldown", &bind.Cooldown, 0, longestCooldown),
		setDuration(d, "wrap_ttl", &bind.WrapTTL, 0, longestWrapTTL),
		setDurationOrOff(d, "check_period", &bind.CheckPeriod, shortestDriftCheck, longestDriftCheck),
	)
	if err != nil {
		return nil, err
	}
	switch bind.RotateOn {
	case rotateOnRead, rotateOnWrite:
		bind.Schedule, bind.GracePeriod, bind.RefreshInterval = target.Schedule{}, 0, 0
		bind.Keys, bind.KeysPreset = nil, ""
		if err := refuseFields(d, bind.RotateOn, "rotation_period", "rotation_schedule", "rotation_window", "grace_period", "refresh_interval", "skip_initial_rotation", "keys", "keys_preset"); err != nil {
			return nil, err
		}
		return bind, mergeLease(bind, d)
	case rotateOnSchedule:
		bind.TTL, bind.MaxTTL, bind.OnLeaseEnd = 0, 0, ""
		if err := refuseFields(d, bind.RotateOn, "ttl", "max_ttl", "on_lease_end"); err != nil {
			return nil, err
		}
		if err := mergeKeys(bind, d); err != nil {
			return nil, err
		}
		return bind, mergeSchedule(bind, d)
	case "":
		return nil, refuse("rotate_on is required: `read` if every read may end the previous reader's credential, `write` if only a write may, `schedule` if the engine is to rotate it on a schedule for many readers")
	default:
		return nil, refuse("rotate_on must be `read`, `write` or `schedule`, not %q", clip(bind.RotateOn, 40))
	}
}

// refuseFields refuses fields that do not go with the binding's rotate_on.
// Naming one with its zero value says nothing and is fine.
func refuseFields(d *framework.FieldData, rotateOn string, names ...string) error {
	for _, name := range names {
		switch {
		case !named(d, name):
		case rotateOn == rotateOnSchedule:
			return refuse("%s goes with leases; a binding with rotate_on=schedule has none", name)
		default:
			return refuse("%s goes with rotate_on=schedule, not with rotate_on=%s", name, rotateOn)
		}
	}
	return nil
}

// mergeLease takes what goes with a lease.
func mergeLease(bind *binding, d *framework.FieldData) error {
	err := cmp.Or(
		setDuration(d, "ttl", &bind.TTL, 0, longestTTL),
		setDuration(d, "max_ttl", &bind.MaxTTL, 0, longestTTL),
	)
	if err != nil {
		return err
	}
	if bind.MaxTTL > 0 && bind.TTL > bind.MaxTTL {
		return refuse("ttl (%s) must not be longer than max_ttl (%s)", bind.TTL, bind.MaxTTL)
	}
	allowed := leaseEnds[bind.Ref.Kind]
	bind.OnLeaseEnd = cmp.Or(bind.OnLeaseEnd, allowed[0])
	set(d, "on_lease_end", &bind.OnLeaseEnd)
	if !slices.Contains(allowed, bind.OnLeaseEnd) {
		return refuse("on_lease_end of a %s must be %s, not %q", bind.Ref.Kind, strings.Join(allowed, " or "), bind.OnLeaseEnd)
	}
	return nil
}

// mergeSchedule takes what goes with rotate_on=schedule.
func mergeSchedule(bind *binding, d *framework.FieldData) error {
	err := setSchedule(d, &bind.Schedule, scheduleFields{
		period: "rotation_period", cron: "rotation_schedule", shortest: target.ShortestRotationPeriod, longest: longestRotationPeriod,
	})
	if err != nil {
		return err
	}
	err = cmp.Or(
		mergeWindow(bind, d),
		setDuration(d, "grace_period", &bind.GracePeriod, 0, longestRotationPeriod),
		setDurationOrOff(d, "refresh_interval", &bind.RefreshInterval, time.Second, longestRotationPeriod),
	)
	if err != nil {
		return err
	}
	if gap := shortestPeriod(bind.Schedule); bind.RefreshInterval > gap {
		return refuse("refresh_interval (%s) must not be longer than the shortest time between two rotations (%s)", bind.RefreshInterval, gap)
	}
	if p := bind.Schedule.Period; p > 0 && bind.Cooldown > p {
		return refuse("cooldown (%s) must not be longer than rotation_period (%s)", bind.Cooldown, p)
	}
	if p := bind.Schedule.Period; p > 0 && bind.GracePeriod/maxInGrace > p {
		return refuse("grace_period (%s) would keep more than %d credentials alive with a rotation_period of %s: shorten it", bind.GracePeriod, maxInGrace, p)
	}
	return nil
}

// mergeWindow takes how long after a cron turn the clock may rotate.
func mergeWindow(bind *binding, d *framework.FieldData) error {
	if bind.Schedule.Cron != "" {
		return setDurationOrOff(d, "rotation_window", &bind.Schedule.Window, shortestWindow, longestRotationPeriod)
	}
	bind.Schedule.Window = 0
	if named(d, "rotation_window") {
		return refuse("rotation_window goes with rotation_schedule: it begins at each of its scheduled times")
	}
	return nil
}

// shortestWindow is the least rotation_window that Vault takes.
const shortestWindow = time.Hour

// maxInGrace is how many credentials of one target may live in their grace
// period at the same time.
const maxInGrace = 100

// mergeTarget takes the IDs of the target, which a stored binding keeps.
func mergeTarget(ref *target.Ref, d *framework.FieldData, stored bool) error {
	for _, f := range []struct {
		name string
		id   *string
	}{{"app_id", &ref.AppID}, {"connector_id", &ref.ConnectorID}, {"decoy_id", &ref.DecoyID}} {
		if d.Schema[f.name] == nil {
			continue
		}
		v, given := d.GetOk(f.name)
		switch {
		case !given && stored:
			continue
		case !given || v.(string) == "":
			return refuse("%s is required: C1's ID for the %s", f.name, strings.TrimSuffix(f.name, "_id"))
		case stored && *f.id != v.(string):
			return refuse("%s is fixed for a binding's life: to point elsewhere, delete the binding and create it again", f.name)
		}
		if err := validID(f.name, v.(string)); err != nil {
			return err
		}
		*f.id = v.(string)
	}
	return nil
}

// verifyBinding looks the target up at C1 before its binding is stored, and checks the
// binding against what is there.
func (b *backend) verifyBinding(ctx context.Context, w *bindingWrite) error {
	decoy, warning, err := b.lookUpTarget(ctx, w.session, w.bind.Ref)
	if err != nil {
		e := fromC1(err)
		return failWith(e.status, "the binding was not stored: %s (verify=false stores it unchecked)", e.message)
	}
	if warning != "" {
		w.resp.AddWarning(warning)
	}
	if w.decoy = decoy; decoy != nil {
		return w.bind.keysFit(materialTypeOf(decoy.Kind))
	}
	return nil
}

// claim makes the binding the target's only one in this mount, and returns the state,
// which it does not store.
func (t *turn) claim(ctx context.Context, w *bindingWrite) (*target.State, error) {
	ref, tenant, state := w.bind.Ref, w.session.config.tenant(), t.state
	if state == nil {
		state = newState(ref)
	}
	state = t.noteDecoy(ctx, state, w.decoy)
	if state.Binding == w.name && state.Tenant == tenant {
		return state, nil
	}
	if state.Binding != "" && state.Binding != w.name {
		// A crash may have left a claim without its binding.
		other, err := t.boundAs(ctx, ref, state.Binding)
		if err != nil {
			return nil, err
		}
		if other != nil {
			bindings, _ := pathsOf(ref.Kind)
			return nil, refuse("%s is bound already, as %s/%s: two bindings would end each other's credentials", ref, bindings, state.Binding)
		}
	}
	baseline := ""
	if w.decoy != nil {
		baseline = w.decoy.FingerprintSHA256
	}
	return state.Claimed(w.name, tenant, baseline), nil
}
