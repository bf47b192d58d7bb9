// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
)

// What became of a rotation.
const (
	OutcomeIssued      = "issued"      // answered; whether it arrived nobody can know
	OutcomeStored      = "stored"      // kept for the readers of a scheduled binding
	OutcomeUndelivered = "undelivered" // the caller had gone, so nobody holds it
	OutcomeFailed      = "failed"      // C1 did not rotate
	OutcomeSuperseded  = "superseded"  // unknown, and a later rotation took its place
	OutcomeDiscarded   = "discarded"   // rotated to end a vended copy, given to nobody
)

// Why a rotation was asked for.
const (
	ReasonRead     = "read"
	ReasonWrite    = "write"
	ReasonLeaseEnd = "lease_end"
	ReasonRotate   = "rotate"   // an operator, without seeing the material
	ReasonInitial  = "initial"  // the binding came to be scheduled
	ReasonSchedule = "schedule" // its time had come
	ReasonRecovery = "recovery" // the one before was of unknown outcome
	ReasonConfig   = "config"   // somebody wrote the mount's identity
	ReasonAdopt    = "adopt"    // nothing was rotated: a running credential was given to Vault
)

// Origin says who asked for a rotation, when and why.
type Origin struct {
	ID          string    `json:"id"`
	Binding     string    `json:"binding,omitempty"`
	Reason      string    `json:"reason"`
	RequestID   string    `json:"request_id,omitempty"`
	EntityID    string    `json:"entity_id,omitempty"`
	DisplayName string    `json:"display_name,omitempty"`
	RemoteAddr  string    `json:"remote_address,omitempty"`
	Placement   string    `json:"placement,omitempty"`
	StartedAt   time.Time `json:"started_at"`
}

