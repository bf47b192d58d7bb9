// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-uuid"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// order is one rotation that is asked for.
type order struct {
	unprintable
	session *session
	origin  target.Origin
	// bind is the binding under which it is rotated; nil when there is none.
	bind     *binding
	cooldown time.Duration
	// byClock: nobody asked and nobody waits.
	byClock bool
	// outcome is recorded on success: OutcomeIssued, OutcomeStored or
	// OutcomeDiscarded.
	outcome string
	// own is what C1 shows of the mount's identity before that is rotated.
	own *ownCredentials
	// shared is the rotation that callers may join until C1 has answered; nil
	// with a lease.
	shared *sharedRotation
}

// leased reports whether one caller is to own the material.
func (o *order) leased() bool { return o.outcome == target.OutcomeIssued }

// keeps reports whether the material is kept for the readers of a scheduled binding.
func (o *order) keeps() bool { return o.bind != nil && o.bind.scheduled() }

// rotate carries out one rotation: intent on record, C1, fact on record. It writes in
// two rounds: the attempt with its due entry, then the outcome with the fingerprint's
// pointer.
//
// ctx is the caller's. Once the attempt is stored, a caller who hangs up does
// not stop anything; who has gone by the end gets no lease, so what was minted
// is ended at once.
func (t *turn) rotate(ctx context.Context, o *order) (*material, error) {
	if err := t.refuseRepeat(ctx, o); err != nil {
		return nil, err
	}
	if err := t.refuseTooSoon(ctx, o); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	before := t.state
	began, err := t.begin(ctx, o)
	if err != nil {
		// Half of the round may be stored: an attempt that never reached C1.
		_ = t.storeOutcome(ctx, before)
		return nil, err
	}
	call, cancel := o.session.bound(context.WithoutCancel(ctx))
	defer cancel()
	m, err := t.kindOf(t.ref).rotate(call, t, o)
	open := t.joined(o)
	var useless *userError // what C1 made
	switch {
	case errors.As(err, &useless):
		return nil, t.refused(ctx, o, before, open.Attempt.Origin, err)
	case err != nil && c1api.OutcomeUnknown(err):
		return nil, t.outcomeUnknown(ctx, o, open, err)
	case err != nil:
		return nil, t.refused(ctx, o, before, open.Attempt.Origin, err)
	}
	m.lease = began.lease
	tainted := false
	err = parallel(
		func() error { return t.succeeded(ctx, o, open, began.dueMinute, m) },
		func() error { tainted = o.leased() && t.System().Tainted(); return nil },
	)
	if err != nil {
		return nil, err
	}
	m.Warnings = append(m.Warnings, t.annotate(ctx, o, open.Attempt.Placement)...)
	if !o.byClock {
		t.agenda.Reached() // what waits for C1 need not wait for a probe
	}
	switch {
	case !o.leased():
	case ctx.Err() != nil:
		t.undelivered(ctx, o.session, open.Newest)
		return nil, ctx.Err()
	case tainted:
		// Vault has revoked the mount's leases already, or is about to forget
		// the one that it would make of this.
		t.undelivered(ctx, o.session, open.Newest)
		return nil, failWith(http.StatusBadGateway, "this mount is being disabled: the engine is ending the new credential")
	}
	return m, nil
}

// refuseRepeat recognises a request that Vault re-sent after a plugin died: it
// must not rotate again, since its first run may have.
func (t *turn) refuseRepeat(ctx context.Context, o *order) error {
	id := o.origin.RequestID
	if a := t.state.Attempt; a != nil && id != "" && a.RequestID == id {
		return failWith(statusOutcomeUnknown,
			"outcome unknown: this request was already sent to C1 for %s and its answer was lost; another request rotates again and settles it", t.ref)
	}
	rec, err := t.recordOfRequest(ctx, id)
	if err != nil || rec == nil || rec.Outcome == target.OutcomeFailed {
		return err
	}
	if rec.Outcome == target.OutcomeIssued {
		t.endIssued(ctx, o.session, rec)
	}
	return failWith(statusOutcomeUnknown,
		"this request was already sent to C1 for %s (%s) and its answer was lost; another request rotates again", t.ref, rec.Outcome)
}

