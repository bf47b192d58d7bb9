// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// State is all that is known of one connector or decoy: one storage entry, written
// whole. It outlives its binding.
type State struct {
	Ref     Ref    `json:"ref"`
	Tenant  string `json:"tenant"`            // C1 URL that all of this belongs to
	Binding string `json:"binding,omitempty"` // name of the binding that holds it
	Version int    `json:"version"`           // of the last rotation that succeeded
	Splay   Splay  `json:"splay,omitempty"`   // how early the clock is for it

	// Attempt is a rotation whose outcome is not stored. While it is there the
	// target is ambiguous, or a rotation is running.
	Attempt *Attempt    `json:"attempt,omitempty"`
	Current *Credential `json:"current,omitempty"`
	// Baseline is the fingerprint that C1 showed for a decoy before this mount
	// first rotated it.
	Baseline string       `json:"baseline,omitempty"`
	Retire   []Retirement `json:"retire,omitempty"`
	// Recheck asks to look what has become of the target at C1, and CheckedAt is
	// when C1 said it last.
	Recheck   *Recheck  `json:"recheck,omitempty"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	// Decoy is what C1 said then of a decoy; nil before it was asked.
	Decoy *DecoyState `json:"decoy,omitempty"`

	// Scheduled: the binding has rotate_on=schedule, so Current holds the
	// material, and the clock rotates.
	Scheduled bool `json:"scheduled,omitempty"`
	// NextRotation is the next turn of the schedule, zero if callers alone
	// rotate it. Recovers: it is to replace what a late commit has killed.
	NextRotation time.Time `json:"next_rotation,omitzero"`
	Recovers     bool      `json:"recovers,omitempty"`
	// Paused is there while somebody has the clock rotate nothing.
	Paused *Pause `json:"paused,omitempty"`
	// Failing is there while the rotation that is due does not succeed.
	Failing *Failing `json:"failing,omitempty"`

	// Newest is the newest record. Older ones are entries of their own, which
	// Issued and Others count.
	Newest *Record `json:"newest,omitempty"`
	Issued Shelf   `json:"issued,omitzero"`
	Others Shelf   `json:"others,omitzero"`
	// Requests remembers by which of Vault's requests it was rotated lately.
	Requests Requests `json:"requests,omitempty"`

	unfiled []Filing // records that are to become entries of their own
	dropped []Record // records that are kept no longer
}

// Attempt is one rotation between "about to ask C1" and "outcome stored".
type Attempt struct {
	Origin
	Phase    Phase     `json:"phase"`
	CommitBy time.Time `json:"commit_by"` // after that C1 commits it no more
	NextTry  time.Time `json:"next_try"`  // when to find out what became of it
	// Why the outcome is unknown.
	Why string `json:"why,omitempty"`
}

// Phase is how much is known of an attempt.
type Phase string

// The phases.
const (
	Asking  Phase = "asking"  // C1 is being asked, or the process died meanwhile
	Unknown Phase = "unknown" // the answer is lost; C1 may still tell
	Lost    Phase = "lost"    // C1 was asked, or cannot be; only a new rotation helps
)

// unknown says why the attempt's outcome is unknown, once nobody waits for C1's answer
// any more.
func (a *Attempt) unknown() string {
	if a.Phase == Asking {
		return "the plugin or Vault stopped while C1 was being asked"
	}
	return a.Why
}

// Credential is what is known of the newest rotation's credential. The material
// itself is kept for scheduled targets only.
type Credential struct {
	Binding      string    `json:"binding,omitempty"` // under which it was made
	CredentialID string    `json:"credential_id,omitempty"`
	ClientID     string    `json:"client_id,omitempty"`
	Fingerprint  string    `json:"fingerprint_sha256,omitempty"`
	RotatedAt    time.Time `json:"rotated_at"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"`
	// EndedAt is when the engine has ended it at C1.
	EndedAt time.Time `json:"ended_at,omitzero"`
	// RequireDPoP: C1 takes the mount's credential only with proofs (RFC 9449).
	RequireDPoP bool `json:"require_dpop,omitempty"`
	// Undelivered: whoever asked for it had gone.
	Undelivered bool `json:"undelivered,omitempty"`
	// Drifted says why this is no longer what C1 holds.
	Drifted string `json:"drifted,omitempty"`
	// Material is what readers of a scheduled binding get, but for the version
	// and the times.
	Material map[string]any `json:"material,omitempty"`
}

