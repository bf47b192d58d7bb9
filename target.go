// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/c1-community/vault-plugin-c1/internal/store"
)

const (
	targetPrefix = "target/"

	// maxPendingRetirements keeps a target's entry below the size that Raft
	// takes (1 MiB): each live lease of a connector holds one retirement.
	maxPendingRetirements = 1000
)

// kind is what a binding points at.
type kind string

const (
	kindConnector kind = "connector"
	kindDecoy     kind = "decoy"
)

// paths returns the path prefixes of the kind's bindings and of its vends.
func (k kind) paths() (bindings, creds string) {
	if k == kindDecoy {
		return "decoys", "decoy-creds"
	}
	return "connectors", "connector-creds"
}

// kindOfCreds tells the kind by the path prefix of its vends.
var kindOfCreds = map[string]kind{"connector-creds": kindConnector, "decoy-creds": kindDecoy}

// targetRef names one connector or decoy at C1.
type targetRef struct {
	Kind        kind   `json:"kind"`
	AppID       string `json:"app_id,omitempty"`
	ConnectorID string `json:"connector_id,omitempty"`
	DecoyID     string `json:"decoy_id,omitempty"`
}

// key is <kind>/<id>, and unique: IDs hold no comma and no slash (see validID).
// Storage never sees it.
func (r targetRef) key() string {
	if r.Kind == kindDecoy {
		return string(kindDecoy) + "/" + url.PathEscape(r.DecoyID)
	}
	return string(kindConnector) + "/" + url.PathEscape(r.AppID) + "," + url.PathEscape(r.ConnectorID)
}

// check says what is wrong with a reference that comes from storage or a lease.
func (r targetRef) check() error {
	decoy := r.Kind == kindDecoy && r.DecoyID != ""
	connector := r.Kind == kindConnector && r.AppID != "" && r.ConnectorID != ""
	if !decoy && !connector {
		return errors.New("it names no target")
	}
	return nil
}

func (r targetRef) String() string {
	if r.Kind == kindDecoy {
		return "decoy " + r.DecoyID
	}
	return "connector " + r.ConnectorID + " of app " + r.AppID
}