// recordOfRequest returns the newest record of a Vault request, or nil.
func (t *turn) recordOfRequest(ctx context.Context, id string) (*target.Record, error) {
	if !t.state.Requests.MayHave(id) {
		return nil, nil
	}
	for rec, err := range t.history().all(ctx) {
		if err != nil || rec.RequestID == id {
			return rec, err
		}
	}
	return nil, nil
}

func (t *turn) refuseTooSoon(ctx context.Context, o *order) error {
	s := t.state
	switch {
	case !s.Full():
	case o.leased() && o.bind.OnLeaseEnd != leaseEndKeep:
		return failWith(http.StatusTooManyRequests,
			"%s has %d live leases, the most one target can have: revoke leases or shorten max_ttl", t.ref, len(s.Retire))
	case o.keeps() && o.bind.GracePeriod > 0:
		return failWith(http.StatusTooManyRequests,
			"%s has %d credentials whose end is planned, the most one target can have: shorten grace_period", t.ref, len(s.Retire))
	}
	// An unknown outcome heals by the next rotation, which must not have to wait.
	if o.cooldown <= 0 || s.Current == nil || s.Attempt != nil {
		return nil
	}
	now, next := t.now(), s.Current.RotatedAt.Add(o.cooldown)
	if !now.Before(next) {
		return nil
	}
	// Nor must somebody wait while nobody holds anything that is alive, because the
	// caller of the last rotation had gone.
	if s.Current.Undelivered && !t.heldAlive(ctx, o.session) {
		return nil
	}
	return failWith(http.StatusTooManyRequests, "%s is cooling down after its last rotation: the next one is allowed in %s, at %s",
		t.ref, next.Sub(now).Round(time.Second), rfc3339(next))
}

// heldAlive reports whether somebody may hold a credential that is alive although
// a rotation that nobody was given followed. C1 decides: it may have ended the one
// before, or not. A rotation of a decoy makes all copies before it stale.
func (t *turn) heldAlive(ctx context.Context, s *session) bool {
	for rec, err := range t.history().all(ctx) {
		if err != nil {
			return true
		}
		if !rec.HandedOut() || !rec.EndedAt.IsZero() || rec.CredentialID == "" {
			continue
		}
		ctx, cancel := s.bound(ctx)
		defer cancel()
		found, err := s.client.ConnectorCredentialExistence(ctx, t.ref.AppID, t.ref.ConnectorID, rec.CredentialID)
		return err != nil || !found.Gone
	}
	return false
}

// begun is what begin leaves for the outcome.
type begun struct {
	lease     leaseTimes
	dueMinute int64 // of the entry that was written for the attempt
}

// begin stores the attempt and the due entry that will settle it, in one round. What
// the lease's times depend on is asked of Vault beside.
func (t *turn) begin(ctx context.Context, o *order) (*begun, error) {
	id, err := uuid.GenerateUUID()
	if err != nil {
		return nil, err
	}
	asked, now := o.origin, t.now()
	asked.ID, asked.StartedAt, asked.Binding = id, now, t.state.Binding
	next := t.state.Begin(asked, now.Add(o.session.config.settleTime()))
	made := &begun{}

	stored, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	due := func() (err error) {
		made.dueMinute, err = t.agenda.Enter(stored, t.name, next.Attempt.NextTry)
		return err
	}
	state := func() error { return t.write(stored, next) }
	round := []func() error{due, state}
	if o.keeps() {
		round = []func() error{func() error { return inTurn(due, state) }}
	} // else a caller waits. Should only the state be written, C1 was not asked,
	// and the next read of the binding asks for the look.
	if o.leased() {
		round = append(round, func() (err error) { made.lease, err = t.leaseTimes(o.bind); return err })
	}
	if err := parallel(round...); err != nil {
		return nil, fmt.Errorf("nothing was sent to C1: storing the attempt: %w", err)
	}
	return made, nil
}