// Format implements fmt.Formatter: without the material, whatever the verb.
func (c Credential) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "credential{%s %s}", c.CredentialID, c.ClientID) // as fmt itself, there is nobody to tell
}

// Retirement is a vended credential whose end is planned.
type Retirement struct {
	Version      int       `json:"version"`                 // below 0: of what nobody has stored
	Binding      string    `json:"binding,omitempty"`       // under which it was vended
	CredentialID string    `json:"credential_id,omitempty"` // ended by this ID; of a decoy none
	Tenant       string    `json:"tenant,omitempty"`        // only if it is not the target's
	At           time.Time `json:"at"`                      // not before; after a failure the next try
	Failures     int       `json:"failures,omitempty"`
	LastError    string    `json:"last_error,omitempty"`
}

// Recheck is a planned look at what has become of the target at C1.
type Recheck struct {
	At  time.Time `json:"at"`
	Why Why       `json:"why"`
}

// Why is the reason for a look.
type Why string

// The reasons.
const (
	Periodic   Why = "periodic"    // somebody else may have changed it, or it expires
	LateCommit Why = "late_commit" // C1 may have committed an attempt that was given up
)

// DecoyState is what C1 said last of a decoy, beside its fingerprint.
type DecoyState struct {
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	Disabled   bool      `json:"disabled,omitempty"`
}

// Failing is a scheduled rotation that failed and will be tried again.
type Failing struct {
	Since    time.Time `json:"since"`
	Failures int       `json:"failures"`
	NextTry  time.Time `json:"next_try"`
	Error    string    `json:"error"`
	// Revision of the config under which it failed: another one may be what it
	// waited for.
	Revision string `json:"revision"`
	// Waits: its rotation_window has closed, and it waits for the next turn.
	Waits bool `json:"waits,omitempty"`
}