// target is all that the engine knows of one connector or decoy: one storage
// entry, written whole. It outlives its binding.
type target struct {
	Ref     targetRef `json:"ref"`
	Tenant  string    `json:"tenant"`            // C1 URL that all of this belongs to
	Binding string    `json:"binding,omitempty"` // name of the binding that holds it
	Version int       `json:"version"`           // of the last rotation that succeeded
	Splay   splay     `json:"splay,omitempty"`   // how early the clock is for it

	// Attempt is a rotation whose outcome is not stored. While it is there the
	// target is ambiguous, or a rotation is running.
	Attempt *attempt    `json:"attempt,omitempty"`
	Current *credential `json:"current,omitempty"`
	// Baseline is the fingerprint that C1 showed for a decoy before this mount
	// first rotated it.
	Baseline string       `json:"baseline,omitempty"`
	Retire   []retirement `json:"retire,omitempty"`
	// VerifyAt asks to look what has become of the target at C1, and CheckedAt is
	// when C1 said it last.
	VerifyAt  time.Time `json:"verify_at,omitzero"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	// Decoy is what C1 said then of a decoy; nil before it was asked.
	Decoy *decoyState `json:"decoy,omitempty"`
	// LateUntil is when C1 can no longer commit an attempt that was superseded,
	// or that a look at the decoy said to have failed.
	LateUntil time.Time `json:"late_until,omitzero"`
	// FollowsUnknown: the current credential was not looked at yet since C1 can
	// no longer commit such an attempt.
	FollowsUnknown bool `json:"follows_unknown,omitempty"`

	// Scheduled: the binding has rotate_on=schedule, so Current holds the
	// material, and settle rotates by itself.
	Scheduled bool `json:"scheduled,omitempty"`
	// NextRotation is the next turn of the schedule, zero if callers alone
	// rotate it.
	NextRotation time.Time `json:"next_rotation,omitzero"`
	// Trouble is there while the rotation that is due does not succeed.
	Trouble *trouble `json:"trouble,omitempty"`

	// Attention are the reasons under which attention/ holds an entry.
	Attention []string `json:"attention,omitempty"`
	Records   []record `json:"records,omitempty"` // oldest first
	// Forgotten counts versions that were vended and whose records are kept no
	// longer.
	Forgotten int `json:"forgotten,omitempty"`

	historyLimit int         // how many records to keep, from config; 0 keeps all
	pruned       []store.Key // entries of the index for records that are gone
	unindexed    []store.Key // entries of the index that are still to be written
}

// newTarget is the state of a target that has none yet.
func newTarget(ref targetRef) *target { return &target{Ref: ref, Splay: newSplay()} }

// attempt is one rotation between "about to ask C1" and "outcome stored".
type attempt struct {
	origin
	// SettleAt is when C1 can no longer commit it late.
	SettleAt time.Time `json:"settle_at"`
	// Unknown says why the outcome is unknown; empty while it may be running.
	Unknown string `json:"unknown,omitempty"`
	// Settled: C1 was asked, or cannot be; only a new rotation helps.
	Settled bool `json:"settled,omitempty"`
	// Supersedes: it took the place of an open attempt of another request.
	Supersedes bool `json:"supersedes,omitempty"`

	dueMinute int64 // of the entry that was written for it
}

// trouble is a scheduled rotation that failed and will be tried again.
type trouble struct {
	Since    time.Time `json:"since"`
	Failures int       `json:"failures"`
	NextTry  time.Time `json:"next_try"`
	Error    string    `json:"error"`
	// Revision of the config under which it failed: another one may be what it
	// waited for.
	Revision string `json:"revision"`
}

// credential is what is known of the newest rotation's credential. The material
// itself is kept for scheduled targets only.
type credential struct {
	CredentialID string    `json:"credential_id,omitempty"`
	ClientID     string    `json:"client_id,omitempty"`
	Fingerprint  string    `json:"fingerprint_sha256,omitempty"`
	RotatedAt    time.Time `json:"rotated_at"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"`
	// Drifted says why this is no longer what C1 holds.
	Drifted string `json:"drifted,omitempty"`
	// Material is what readers of a scheduled binding get, but for the version
	// and the times.
	Material map[string]any `json:"material,omitempty"`
}

// retirement is a vended credential whose end is planned.
type retirement struct {
	Version      int       `json:"version"`
	CredentialID string    `json:"credential_id,omitempty"` // connectors: revoked by this ID
	Tenant       string    `json:"tenant,omitempty"`        // only if it is not the target's
	At           time.Time `json:"at"`                      // not before; after a failure the next try
	Failures     int       `json:"failures,omitempty"`
	LastError    string    `json:"last_error,omitempty"`
}

// Reasons for which a target needs attention, as status shows them.
const (
	attentionAmbiguous = "ambiguous" // a rotation's outcome is unknown
	attentionFailing   = "failing"   // a scheduled rotation does not succeed
	attentionDrifted   = "drifted"   // C1 holds something other than what was vended
	attentionRetiring  = "retiring"  // a credential could not be ended yet
)

// attentionReasons are all of them, the worst first.
var attentionReasons = []string{attentionAmbiguous, attentionFailing, attentionDrifted, attentionRetiring}

// States of a target that needs no attention.
const (
	stateReady    = "ready"
	stateRotating = "rotating"
	statePending  = "pending" // scheduled, and not rotated yet
)

// problems returns the reasons for attention, each with what to tell a person.
func (t *target) problems() map[string]string {
	p := map[string]string{}
	if t.Attempt != nil && t.Attempt.Unknown != "" {
		p[attentionAmbiguous] = t.Attempt.Unknown
	}
	if f := t.Trouble; f != nil {
		p[attentionFailing] = fmt.Sprintf("the rotation due has failed %d time(s) since %s, next try at %s: %s",
			f.Failures, rfc3339(f.Since), rfc3339(f.NextTry), f.Error)
	}
	if t.Current != nil && t.Current.Drifted != "" {
		p[attentionDrifted] = t.Current.Drifted
	}
	var failing []string
	last := ""
	for _, r := range t.Retire {
		if r.Failures > 0 {
			failing = append(failing, fmt.Sprintf("version %d %s", r.Version, r.CredentialID))
			last = r.LastError
		}
	}
	if n := len(failing); n > 0 {
		p[attentionRetiring] = fmt.Sprintf("%d credential(s) could not be ended yet (%s), the last for: %s",
			n, strings.TrimSpace(strings.Join(failing[:min(n, 3)], ", ")), last)
	}
	return p
}