// joined lets nobody else share the rotation, and returns the state with the
// placements of all who joined.
func (t *turn) joined(o *order) *target.State {
	if o.shared == nil {
		return t.state
	}
	placement := t.state.Attempt.Placement
	for _, other := range t.shared.close(t.ref, o.shared) {
		placement = joinPlacements(placement, other)
	}
	return t.state.Placed(placement)
}

// refused records that C1 did not rotate. An older attempt that this one would have
// superseded is open again: its outcome is as unknown as before.
func (t *turn) refused(ctx context.Context, o *order, before *target.State, asked target.Origin, cause error) error {
	now := t.now()
	next := before.Refused(now, asked, cause.Error())
	if o.own != nil && o.own.orphan != "" {
		next = next.Orphaned(now, o.own.orphan)
	}
	if o.byClock && !concernsAll(cause) {
		next = next.Failed(now, o.session.terms(o.bind), cause.Error(), false)
	}
	t.announce(ctx, &target.Record{Origin: asked, Outcome: target.OutcomeFailed, FinishedAt: now, Error: cause.Error()})
	if err := t.storeOutcome(ctx, next); err != nil {
		t.Logger().Error("could not record a failed rotation; it shows as ambiguous until settled", "target", t.ref.String(), "error", err)
	}
	return t.kindOf(t.ref).refusal(cause)
}

// outcomeUnknown leaves the attempt open, marks it, and tells the caller.
func (t *turn) outcomeUnknown(ctx context.Context, o *order, open *target.State, cause error) error {
	t.announce(ctx, &target.Record{
		Origin: open.Attempt.Origin, Outcome: target.AttentionAmbiguous, FinishedAt: t.now(), Error: cause.Error(),
	})
	t.leaveOpen(ctx, o, open, cause.Error())
	return failWith(statusOutcomeUnknown,
		"outcome unknown: C1 may have rotated %s, and the material is lost (%s); %s; until then status shows it as ambiguous", t.ref, cause, t.kindOf(t.ref).heals(open, o.keeps())).because(cause)
}

// leaveOpen stores why the outcome of an attempt is unknown, and has somebody look once
// C1 can no longer commit it.
func (t *turn) leaveOpen(ctx context.Context, o *order, open *target.State, why string) {
	next := open.Unknown(why)
	if o.byClock {
		next = next.Failed(t.now(), o.session.terms(o.bind), why, true)
	}
	t.agenda.Hurry(t.name, next.Attempt.CommitBy)
	if err := t.storeOutcome(ctx, next); err != nil {
		t.Logger().Error("could not mark an unknown outcome; it is settled from the stored attempt", "target", t.ref.String(), "error", err)
	}
}

// outcome is that of a rotation that C1 carried out.
type outcome struct {
	open          *target.State // before
	next          *target.State
	attemptMinute int64 // of the due entry that was written for the attempt
	material      *material
}

// succeeded stores the outcome of a rotation that C1 carried out.
func (t *turn) succeeded(ctx context.Context, o *order, open *target.State, attemptMinute int64, m *material) error {
	now := t.now()
	result := target.Result{
		Outcome: o.outcome, CredentialID: m.CredentialID, ClientID: m.ClientID, Fingerprint: m.Fingerprint,
		ExpiresAt: m.ExpiresAt, Drifted: m.Mismatch, Material: m.Data,
		Warning: clip(strings.Join(m.Warnings, "; "), maxLabelLength),
	}
	if o.leased() && o.bind.OnLeaseEnd != leaseEndKeep {
		result.EndsAt = now.Add(m.lease.capped(now, m.ExpiresAt).maxTTL + retireSlack)
	}
	next := t.noteDecoy(ctx, open, m.Decoy).Succeeded(now, o.session.terms(o.bind), result)
	return t.kindOf(t.ref).store(ctx, t, o, &outcome{open: open, next: next, attemptMinute: attemptMinute, material: m})
}

