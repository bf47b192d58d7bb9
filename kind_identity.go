// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/go-uuid"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// identityKind is the mount's own credential: C1 makes a second one beside the one in use,
// the secret lies in the config, and C1's list tells what became of an attempt.
type identityKind struct{ endedByID }

func (identityKind) get(context.Context, *session, target.Ref) (*c1api.Decoy, error) {
	return nil, errors.New("the mount's identity has no binding")
}

// alsoLocks: nobody else writes the config meanwhile.
func (identityKind) alsoLocks() string { return configKey }

// prepare also puts into the state what C1 shows of the credential in use.
func (identityKind) prepare(ctx context.Context, t *turn, o *order) error {
	err := t.lookBeforeRotating(ctx, o)
	if err == nil || !o.byClock || concernsAll(err) {
		return err
	}
	if err := t.storeOutcome(ctx, t.state.Failed(t.now(), o.session.terms(o.bind), err.Error(), false)); err != nil {
		return err
	}
	var u *userError
	if errors.As(err, &u) {
		u.recorded = true
	}
	return err
}

func (t *turn) lookBeforeRotating(ctx context.Context, o *order) error {
	if a := t.state.Attempt; a != nil {
		if a.RequestID != "" && a.RequestID == o.origin.RequestID {
			return nil // it was sent again, which the rotation refuses by itself
		}
		return failWith(http.StatusConflict, "the outcome of the previous rotation is not known yet: the engine asks C1 at %s; the credential in config works", rfc3339(a.NextTry))
	}
	look, cancel := o.session.bound(ctx)
	defer cancel()
	own, err := o.session.lookUpOwn(look)
	if err != nil {
		return notRotated(err)
	}
	held := own.held
	if held == nil {
		return failWith(http.StatusBadGateway, "the identity was not rotated: C1 does not show %s among its owner's credentials", o.session.config.ClientID)
	}
	o.own = own
	if cur := t.state.Current; cur.CredentialID == held.ID && cur.ExpiresAt.Equal(held.ExpiresAt) && cur.RequireDPoP == held.RequireDPoP {
		return nil
	}
	return t.save(ctx, t.state.Dated(o.session.terms(o.bind), held.ID, held.ExpiresAt, held.RequireDPoP))
}

func (identityKind) refusal(cause error) error { return notRotated(cause) }

// notRotated is the answer where C1 did not make a new credential.
func notRotated(err error) error {
	e := c1api.AsError(err)
	if e == nil {
		return err // ours
	}
	u := fromC1(err)
	if e.Reason == c1api.ReasonForbidden {
		u.message = fmt.Sprintf("the mount's identity may not replace its own credential: %s; it needs the right to list, create and delete the credentials of its own service principal, or of its own user. Nothing was changed", e)
	}
	return u
}

// rotate has C1 make a new credential and proves that it works before anything relies on
// it. One that does not is ended.
func (identityKind) rotate(ctx context.Context, t *turn, o *order) (*material, error) {
	made, secret, err := o.session.client.CreateOwnCredential(ctx, o.own.owner, o.own.successor(t.state.Attempt.ID))
	if err != nil {
		return nil, err
	}
	cfg := o.session.config.copied()
	cfg.ClientID, cfg.ClientSecret = made.ClientID, secret
	if err := t.prove(ctx, o, cfg); err != nil {
		ctx, cancel := o.session.bound(context.WithoutCancel(ctx))
		defer cancel()
		why, failed := o.session.client.EndOwnCredential(ctx, o.own.owner, made.ID)
		if failed != nil {
			o.own.orphan, why = made.ID, "the engine ends it later: "+failed.Error()
		}
		return nil, failWith(http.StatusBadGateway,
			"the identity was not rotated: C1 made the credential %s, which cannot be used: %s (%s)", made.ClientID, err, why).inState()
	}
	return &material{
		CredentialID: made.ID, ClientID: made.ClientID, ExpiresAt: made.ExpiresAt, Fingerprint: target.Fingerprint(secret), identity: cfg,
	}, nil
}

func (identityKind) heals(open *target.State, _ bool) string {
	return "the previous credential stays in use, and at " + rfc3339(open.Attempt.CommitBy) + " the engine asks C1 what it made, and ends that"
}

// endUnused: what was made in vain is planned to be ended (Orphaned).
func (identityKind) endUnused(context.Context, *turn, *session, string) (bool, error) {
	return false, nil
}

// prove logs in with a new credential, and reports an error unless it may do what the
// one before may.
func (t *turn) prove(ctx context.Context, o *order, cfg *config) error {
	if used := o.session.config; cfg.tenant() != used.tenant() || cfg.use() != used.use() {
		return errors.New("its client ID is of another tenant or kind")
	}
	before := o.own.who
	client, err := t.newClient(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.RequestTimeout)
	defer cancel()
	who, err := client.Introspect(ctx)
	if err != nil {
		return err
	}
	cfg.RequireDPoP = client.Health().DPoP
	for _, have := range []struct {
		what        string
		before, now []string
	}{{"role", before.Roles, who.Roles}, {"permission", before.Permissions, who.Permissions}} {
		for _, name := range have.before {
			if !slices.Contains(have.now, name) {
				return fmt.Errorf("it lacks the %s %s of the previous credential", have.what, clip(name, 80))
			}
		}
	}
	return nil
}