// state is one word for a binding's health.
func (t *target) state(now time.Time) string {
	p := t.problems()
	for _, reason := range []string{attentionAmbiguous, attentionFailing, attentionDrifted} {
		if _, ok := p[reason]; ok {
			return reason
		}
	}
	switch {
	case t.Attempt == nil && t.Scheduled && !t.hasMaterial():
		return statePending
	case t.Attempt == nil:
		return stateReady
	case now.After(t.Attempt.SettleAt):
		return attentionAmbiguous // nobody has come to mark it yet
	default:
		return stateRotating
	}
}

// knownFingerprint is what C1 should show for a decoy that nobody else rotated.
func (t *target) knownFingerprint() string {
	if t.Current != nil {
		return t.Current.Fingerprint
	}
	return t.Baseline
}

// hasMaterial reports whether readers of a scheduled binding can be served.
func (t *target) hasMaterial() bool { return t.Current != nil && t.Current.Material != nil }

// rotationAt is when settle rotates a scheduled target, or zero.
func (t *target) rotationAt() time.Time {
	switch {
	case !t.Scheduled || t.Attempt != nil && !t.Attempt.Settled:
		return time.Time{}
	case t.Trouble != nil:
		return t.Trouble.NextTry
	case t.Attempt != nil:
		return t.Attempt.SettleAt // only a new rotation helps
	default:
		return t.NextRotation
	}
}

// nextLook is when settle has something to do, or zero.
func (t *target) nextLook() time.Time {
	var next time.Time
	consider := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if t.Attempt != nil && !t.Attempt.Settled {
		consider(t.Attempt.SettleAt)
	}
	consider(t.rotationAt())
	consider(t.VerifyAt)
	for _, r := range t.Retire {
		consider(r.At)
	}
	return next
}

// retirementOf returns the index of the version's planned end, or -1.
func (t *target) retirementOf(version int) int {
	return slices.IndexFunc(t.Retire, func(r retirement) bool { return r.Version == version })
}

func (t *target) dropRetirement(version int) {
	t.Retire = slices.DeleteFunc(t.Retire, func(r retirement) bool { return r.Version == version })
}

// storedTarget is how a target's state is stored.
var storedTarget = store.Type[target]{
	What: "state of a target", Format: 1, Copy: (*target).copied,
	Check: func(t *target) error { return t.Ref.check() },
}

// targetKey is the entry of a target's state. The last part of it also names
// the target in the due index and under attention/.
func targetKey(ref targetRef) store.Key { return store.Hashed(targetPrefix, ref.key()) }

// targetNamed is targetKey for a name that comes from a listing.
func targetNamed(name string) store.Key { return store.Fixed(targetPrefix + name) }

// nameOf is the name under which storage knows a target, of 64 hex digits.
func (b *backend) nameOf(ctx context.Context, ref targetRef) (string, error) {
	return b.store.Name(ctx, targetKey(ref))
}

// readTarget reads a target's state; nil if there is none.
func readTarget(ctx context.Context, s *store.Store, ref targetRef) (*target, error) {
	t, err := storedTarget.Read(ctx, s, targetKey(ref))
	switch {
	case store.Unreadable(err):
		return nil, fmt.Errorf("%s: %w", ref, err)
	case err == nil && t != nil && t.Ref != ref:
		return nil, misplaced(ref.String(), t)
	default:
		return t, err
	}
}

// readTargetNamed reads the state of a target that a listing names; nil if
// there is none.
func readTargetNamed(ctx context.Context, s *store.Store, name string) (*target, error) {
	t, err := storedTarget.Read(ctx, s, targetNamed(name))
	if err != nil || t == nil {
		return nil, err
	}
	if own, err := s.Name(ctx, targetKey(t.Ref)); err != nil || own != name {
		return nil, errors.Join(err, misplaced(targetPrefix+name, t))
	}
	return t, nil
}