// Record is one attempt to rotate and what became of it, never the secret.
type Record struct {
	Origin
	Version      int       `json:"version,omitempty"` // 0 unless it succeeded
	Outcome      string    `json:"outcome"`
	FinishedAt   time.Time `json:"finished_at,omitzero"`
	CredentialID string    `json:"credential_id,omitempty"`
	ClientID     string    `json:"client_id,omitempty"`
	Fingerprint  string    `json:"fingerprint_sha256,omitempty"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // at C1
	EndsAt       time.Time `json:"ends_at,omitzero"`    // when the engine ends it at the latest
	EndedAt      time.Time `json:"ended_at,omitzero"`   // when the engine ended it at C1
	Error        string    `json:"error,omitempty"`
	Warning      string    `json:"warning,omitempty"`
	Repeats      int       `json:"repeats,omitempty"` // equal failures that followed
}

// HandedOut reports whether somebody was given the material.
func (r *Record) HandedOut() bool { return r.Outcome == OutcomeIssued || r.Outcome == OutcomeStored }

// Class is the shelf that a record belongs to.
func (r *Record) Class() Class {
	if r.HandedOut() {
		return ClassIssued
	}
	return ClassOther
}

// folds reports whether a newer record says nothing more than that the same
// happened again.
func (r *Record) folds(newer *Record) bool {
	switch {
	case r.Outcome != newer.Outcome || r.Reason != newer.Reason || r.Binding != newer.Binding:
		return false
	case r.Outcome == OutcomeFailed:
		return r.Error == newer.Error
	default:
		return r.Outcome == OutcomeUndelivered && r.EntityID == newer.EntityID && r.DisplayName == newer.DisplayName &&
			(r.CredentialID == "" || !r.EndedAt.IsZero())
	}
}

// counting returns the newer record, which counts this one as a repeat.
func (r *Record) counting(newer Record) Record {
	newer.Repeats, newer.StartedAt = r.Repeats+1, r.StartedAt
	return newer
}

// Class keeps apart the records of what was handed out, which only what was handed
// out later pushes out, and all others.
type Class string

// The classes.
const (
	ClassIssued Class = "i"
	ClassOther  Class = "o"
)

// Shelf counts the records of one class that are entries of their own: those from
// First up to Next, without Next. The newest record takes the place Next of its
// class when another one follows it.
type Shelf struct {
	First int `json:"first,omitempty"`
	Next  int `json:"next,omitempty"`
}

// MaxRecords is the most that history_limit can be.
const MaxRecords = 10_000

// sound reports whether a shelf can be counted on: more than it can have, and nobody
// would come to an end with it.
func (s Shelf) sound() bool {
	return s.First >= 0 && s.Next >= s.First && s.Next-s.First <= 2*MaxRecords
}

// Place is where a record lies that is an entry of its own.
type Place struct {
	Class  Class
	Number int
}

// Filing is a record that is to be stored as an entry of its own.
type Filing struct {
	Place
	Record *Record
	// Counted: the state counts it, so it must be stored before the state is.
	Counted bool
}

// Unfiled are the records that are to be stored as entries of their own, with or
// before the state.
func (s *State) Unfiled() []Filing { return s.unfiled }

// Dropped are the records that are kept no longer; what points to them may go once
// the state is stored.
func (s *State) Dropped() []Record { return s.dropped }

// Shelf counts the records of a class.
func (s *State) Shelf(c Class) Shelf { return *s.shelf(c) }

func (s *State) shelf(c Class) *Shelf {
	if c == ClassIssued {
		return &s.Issued
	}
	return &s.Others
}

// add makes r the newest record. An attempt that failed like the one before is
// counted in it: a client in a retry loop must not push out who was issued what.
func (s *State) add(r Record) {
	if old := s.Newest; old != nil && old.folds(&r) {
		r = old.counting(r)
		s.dropped = append(s.dropped, *old)
	} else if old != nil {
		s.file(true)
		s.shelf(old.Class()).Next++
	}
	s.Newest = &r
	s.Requests = s.Requests.with(r.RequestID)
}

// file has the newest record stored in the place that it will have.
func (s *State) file(counted bool) {
	if s.Newest != nil {
		place := Place{s.Newest.Class(), s.shelf(s.Newest.Class()).Next}
		s.unfiled = append(s.unfiled, Filing{place, s.Newest, counted})
	}
}

// changeNewest lets do change the newest record.
func (s *State) changeNewest(do func(*Record)) {
	r := *s.Newest
	do(&r)
	s.Newest = &r
}

// Folded counts the newest record in the one before, if it says the same: a caller
// who hangs up again and again takes one record. before may be nil.
func (s *State) Folded(before *Record) *State {
	last := s.Others.Next - 1
	if before == nil || s.Newest == nil || last < s.Others.First || !before.folds(s.Newest) {
		return s
	}
	n := s.next()
	n.Others.Next = last // its place is free again
	n.dropped = append(n.dropped, *before)
	n.changeNewest(func(r *Record) { *r = before.counting(*r) })
	return n
}

// OthersKept is how many records are kept of attempts that handed out nothing:
// ten, and half of history_limit where that is more.
func OthersKept(historyLimit int) int { return max(10, historyLimit/2) }

// prunedAtOnce bounds what one rotation prunes after history_limit was lowered.
const prunedAtOnce = 10

// Pruned forgets the oldest records above the limit, and returns where they lie.
func (s *State) Pruned(historyLimit int) (*State, []Place) {
	n := s.next()
	var gone []Place
	for class, limit := range map[Class]int{ClassIssued: historyLimit, ClassOther: OthersKept(historyLimit)} {
		shelf := n.shelf(class)
		if n.Newest != nil && n.Newest.Class() == class {
			limit--
		}
		for range prunedAtOnce {
			if shelf.Next-shelf.First <= limit {
				break
			}
			gone = append(gone, Place{class, shelf.First})
			shelf.First++
		}
	}
	return n, gone
}

// Requests are short hashes of Vault's request IDs, the newest last: Vault sends a
// request again when a plugin dies, and it must be recognised.
type Requests string

const (
	requestDigits   = 6 // of base64, so 36 bits
	requestsKept    = 16
	longestRequests = requestDigits * requestsKept
)

func shortHash(requestID string) string {
	sum := sha256.Sum256([]byte(requestID))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:requestDigits]
}

func (r Requests) with(requestID string) Requests {
	if requestID == "" || r.MayHave(requestID) {
		return r
	}
	r += Requests(shortHash(requestID))
	return r[max(0, len(r)-longestRequests):]
}

// MayHave reports whether the target may have been rotated by this request lately;
// its record tells.
func (r Requests) MayHave(requestID string) bool {
	if requestID == "" {
		return false
	}
	hash := shortHash(requestID)
	for rest := string(r); len(rest) >= requestDigits; rest = rest[requestDigits:] {
		if strings.HasPrefix(rest, hash) {
			return true
		}
	}
	return false
}
