// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

const (
	// storeTries is how often an outcome is written before it is given up: the
	// material exists nowhere else.
	storeTries = 3
	// storeTimeout bounds one round of storage writes of a rotation.
	storeTimeout = 10 * time.Second
)

// material is what C1 shows once, in the form in which it is vended.
type material struct {
	CredentialID string
	ClientID     string
	ExpiresAt    time.Time
	Fingerprint  string // of the secret we hold; "" when there is none
	Mismatch     string // how it differs from what C1 shows; "" when it does not
	Warnings     []string
	Data         map[string]any // the vended fields but for the version
	Decoy        *c1api.Decoy   // as C1 shows it beside the material; may be nil
}

// rotation is one order to rotate a target.
type rotation struct {
	session  *session
	target   *target // as read under the target's lock
	origin   origin
	cooldown time.Duration
	// check is what else must be known before C1 is asked, and takes a call to
	// Vault: it goes beside the attempt's writes. May be nil.
	check func() error
	// plan returns the end to record for the new credential, or nil; zero
	// Version and IDs are filled in.
	plan func(now time.Time, m *material) *retirement
	// bind is the binding under which it is rotated; nil when there is none.
	bind *binding
	// byClock: nobody asked and nobody waits.
	byClock bool
	// held is told the error when material cannot be stored and is held until
	// it can, so that nobody has to wait for that. May be nil.
	held func(error)
	// answered is told when C1 has answered, before its answer is recorded. May
	// be nil.
	answered func(*attempt)
	// outcome is recorded on success: outcomeIssued, outcomeStored or
	// outcomeDiscarded.
	outcome string
}

// stores reports whether the material is kept for the readers of a scheduled
// binding; if not, whoever asked owns it.
func (r *rotation) stores() bool { return r.bind != nil && r.bind.scheduled() }

// rotate carries out one rotation under the target's lock, which the caller
// holds: intent on record, C1, fact on record. It writes in two rounds: the
// attempt with its due entry, then the outcome with the fingerprint's pointer.
//
// ctx is the caller's. Once the attempt is stored, a caller who hangs up does
// not stop anything; who has gone by the end gets no lease, so what was minted
// is ended at once.
func (b *backend) rotate(ctx context.Context, r rotation) (*material, error) {
	t := r.target
	if err := b.refuseRepeat(ctx, r); err != nil {
		return nil, err
	}
	if err := b.refuseTooSoon(ctx, r); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	before := *t
	if err := b.begin(ctx, r); err != nil {
		// Half of the round may be stored: an attempt that never reached C1, and
		// with it went the mark of an older one.
		before.Attention = t.Attention
		_ = b.storeOutcome(ctx, &before)
		return nil, err
	}

	call, cancel := r.session.bound(context.WithoutCancel(ctx))
	defer cancel()
	m, err := b.callC1(call, r.session.client, t)
	if r.answered != nil {
		r.answered(t.Attempt)
	}
	switch {
	case err != nil && c1api.OutcomeUnknown(err):
		return nil, b.outcomeUnknown(ctx, r, err)
	case err != nil:
		return nil, b.definitelyFailed(ctx, r, before, err)
	}
	tainted := false
	err = parallel(
		func() error { return b.finish(ctx, r, m) },
		func() error { tainted = r.outcome == outcomeIssued && b.System().Tainted(); return nil },
	)
	if err != nil {
		return nil, err
	}
	m.Warnings = append(m.Warnings, b.annotate(ctx, r)...)
	if !r.byClock {
		b.agenda.Reached() // what waits for C1 need not wait for a probe
	}
	switch {
	case r.outcome != outcomeIssued:
	case ctx.Err() != nil:
		b.undelivered(ctx, r.session, t, t.Version)
		return nil, ctx.Err()
	case tainted:
		// Vault has revoked the mount's leases already, or is about to forget
		// the one that it would make of this.
		b.undelivered(ctx, r.session, t, t.Version)
		return nil, failWith(http.StatusBadGateway, "this mount is being disabled: what was minted is being ended")
	}
	return m, nil
}

// refuseRepeat recognises a request that Vault re-sent after a plugin died: it
// must not rotate again, since its first run may have.
func (b *backend) refuseRepeat(ctx context.Context, r rotation) error {
	t, id := r.target, r.origin.RequestID
	if id == "" {
		return nil
	}
	if t.Attempt != nil && t.Attempt.RequestID == id {
		return failWith(statusOutcomeUnknown,
			"outcome unknown: this request was already sent to C1 for %s and its answer was lost; another request rotates again and settles it", t.Ref)
	}
	rec := t.recordOfRequest(id)
	if rec == nil || rec.Outcome == outcomeFailed {
		return nil
	}
	if rec.Outcome == outcomeIssued {
		b.undelivered(ctx, r.session, t, rec.Version)
	}
	return failWith(statusOutcomeUnknown,
		"this request was already sent to C1 for %s (%s) and its answer was lost; another request rotates again", t.Ref, rec.Outcome)
}

