// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"iter"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// A target's newest record lies in its state. Older ones are entries of their own,
// record/<name>/<class>/<number>.
const recordPrefix = "record/"

// storedRecord is how a record is stored that is an entry of its own.
var storedRecord = store.Type[target.Record]{What: "rotation record", Format: 1}

func recordKey(name string, p target.Place) store.Key {
	return store.Fixed(fmt.Sprintf("%s%s/%s/%d", recordPrefix, name, p.Class, p.Number))
}

// originOf reads who asked from Vault's request.
func originOf(req *logical.Request) target.Origin {
	o := target.Origin{RequestID: req.ID, EntityID: req.EntityID, DisplayName: req.DisplayName}
	if req.Connection != nil {
		o.RemoteAddr = req.Connection.RemoteAddr
	}
	return o
}

// askedOf checks who asks for what.
func askedOf(req *logical.Request, d *framework.FieldData, reason string) (target.Origin, error) {
	asked := originOf(req)
	asked.Reason, asked.Placement = reason, d.Get("placement").(string)
	if asked.Placement != "" && reason == target.ReasonRead {
		return asked, refuse("placement goes with a write, which keeps it in the record")
	}
	return asked, validLabel("placement", asked.Placement)
}

// history reads a target's records.
type history struct {
	store *store.Store
	state *target.State
	name  string
}

// historyOf returns the history of a target by its state.
func historyOf(ctx context.Context, s *store.Store, t *target.State) (*history, error) {
	name, err := nameOf(ctx, s, t.Ref)
	return &history{s, t, name}, err
}

func (t *turn) history() *history { return &history{t.store, t.state, t.name} }

func (h *history) at(ctx context.Context, p target.Place) (*target.Record, error) {
	return storedRecord.Read(ctx, h.store, recordKey(h.name, p))
}

// all returns the records, newest first. After an error there are no more.
func (h *history) all(ctx context.Context) iter.Seq2[*target.Record, error] {
	return func(yield func(*target.Record, error) bool) {
		if h.state.Newest != nil && !yield(h.state.Newest, nil) {
			return
		}
		issued, others := h.cursor(target.ClassIssued), h.cursor(target.ClassOther)
		for {
			a, err := issued.peek(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			b, err := others.peek(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			newer := issued
			if a == nil || b != nil && b.FinishedAt.After(a.FinishedAt) {
				newer, a = others, b
			}
			if a == nil || !yield(a, nil) {
				return
			}
			newer.read = nil
		}
	}
}

// cursor goes back through the records of one class.
type cursor struct {
	*history
	next target.Place
	last int
	read *target.Record
}

func (h *history) cursor(c target.Class) *cursor {
	shelf := h.state.Shelf(c)
	return &cursor{history: h, next: target.Place{Class: c, Number: shelf.Next - 1}, last: shelf.First}
}

// peek returns the record that comes next, or nil at the end.
func (c *cursor) peek(ctx context.Context) (*target.Record, error) {
	for c.read == nil && c.next.Number >= c.last {
		r, err := c.at(ctx, c.next)
		if err != nil {
			return nil, err
		}
		c.read = r // nil if it was pruned meanwhile
		c.next.Number--
	}
	return c.read, nil
}

// version finds the record of a version, or nil. place is nil if it lies in the
// state.
func (h *history) version(ctx context.Context, version int) (r *target.Record, place *target.Place, err error) {
	if newest := h.state.Newest; newest != nil && newest.Version == version {
		return newest, nil, nil
	}
	if r, place, err = h.issued(ctx, version); err != nil || r != nil {
		return r, place, err
	}
	others := h.cursor(target.ClassOther)
	for {
		r, err := others.peek(ctx)
		switch {
		case err != nil || r == nil || r.Version > 0 && r.Version < version:
			return nil, nil, err
		case r.Version == version:
			return r, &target.Place{Class: target.ClassOther, Number: others.next.Number + 1}, nil
		}
		others.read = nil
	}
}

// issued finds the record of a version among those that were handed out, whose
// versions grow with their places. Most often the first guess is right: few rotations
// hand out nothing.
func (h *history) issued(ctx context.Context, version int) (*target.Record, *target.Place, error) {
	shelf := h.state.Shelf(target.ClassIssued)
	low, high := shelf.First, shelf.Next
	guess := high - (h.state.Version - version)
	for low < high {
		if guess < low || guess >= high {
			guess = (low + high) / 2
		}
		place := target.Place{Class: target.ClassIssued, Number: guess}
		r, err := h.at(ctx, place)
		switch {
		case err != nil:
			return nil, nil, err
		case r == nil || r.Version < version: // what was pruned meanwhile is older
			low = guess + 1
		case r.Version > version:
			high = guess
		default:
			return r, &place, nil
		}
		guess = -1 // from now on by halves
	}
	return nil, nil, nil
}

// recordFields are a record as history and lookup show it.
func recordFields(t *target.State, r *target.Record) map[string]any {
	endsAt := r.EndsAt
	if i := t.PlannedEnd(r.Version); i >= 0 && endsAt.IsZero() && r.Version > 0 {
		endsAt = t.Retire[i].At
	}
	return map[string]any{
		"version":            r.Version,
		"outcome":            r.Outcome,
		"reason":             r.Reason,
		"binding":            r.Binding,
		"attempt_id":         r.ID,
		"request_id":         r.RequestID,
		"entity_id":          r.EntityID,
		"display_name":       r.DisplayName,
		"remote_address":     r.RemoteAddr,
		"placement":          r.Placement,
		"credential_id":      r.CredentialID,
		"client_id":          r.ClientID,
		"fingerprint_sha256": r.Fingerprint,
		"started_at":         rfc3339(r.StartedAt),
		"finished_at":        rfc3339(r.FinishedAt),
		"expires_at":         rfc3339(r.ExpiresAt),
		"ends_at":            rfc3339(endsAt),
		"ended_at":           rfc3339(r.EndedAt),
		"error":              r.Error,
		"warning":            r.Warning,
		"repeats":            r.Repeats,
	}
}