// store stores the outcome for the readers of a scheduled binding, or for the one caller
// that a lease is for.
func (bindable) store(ctx context.Context, t *turn, o *order, made *outcome) error {
	next := made.next
	if o.keeps() {
		if err := t.storeKept(ctx, next, made.attemptMinute); err != nil {
			return t.holdUntilStored(ctx, o, next, made.attemptMinute, err)
		}
		t.announce(ctx, next.Newest)
		return nil
	}
	keys := currentKeys(next)
	first := min(1, len(keys)) // the rest is written behind the answer
	t.left.unindexed = keys[first:]
	if err := t.storeOutcome(ctx, next, func(ctx context.Context) error { return t.writeIndex(ctx, next, keys[:first]) }); err != nil {
		t.tally.rotated(t.ref.Kind, next.Newest.Reason, target.AttentionAmbiguous)
		t.abandon(ctx, o, next)
		return failWith(statusOutcomeUnknown,
			"outcome not stored: C1 rotated %s, and Vault's storage refused the result (%s); the engine is ending the new credential, rotate again", t.ref, err)
	}
	t.announce(ctx, next.Newest)
	return nil
}

// abandon ends a credential whose rotation could not be stored. Storage most
// likely still holds the open attempt, so the target shows as ambiguous.
func (t *turn) abandon(ctx context.Context, o *order, next *target.State) {
	next = next.Undelivered(t.now())
	ended, err := t.kindOf(t.ref).endUnused(context.WithoutCancel(ctx), t, o.session, next.Current.CredentialID)
	if err != nil {
		t.Logger().Error("a credential that could not be stored could not be ended either; end it at C1",
			"target", t.ref.String(), "credential_id", next.Current.CredentialID, "error", err)
		return
	}
	if ended {
		next = next.Retired(t.now(), next.Version, nil)
	}
	_ = t.storeOutcome(ctx, next)
}

// undelivered ends what was minted for a caller who is not there any more. before is
// the record before.
func (t *turn) undelivered(ctx context.Context, s *session, before *target.Record) {
	ctx = context.WithoutCancel(ctx)
	next := t.state.Undelivered(t.now())
	t.announce(ctx, next.Newest)
	ended, err := t.kindOf(t.ref).endUnused(ctx, t, s, next.Current.CredentialID)
	if ended || err != nil {
		next = next.Retired(t.now(), next.Version, err)
	}
	if err := t.save(ctx, next.Folded(before)); err != nil {
		t.Logger().Error("could not record an undelivered credential; it ends with its planned retirement",
			"target", t.ref.String(), "version", next.Version, "error", err)
	}
}

// endIssued ends what was issued to a request whose answer was lost.
func (t *turn) endIssued(ctx context.Context, s *session, rec *target.Record) {
	if newest := t.state.Newest; newest.Version == rec.Version {
		t.undelivered(ctx, s, nil)
		return
	}
	// Others have rotated it since: its end is planned for now.
	end := target.Retirement{Version: rec.Version, Binding: rec.Binding, CredentialID: rec.CredentialID, At: t.now()}
	next := t.state.Planned(end).Hastened(t.now(), func(r target.Retirement) bool { return r.Version == rec.Version })
	err := t.amend(ctx, rec.Version, func(r *target.Record) { r.Outcome = target.OutcomeUndelivered })
	if err == nil {
		err = t.save(ctx, next)
	}
	if err != nil {
		t.Logger().Error("could not end an undelivered credential; it ends with its planned retirement",
			"target", t.ref.String(), "version", rec.Version, "error", err)
	}
}