// misplaced is the error of a state in the place of another one's.
func misplaced(place string, t *target) error {
	return &store.UnreadableError{What: storedTarget.What, Key: place, Cause: fmt.Errorf("it is that of %s", t.Ref)}
}

// copied is the target as storage gives it, sharing nothing that is ever
// changed in place.
func (t *target) copied() *target {
	c := *t
	c.historyLimit, c.pruned, c.unindexed = 0, nil, nil
	c.Attempt = copyOf(t.Attempt)
	if c.Attempt != nil {
		c.Attempt.dueMinute = 0
	}
	c.Current, c.Trouble, c.Decoy = copyOf(t.Current), copyOf(t.Trouble), copyOf(t.Decoy)
	c.Retire, c.Attention, c.Records = slices.Clone(t.Retire), slices.Clone(t.Attention), slices.Clone(t.Records)
	return &c
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// walkTargets reads every target, one at a time, until do returns an error. A
// state that cannot be read does not keep it from the others, and is told in the
// end.
func walkTargets(ctx context.Context, s *store.Store, do func(*target) error) error {
	names, err := s.List(ctx, targetPrefix)
	if err != nil {
		return err
	}
	var unreadable error
	for _, name := range names {
		t, err := readTargetNamed(ctx, s, name)
		if store.Unreadable(err) {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if err := do(t); err != nil {
			return err
		}
	}
	return unreadable
}

// writeTarget stores the state, and beside it in the same round whatever is
// given. It keeps attention/ in step: the mark of a new reason is written
// before the state that relies on it, one that has passed is dropped after. In
// the ordinary case it is one write. What the index holds of records that are
// kept no longer is left in t.pruned.
func writeTarget(ctx context.Context, s *store.Store, t *target, beside ...func(context.Context) error) error {
	before, records, forgotten, pruned := t.Attention, t.Records, t.Forgotten, t.pruned
	added, passed := t.takeAttention()
	t.pruneRecords()
	err := writeMarked(ctx, s, t, added, beside)
	if err != nil {
		t.Attention, t.Records, t.Forgotten, t.pruned = before, records, forgotten, pruned
		return err
	}
	// What is left to drop is only untidy if it stays.
	for _, reason := range passed {
		_ = dropMark(ctx, s, reason, t.Ref)
	}
	return nil
}

// takeAttention makes Attention the reasons that there are now, and returns
// those that it did not hold before and those that have passed.
func (t *target) takeAttention() (added, passed []string) {
	problems, before := t.problems(), t.Attention
	t.Attention = nil
	for _, reason := range attentionReasons {
		_, now := problems[reason]
		was := slices.Contains(before, reason)
		if now {
			t.Attention = append(t.Attention, reason)
		}
		switch {
		case now && !was:
			added = append(added, reason)
		case was && !now:
			passed = append(passed, reason)
		}
	}
	return added, passed
}

// writeMarked stores the marks, and only then the state, since its next writes
// take for granted that they are there.
func writeMarked(ctx context.Context, s *store.Store, t *target, marks []string, beside []func(context.Context) error) error {
	var first []func() error
	for _, reason := range marks {
		first = append(first, func() error { return putMark(ctx, s, reason, t.Ref) })
	}
	if err := parallel(first...); err != nil {
		return err
	}
	round := []func() error{func() error { return storedTarget.Write(ctx, s, targetKey(t.Ref), t) }}
	for _, write := range beside {
		round = append(round, func() error { return write(ctx) })
	}
	return parallel(round...)
}

// inTurn runs storage writes one after the other, until one fails.
func inTurn(writes ...func() error) error {
	for _, write := range writes {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// parallel runs one round of storage writes and returns the first error.
func parallel(writes ...func() error) error {
	if len(writes) == 1 {
		return writes[0]()
	}
	var group errgroup.Group
	for _, write := range writes {
		group.Go(write)
	}
	return group.Wait()
}