func (b *backend) refuseTooSoon(ctx context.Context, r rotation) error {
	t := r.target
	switch full := len(t.Retire) >= maxPendingRetirements; {
	case full && r.plan != nil:
		return failWith(http.StatusTooManyRequests,
			"%s has %d live leases, the most one target can have: revoke leases or shorten max_ttl", t.Ref, len(t.Retire))
	case full && r.stores() && r.bind.GracePeriod > 0:
		return failWith(http.StatusTooManyRequests,
			"%s has %d credentials whose end is planned, the most one target can have: shorten grace_period", t.Ref, len(t.Retire))
	}
	// An unknown outcome heals by the next rotation, which must not have to wait.
	if r.cooldown <= 0 || t.Current == nil || t.Attempt != nil {
		return nil
	}
	now, next := b.now(), t.Current.RotatedAt.Add(r.cooldown)
	if !now.Before(next) {
		return nil
	}
	// Nor must somebody wait while nobody holds anything that is alive, because the
	// caller of the last rotation had gone.
	if rec := t.recordOf(t.Version); rec != nil && rec.Outcome == outcomeUndelivered && !b.heldAlive(ctx, r.session, t) {
		return nil
	}
	return failWith(http.StatusTooManyRequests, "%s is cooling down after its last rotation: the next one is allowed in %s, at %s",
		t.Ref, next.Sub(now).Round(time.Second), rfc3339(next))
}

// heldAlive reports whether somebody may hold a credential that is alive although
// a rotation that nobody was given followed. C1 decides: it may have ended the one
// before, or not. A rotation of a decoy makes all copies before it stale.
func (b *backend) heldAlive(ctx context.Context, s *session, t *target) bool {
	for _, rec := range slices.Backward(t.Records) {
		if !rec.handedOut() || !rec.EndedAt.IsZero() || rec.CredentialID == "" {
			continue
		}
		ctx, cancel := s.bound(ctx)
		defer cancel()
		found, err := s.client.ConnectorCredentialExistence(ctx, t.Ref.AppID, t.Ref.ConnectorID, rec.CredentialID)
		return err != nil || !found.Gone
	}
	return false
}

// begin stores the attempt and the due entry that will settle it, in one round.
// An older open attempt is superseded, on record.
func (b *backend) begin(ctx context.Context, r rotation) error {
	id, err := uuid.GenerateUUID()
	if err != nil {
		return err
	}
	t, now := r.target, b.now()
	a := &attempt{origin: r.origin, SettleAt: now.Add(r.session.config.settleTime())}
	a.ID, a.StartedAt, a.Binding = id, now, t.Binding
	if open := t.Attempt; open != nil {
		t.addRecord(record{origin: open.origin, Outcome: outcomeSuperseded, FinishedAt: now, Error: open.Unknown})
		a.Supersedes = true
		t.LateUntil = later(open.SettleAt, t.LateUntil)
	}
	t.Attempt = a

	store, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	name, err := b.nameOf(store, t.Ref)
	if err != nil {
		return fmt.Errorf("nothing was sent to C1: %w", err)
	}
	var minute int64
	due := func() (err error) {
		minute, err = b.agenda.Enter(store, name, a.SettleAt)
		return err
	}
	state := func() error { return writeTarget(store, b.store, t) }
	round := []func() error{due, state}
	if r.stores() {
		round = []func() error{func() error { return inTurn(due, state) }}
	} // else a caller waits. Should only the state be written, C1 was not asked,
	// and the next read of the binding asks for the look.
	if r.check != nil {
		round = append(round, r.check)
	}
	err = parallel(round...)
	if err != nil {
		return fmt.Errorf("nothing was sent to C1: storing the attempt: %w", err)
	}
	a.dueMinute = minute
	return nil
}

// definitelyFailed records that C1 did not rotate. An older attempt that this
// one would have superseded is open again: its outcome is as unknown as before.
func (b *backend) definitelyFailed(ctx context.Context, r rotation, before target, cause error) error {
	t, now := r.target, b.now()
	failed := record{origin: t.Attempt.origin, Outcome: outcomeFailed, FinishedAt: now, Error: cause.Error()}
	t.Attempt, t.Records, t.Forgotten, t.pruned = before.Attempt, before.Records, before.Forgotten, nil // what begin pushed out is back
	t.addRecord(failed)
	if r.byClock && !concernsAll(cause) {
		t.troubled(r.session.config, now, cause)
	}
	b.announce(ctx, t, failed)
	if err := b.storeOutcome(ctx, t); err != nil {
		b.Logger().Error("could not record a failed rotation; it shows as ambiguous until settled", "target", t.Ref.String(), "error", err)
	}
	return fromC1(cause)
}