// Pause says who has the clock rotate nothing, since when and why.
type Pause struct {
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

// New is the state of a target that has none yet.
func New(ref Ref, early Splay) *State { return &State{Ref: ref, Splay: early} }

// Copy returns a state that may be changed while this one stays.
func (s *State) Copy() *State {
	c := *s
	c.unfiled, c.dropped = nil, nil
	return &c
}

// next is where a transition begins. What is still to be done for s is to be done
// for the state that it returns.
func (s *State) next() *State {
	n := *s
	n.unfiled, n.dropped = slices.Clone(s.unfiled), slices.Clone(s.dropped)
	return &n
}

// MarshalJSON leaves out what the state says twice: of the newest record what Current
// says as well, of the material what Ref or Current say, and the fingerprint of a
// secret that is beside it.
func (s *State) MarshalJSON() ([]byte, error) {
	type plain State
	p := plain(*s)
	if s.newestIsCurrent() {
		p.Newest = copyOf(s.Newest)
		r := p.Newest
		r.CredentialID, r.ClientID, r.Fingerprint, r.ExpiresAt, r.FinishedAt = "", "", "", time.Time{}, time.Time{}
		if r.Binding == s.Current.Binding {
			r.Binding = ""
		}
	}
	if s.HasMaterial() {
		p.Current = copyOf(s.Current)
		p.Current.Material = maps.Clone(s.Current.Material)
		for field, value := range s.said() {
			if p.Current.Material[field] == value {
				delete(p.Current.Material, field)
			}
		}
		if s.Current.Fingerprint == s.Current.fingerprint() {
			p.Current.Fingerprint = ""
		}
	}
	return json.Marshal(&p)
}

// said are the fields of the material that Ref or Current say as well.
func (s *State) said() map[string]string {
	said := map[string]string{
		"app_id": s.Ref.AppID, "connector_id": s.Ref.ConnectorID, "decoy_id": s.Ref.DecoyID,
		"credential_id": s.Current.CredentialID, "client_id": s.Current.ClientID, "fingerprint_sha256": s.Current.Fingerprint,
	}
	maps.DeleteFunc(said, func(_, value string) bool { return value == "" })
	if s.Ref.Kind == Connector {
		said["created_at"], said["expires_at"] = RFC3339(s.Current.RotatedAt), RFC3339(s.Current.ExpiresAt)
	}
	return said
}

// SecretFields are those fields of a material that log in. It has one of them at most.
var SecretFields = []string{"client_secret", "access_token"}

// fingerprint is that of the secret in the material.
func (c *Credential) fingerprint() string {
	for _, field := range SecretFields {
		if secret, _ := c.Material[field].(string); secret != "" {
			return Fingerprint(secret)
		}
	}
	return ""
}

// Fingerprint is the hex SHA-256 of a secret, as C1 shows it; "" of none.
func Fingerprint(secret string) string {
	if secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Restore puts back what MarshalJSON has left out, and says what is wrong with a
// state that comes from storage.
func (s *State) Restore() error {
	if s.HasMaterial() {
		c := s.Current
		c.Fingerprint = cmp.Or(c.Fingerprint, c.fingerprint())
		for field, value := range s.said() {
			if _, stored := c.Material[field]; !stored {
				c.Material[field] = value
			}
		}
	}
	if s.newestIsCurrent() {
		c, r := s.Current, s.Newest
		r.CredentialID, r.ClientID, r.Fingerprint, r.ExpiresAt, r.FinishedAt = c.CredentialID, c.ClientID, c.Fingerprint, c.ExpiresAt, c.RotatedAt
		r.Binding = cmp.Or(r.Binding, c.Binding)
	}
	if !s.Issued.sound() || !s.Others.sound() {
		return errors.New("it counts records that cannot be")
	}
	return s.Ref.Check()
}

func (s *State) newestIsCurrent() bool {
	return s.Current != nil && s.Newest != nil && s.Newest.Version > 0 && s.Newest.Version == s.Version
}

// Reasons for which a target needs attention, as status shows them.
const (
	AttentionAmbiguous = "ambiguous" // a rotation's outcome is unknown
	AttentionFailing   = "failing"   // a scheduled rotation does not succeed
	AttentionDrifted   = "drifted"   // C1 holds something other than what was vended
	AttentionRetiring  = "retiring"  // a credential could not be ended yet
	AttentionPaused    = "paused"    // somebody has the clock rotate nothing
)

// AttentionReasons are all of them, the worst first.
var AttentionReasons = []string{AttentionAmbiguous, AttentionFailing, AttentionDrifted, AttentionRetiring, AttentionPaused}

// Health of a target that needs no attention.
const (
	Ready    = "ready"
	Rotating = "rotating"
	Pending  = "pending" // scheduled, and not rotated yet
)

// Problems returns the reasons for attention, each with what to tell a person.
func (s *State) Problems() map[string]string {
	p := map[string]string{}
	if s.Attempt != nil && s.Attempt.Phase != Asking {
		p[AttentionAmbiguous] = s.Attempt.Why
	}
	if f := s.Failing; f != nil {
		next := "next try at " + RFC3339(f.NextTry)
		if s.Paused != nil {
			next = "next try when the binding is resumed"
		}
		p[AttentionFailing] = fmt.Sprintf("the rotation due has failed %d time(s) since %s, %s: %s", f.Failures, RFC3339(f.Since), next, f.Error)
	}
	if pause := s.Paused; pause != nil {
		p[AttentionPaused] = fmt.Sprintf("%s paused the scheduled rotations at %s: %s", cmp.Or(pause.By, "somebody"), RFC3339(pause.At), pause.Reason)
	}
	if s.Current != nil && s.Current.Drifted != "" {
		p[AttentionDrifted] = s.Current.Drifted
	}
	var failing []string
	last := ""
	for _, r := range s.Retire {
		if r.Failures > 0 {
			failing = append(failing, r.name())
			last = r.LastError
		}
	}
	if n := len(failing); n > 0 {
		p[AttentionRetiring] = fmt.Sprintf("%d credential(s) could not be ended yet (%s), the last because: %s",
			n, strings.Join(failing[:min(n, 3)], ", "), last)
	}
	return p
}

// name names a credential for a person.
func (r Retirement) name() string {
	if r.Version < 0 {
		return "credential " + r.CredentialID
	}
	return strings.TrimSpace(fmt.Sprintf("version %d %s", r.Version, r.CredentialID))
}

// ProblemList is Problems in a form and order that a person reads.
func (s *State) ProblemList() []string { return ListProblems(s.Problems()) }

// ListProblems puts problems in a form and order that a person reads.
func ListProblems(problems map[string]string) []string {
	list := []string{}
	for reason, detail := range problems {
		list = append(list, reason+": "+detail)
	}
	slices.Sort(list)
	return list
}

// Health is one word for a binding's health: a reason for attention, or one of
// Ready, Rotating and Pending.
func (s *State) Health(now time.Time) string {
	p := s.Problems()
	for _, reason := range []string{AttentionAmbiguous, AttentionFailing, AttentionDrifted} {
		if _, ok := p[reason]; ok {
			return reason
		}
	}
	switch {
	case s.Attempt == nil && s.Scheduled && !s.Kept():
		return Pending
	case s.Attempt == nil:
		return Ready
	case s.Unattended(now):
		return AttentionAmbiguous
	default:
		return Rotating
	}
}

// Unattended reports whether an attempt's time is over and nobody has come to mark
// it as ambiguous.
func (s *State) Unattended(now time.Time) bool {
	return s.Attempt != nil && s.Attempt.Phase == Asking && now.After(s.Attempt.CommitBy)
}

// Ambiguity says why an attempt's outcome is unknown, or "".
func (s *State) Ambiguity(now time.Time) string {
	if s.Attempt == nil || s.Attempt.Phase == Asking && !s.Unattended(now) {
		return ""
	}
	return s.Attempt.unknown()
}

// HasMaterial reports whether readers of a scheduled binding can be served.
func (s *State) HasMaterial() bool { return s.Current != nil && s.Current.Material != nil }

// Kept reports whether there is something that the clock replaces. The secret of the
// mount's identity lies in the config.
func (s *State) Kept() bool {
	return s.HasMaterial() || s.Ref.Kind == Identity && s.Current != nil
}

// CurrentAlive reports whether something was vended that the engine has not ended
// itself.
func (s *State) CurrentAlive() bool { return s.Current != nil && s.Current.EndedAt.IsZero() }

// KnownFingerprint is what C1 should show for a decoy that nobody else rotated.
func (s *State) KnownFingerprint() string {
	if s.Current != nil {
		return s.Current.Fingerprint
	}
	return s.Baseline
}

// PlannedEnd returns the index of the version's planned end, or -1.
func (s *State) PlannedEnd(version int) int {
	return slices.IndexFunc(s.Retire, func(r Retirement) bool { return r.Version == version })
}

// LiveLeases counts what was vended under a binding of this name and whose end is
// planned.
func (s *State) LiveLeases(binding string) int {
	n := 0
	for _, r := range s.Retire {
		if r.Binding == binding {
			n++
		}
	}
	return n
}

// Differs reports whether C1 shows another fingerprint; "" shows nothing.
func Differs(shown, held string) bool {
	return shown != "" && held != "" && !strings.EqualFold(shown, held)
}

// RFC3339 is a time as users see it, "" for none.
func RFC3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func copyOf[T any](p *T) *T {
	c := *p
	return &c
}