// storeIdentity makes the new credential the mount's. Whoever rotates the identity
// holds the config's lock.
func (t *turn) storeIdentity(ctx context.Context, m *material) error {
	var err error
	if m.identity.Revision, err = uuid.GenerateUUID(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := storedConfig.Write(ctx, t.store, store.Fixed(configKey), m.identity); err != nil {
		return err
	}
	t.sessions.drop()
	return nil
}

// store stores the config, and then the state. Whatever fails, the credential in the
// config works, and the open attempt is concluded by what config and C1 say.
func (identityKind) store(ctx context.Context, t *turn, o *order, made *outcome) error {
	m, commitBy := made.material, rfc3339(made.open.Attempt.CommitBy)
	if err := t.storeIdentity(ctx, m); err != nil {
		why := fmt.Sprintf("C1 made %s, and Vault's storage refused it (%s)", m.ClientID, err)
		t.tally.rotated(t.ref.Kind, made.open.Attempt.Reason, target.AttentionAmbiguous)
		t.leaveOpen(ctx, o, made.open, why)
		return failWith(statusOutcomeUnknown,
			"outcome not stored: %s; the previous credential is in use, and the engine ends the unused one at %s", why, commitBy).inState()
	}
	if err := t.storeKept(ctx, made.next, made.attemptMinute); err != nil {
		return failWith(statusOutcomeUnknown,
			"the new credential %s is stored and in use; storage refused its record (%s), which the engine adds at %s", m.ClientID, err, commitBy).inState()
	}
	t.announce(ctx, made.next.Newest)
	return nil
}

func (identityKind) reconciled(ctx context.Context, t *turn) (*target.State, error) {
	cfg, err := readConfig(ctx, t.store)
	if err != nil {
		return nil, err
	}
	state, _ := t.reconciled(cfg, t.state, target.Origin{})
	return state, nil
}

// resolve concludes an attempt by what C1 lists and the config holds.
func (identityKind) resolve(ctx context.Context, t *turn, state *target.State, out *settled) (*target.State, verdict, error) {
	s, err := t.session(ctx)
	if err != nil {
		return nil, wait, err
	}
	if s.config.identityBinding() == nil || s.config.tenant() != state.Tenant {
		next, left := t.reconciled(s.config, state, target.Origin{})
		t.Logger().Warn("an identity that was replaced leaves something alive at C1", "what", strings.Join(left, "; "))
		return next, goOn, nil
	}
	var own *ownCredentials
	asked, err := ask(ctx, s, out, func(ctx context.Context) (err error) {
		own, err = s.lookUpOwn(ctx)
		return err
	})
	if !asked {
		return state, wait, nil
	}
	if err != nil {
		t.Logger().Warn("could not find out what became of a rotation of the identity; trying again", "error", err)
		return state.Unseen(t.now()), goOn, nil
	}
	var made target.Made
	for _, c := range own.list {
		switch {
		case !strings.HasSuffix(c.DisplayName, tagOf(state.Attempt.ID)) || !c.DeletedAt.IsZero():
		case c.ClientID == s.config.ClientID:
			made.InUse = &target.Result{
				Outcome: target.OutcomeStored, CredentialID: c.ID, ClientID: c.ClientID,
				Fingerprint: target.Fingerprint(s.config.ClientSecret), ExpiresAt: c.ExpiresAt,
			}
		default:
			made.Orphans = append(made.Orphans, c.ID)
		}
	}
	next := state.Concluded(t.now(), s.terms(s.config.identityBinding()), made)
	next, _ = t.reconciled(s.config, next, target.Origin{})
	return next, goOn, nil
}

// see asks C1 when the mount's credential expires. An identity that may not read its own
// credentials works nevertheless.
func (identityKind) see(ctx context.Context, s *session, state *target.State) (sight, error) {
	own, err := s.lookUpOwn(ctx)
	if c1api.IsReason(err, c1api.ReasonForbidden) {
		return sight{state: state}, nil
	}
	if err != nil {
		return sight{}, err
	}
	shown := sight{state: state}
	if held := own.held; held != nil {
		shown.state = state.Dated(s.terms(s.config.identityBinding()), held.ID, held.ExpiresAt, held.RequireDPoP)
	} else {
		shown.Drift = fmt.Sprintf("C1 no longer shows the credential %s that this mount logs in with: write another one into config", s.config.ClientID)
	}
	return shown, nil
}

func (identityKind) end(ctx context.Context, b *backend, s *session, _ target.Ref, credentialID string) (why string, err error) {
	return b.endOwn(ctx, s, credentialID)
}