// outcomeUnknown leaves the attempt open, marks it, and tells the caller.
func (b *backend) outcomeUnknown(ctx context.Context, r rotation, cause error) error {
	t, heals := r.target, "rotating again settles it"
	t.Attempt.Unknown = cause.Error()
	if r.byClock {
		t.troubled(r.session.config, b.now(), cause)
	}
	if r.stores() {
		heals = "it is rotated again at " + rfc3339(t.Attempt.SettleAt) + ", or sooner if somebody asks for it"
	}
	b.announce(ctx, t, record{origin: t.Attempt.origin, Outcome: attentionAmbiguous, FinishedAt: b.now(), Error: cause.Error()})
	if name, err := b.nameOf(ctx, t.Ref); err == nil {
		b.agenda.Hurry(name, t.Attempt.SettleAt)
	}
	if err := b.storeOutcome(ctx, t); err != nil {
		b.Logger().Error("could not mark an unknown outcome; it is settled from the stored attempt", "target", t.Ref.String(), "error", err)
	}
	return failWith(statusOutcomeUnknown,
		"outcome unknown: C1 may have rotated %s, and the material is lost (%s); %s, until then status shows it as ambiguous", t.Ref, cause, heals).because(cause)
}

// finish stores the outcome of a rotation that C1 carried out.
func (b *backend) finish(ctx context.Context, r rotation, m *material) error {
	t, now := r.target, b.now()
	t.Version++
	done := record{
		origin: t.Attempt.origin, Version: t.Version, Outcome: r.outcome, FinishedAt: now,
		CredentialID: m.CredentialID, ClientID: m.ClientID, Fingerprint: m.Fingerprint,
		ExpiresAt: m.ExpiresAt, Warning: clip(strings.Join(m.Warnings, "; "), maxLabelLength),
	}
	if r.plan != nil {
		if end := r.plan(now, m); end != nil {
			end.Version, end.CredentialID = t.Version, m.CredentialID
			t.Retire = append(t.Retire, *end)
			done.EndsAt = end.At
		}
	}
	attempt, previous := t.Attempt, t.Current
	t.VerifyAt, t.FollowsUnknown = time.Time{}, t.Attempt.Supersedes || now.Before(t.LateUntil)
	if t.FollowsUnknown {
		t.VerifyAt = later(t.LateUntil, now.Add(r.session.config.settleTime()))
	}
	t.Attempt, t.Trouble = nil, nil
	t.Current = &credential{
		CredentialID: m.CredentialID, ClientID: m.ClientID, Fingerprint: m.Fingerprint,
		RotatedAt: now, ExpiresAt: m.ExpiresAt, Drifted: m.Mismatch,
	}
	t.addRecord(done)
	b.noteDecoy(ctx, t, m.Decoy)
	if r.stores() {
		t.keep(r.bind, r.session.config, m, previous)
		if err := b.storeKept(ctx, t, attempt); err != nil {
			return b.holdUntilStored(ctx, r, attempt, err)
		}
	} else {
		t.unschedule()
		t.planCheck(r.session.config.checkEvery(r.bind), now)
		keys := t.recordOf(t.Version).indexKeys()
		first := min(1, len(keys)) // the rest is written behind the answer
		t.unindexed = keys[first:]
		if err := b.storeOutcome(ctx, t, func(ctx context.Context) error { return b.writeIndex(ctx, t, keys[:first]) }); err != nil {
			b.abandon(ctx, r, m)
			return failWith(statusOutcomeUnknown,
				"outcome not stored: C1 rotated %s, and Vault's storage refused the result (%s); what was minted is being ended, rotate again", t.Ref, err)
		}
	}
	b.announce(ctx, t, done)
	return nil
}

// storeKept stores the outcome for the readers of a scheduled binding. What
// they can read is known to lookup before, and so is when to look next. Then
// nobody needs to look on behalf of the attempt any more.
func (b *backend) storeKept(ctx context.Context, t *target, closed *attempt) error {
	store, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	name, err := b.nameOf(store, t.Ref)
	if err != nil {
		return err
	}
	var nextMinute int64
	writes := []func() error{func() (err error) {
		if next := t.nextLook(); !next.IsZero() {
			nextMinute, err = b.agenda.Put(store, name, next)
		}
		return err
	}}
	writes = append(writes, func() error { return b.writeIndex(store, t, t.recordOf(t.Version).indexKeys()) })
	err = parallel(writes...)
	if err == nil {
		err = b.storeOutcome(ctx, t)
	}
	if err == nil && nextMinute != closed.dueMinute {
		_ = b.agenda.Drop(store, closed.dueMinute, name) // if it stays it costs a look
	}
	return err
}

// storeOutcome writes what happened, again if storage fails: it cannot be
// asked for at C1 afterwards.
func (b *backend) storeOutcome(ctx context.Context, t *target, beside ...func(context.Context) error) error {
	var err error
	for range storeTries {
		store, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		err = writeTarget(store, b.store, t, beside...)
		cancel()
		if err == nil {
			b.behind(ctx, t)
			return nil
		}
	}
	return err
}

// abandon ends a credential whose rotation could not be stored. Storage most
// likely still holds the open attempt, so the target shows as ambiguous.
func (b *backend) abandon(ctx context.Context, r rotation, m *material) {
	t := r.target
	if t.Ref.Kind == kindConnector {
		if err := b.revokeAtC1(context.WithoutCancel(ctx), r.session, t.Ref, m.CredentialID); err != nil {
			b.Logger().Error("a credential that could not be stored could not be ended either; end it at C1",
				"target", t.Ref.String(), "credential_id", m.CredentialID, "error", err)
			return
		}
	}
	t.recordOf(t.Version).Outcome = outcomeUndelivered
	t.retired(t.Version, nil, b.now())
	_ = b.storeOutcome(ctx, t)
}

// undelivered ends what was minted for a caller who is not there any more.
func (b *backend) undelivered(ctx context.Context, s *session, t *target, version int) {
	ctx = context.WithoutCancel(ctx)
	rec := t.recordOf(version)
	if rec == nil {
		return
	}
	rec.Outcome = outcomeUndelivered
	b.announce(ctx, t, *rec)
	t.dropRetirement(version)
	if t.Ref.Kind == kindConnector {
		// on_lease_end=keep spares what somebody holds; this nobody does.
		t.Retire = append(t.Retire, retirement{Version: version, CredentialID: rec.CredentialID, At: b.now()})
		t.retired(version, b.revokeAtC1(ctx, s, t.Ref, rec.CredentialID), b.now())
	}
	t.foldNewest()
	if err := b.storeWithNextLook(ctx, t); err != nil {
		b.Logger().Error("could not record an undelivered credential; it ends with its planned retirement",
			"target", t.Ref.String(), "version", version, "error", err)
	}
}

// callC1 rotates and turns the answer into material, for either kind.
func (b *backend) callC1(ctx context.Context, client *c1api.Client, t *target) (*material, error) {
	if t.Ref.Kind == kindConnector {
		c, err := client.RotateConnectorCredential(ctx, t.Ref.AppID, t.Ref.ConnectorID)
		if err != nil {
			return nil, err
		}
		return connectorMaterial(t.Ref, c), nil
	}
	decoy, m, err := client.RotateDecoy(ctx, t.Ref.DecoyID)
	if err != nil {
		return nil, err
	}
	return decoyMaterial(t.Ref, decoy, m), nil
}

// fingerprintOf is the hex SHA-256 of a secret, as C1 shows it; "" of none.
func fingerprintOf(secret string) string {
	if secret == "" {
		return ""
	}
	return hexSHA256(secret)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// differs reports whether C1 shows another fingerprint; "" shows nothing.
func differs(shown, held string) bool {
	return shown != "" && held != "" && !strings.EqualFold(shown, held)
}

// announce logs a rotation's end and sends it as an event.
func (b *backend) announce(ctx context.Context, t *target, r record) {
	fields := []any{
		"target", t.Ref.String(), "binding", r.Binding, "outcome", r.Outcome, "reason", r.Reason,
		"version", r.Version, "attempt_id", r.ID, "request_id", r.RequestID,
	}
	succeeded := r.Outcome == outcomeIssued || r.Outcome == outcomeStored || r.Outcome == outcomeDiscarded
	if succeeded {
		b.Logger().Info("rotated", fields...)
	} else {
		b.Logger().Warn("rotation did not end well", append(fields, "error", r.Error)...)
	}
	eventType := string(t.Ref.Kind) + "-rotate"
	if !succeeded {
		eventType += "-fail"
	}
	bindings, creds := t.Ref.Kind.paths()
	b.sendEvent(ctx, eventType,
		logical.EventMetadataModified, fmt.Sprint(succeeded),
		logical.EventMetadataOperation, r.Reason,
		logical.EventMetadataPath, creds+"/"+r.Binding,
		logical.EventMetadataDataPath, bindings+"/"+r.Binding+"/history",
		"name", r.Binding,
		"outcome", r.Outcome,
		"version", fmt.Sprint(r.Version),
		"fingerprint_sha256", r.Fingerprint,
	)
}
