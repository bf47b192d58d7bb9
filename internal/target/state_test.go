// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// world is a history of one target: its state, and what C1 holds.
type world struct {
	*rapid.T
	now    time.Time
	terms  target.Terms
	s      *target.State
	before *target.State // of the attempt that is open
	filed  map[target.Place]target.Record
	steps  int
	minted int    // rotations that C1 has made
	live   string // what C1 holds
	late   string // what C1 will hold when it commits late, until commitBy
}

// take makes a state the current one, as the drivers do: what it counts is filed, and
// the state before is as it was.
func (w *world) take(n *target.State) {
	for _, f := range n.Unfiled() {
		w.filed[f.Place] = *f.Record
	}
	w.s = n.Copy()
}

// pure says that a transition leaves the state that it is given as it is.
func (w *world) pure(transition func(*target.State) *target.State) {
	w.steps++
	if w.steps%8 != 0 { // it costs more than the transition
		w.take(transition(w.s))
		return
	}
	before, err := json.Marshal(w.s)
	require.NoError(w, err)
	s := w.s
	n := transition(s)
	after, err := json.Marshal(s)
	require.NoError(w, err)
	require.Equal(w, string(before), string(after))
	w.take(n)
}

func (w *world) begin() {
	if w.s.Full() {
		return
	}
	w.before = w.s
	commitBy := w.now.Add(w.terms.SettleTime)
	w.pure(func(s *target.State) *target.State {
		return s.Begin(target.Origin{
			ID: fmt.Sprint(w.now.UnixNano()), Binding: "b", Reason: target.ReasonWrite,
			RequestID: fmt.Sprint(w.now.UnixNano()), StartedAt: w.now,
		}, commitBy)
	})
	require.Equal(w, target.Asking, w.s.Attempt.Phase)
}

func (w *world) mint() string {
	w.minted++
	return fmt.Sprint("secret ", w.minted)
}

// rotate is one rotation with one of its outcomes.
func (w *world) rotate(t *rapid.T) {
	w.begin()
	if w.s.Attempt == nil {
		return
	}
	switch rapid.SampledFrom([]string{"ok", "ok", "refused", "lost", "committed", "late", "died"}).Draw(t, "outcome") {
	case "ok":
		w.live, w.late = w.mint(), ""
		result := target.Result{Outcome: target.OutcomeStored, Material: w.material(t), ClientID: "x"}
		result.Fingerprint = w.live
		if w.s.Ref.Kind == target.Connector {
			result.CredentialID = w.live
		}
		if !w.terms.Scheduled {
			result.Outcome, result.EndsAt = target.OutcomeIssued, w.now.Add(time.Hour)
		}
		w.pure(func(s *target.State) *target.State { return s.Succeeded(w.now, w.terms, result) })
		require.Nil(w, w.s.Attempt)
	case "refused":
		o, before := w.s.Attempt.Origin, w.before
		w.pure(func(*target.State) *target.State { return before.Refused(w.now, o, "no") })
		require.Equal(w, before.Attempt, w.s.Attempt, "what would have been superseded is as open as before")
	case "committed":
		w.live, w.late = w.mint(), ""
		w.pure(func(s *target.State) *target.State { return s.Unknown("lost") })
	case "late":
		w.late = w.mint()
		w.pure(func(s *target.State) *target.State { return s.Unknown("late") })
	case "lost":
		w.pure(func(s *target.State) *target.State { return s.Unknown("lost") })
	}
}

// material is what C1 has made, in the form in which it is vended. The clocks of C1
// and of the engine need not agree, nor need C1 show the fingerprint of the secret.
func (w *world) material(t *rapid.T) map[string]any {
	m := map[string]any{"client_id": "x", "client_secret": w.live}
	if rapid.Bool().Draw(t, "C1 shows the fingerprint of the secret") {
		w.live = hexSHA256(w.live)
	}
	m["fingerprint_sha256"] = w.live
	if ref := w.s.Ref; ref.Kind == target.Connector {
		behind := time.Duration(rapid.IntRange(0, 1).Draw(t, "C1's clock is behind")) * time.Second
		maps.Copy(m, map[string]any{
			"app_id": ref.AppID, "connector_id": ref.ConnectorID, "credential_id": w.live,
			"created_at": w.now.Add(-behind).Format(time.RFC3339), "expires_at": "",
		})
	} else {
		m["decoy_id"] = ref.DecoyID
	}
	return m
}

func hexSHA256(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// stored returns what storage is given of a state, which reads back as it was.
func stored(t require.TestingT, s *target.State) []byte {
	raw, err := json.Marshal(s)
	require.NoError(t, err)
	var back target.State
	require.NoError(t, json.Unmarshal(raw, &back))
	require.NoError(t, back.Restore())
	kept := s.Copy()
	if len(kept.Retire) == 0 {
		kept.Retire = nil
	}
	require.Equal(t, kept, &back)
	return raw
}

// settle does what Next says, as the driver does.
func (w *world) settle(t *rapid.T) {
	w.pure(func(s *target.State) *target.State { return s.Missed(w.now, w.terms) })
	step := w.s.Next(w.now)
	if !step.Due(w.now) {
		return
	}
	switch step.Do {
	case target.Resolve:
		require.False(w, w.now.Before(w.s.Attempt.CommitBy), "C1 may still commit it")
		switch {
		case !w.s.Resolvable():
			w.pure((*target.State).Undecidable)
			require.Equal(w, target.Lost, w.s.Attempt.Phase)
		case rapid.Bool().Draw(t, "C1 is away"):
			w.pure(func(s *target.State) *target.State { return s.Unseen(w.now) })
		default:
			w.pure(func(s *target.State) *target.State {
				return s.Decided(w.now, w.terms, target.Seen{Fingerprint: w.live})
			})
		}
	case target.Look:
		require.Nil(w, w.s.Attempt)
		seen := target.Seen{Fingerprint: w.live}
		if w.s.Current != nil && target.Differs(w.live, w.s.Current.Fingerprint) {
			seen.Drift = "another one"
		}
		w.pure(func(s *target.State) *target.State { n, _ := s.Observed(w.now, w.terms, seen); return n })
	case target.Rotate:
		require.True(w, w.s.Scheduled)
		require.Nil(w, w.s.Paused)
		if window := w.terms.Schedule.Window; window > 0 && w.s.ClockReason() != target.ReasonRecovery {
			require.True(w, w.now.Before(w.s.NextRotation.Add(window)), "outside of its window")
		}
		w.rotate(t)
		if a := w.s.Attempt; a != nil || w.s.RotationAt().Before(w.now) {
			unknown := a != nil
			w.pure(func(s *target.State) *target.State { return s.Failed(w.now, w.terms, "no", unknown) })
		}
	case target.Retire:
		var failure error
		if rapid.Bool().Draw(t, "C1 refuses") {
			failure = errors.New("no")
		}
		for _, r := range w.s.DueEnds(w.now) {
			w.pure(func(s *target.State) *target.State { return s.Retired(w.now, r.Version, failure) })
		}
	}
}

// pause has the clock rotate nothing, or go on.
func (w *world) pause(*rapid.T) {
	switch {
	case !w.s.Scheduled:
	case w.s.Paused == nil:
		w.pure(func(s *target.State) *target.State {
			return s.WithPause(w.now, w.terms, target.Pause{Reason: "x", At: w.now})
		})
	default:
		overdue := w.s.NextRotation.Before(w.now)
		w.pure(func(s *target.State) *target.State { return s.Resumed(w.now, w.terms) })
		if overdue && w.s.Attempt == nil && (w.s.Failing == nil || !w.s.Failing.Waits) {
			require.False(w, w.s.RotationAt().After(w.now), "what is overdue is due at once")
		}
	}
}

// pass lets time pass, and C1 commit late.
func (w *world) pass(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
	if w.late != "" {
		w.live, w.late = w.late, ""
	}
}

// check is what holds after each step.
func (w *world) check() {
	s := w.s
	for _, class := range []target.Class{target.ClassIssued, target.ClassOther} {
		shelf := s.Shelf(class)
		for n := shelf.First; n < shelf.Next; n++ {
			r, ok := w.filed[target.Place{Class: class, Number: n}]
			require.True(w, ok, "record %d of class %s is counted and not there", n, class)
			require.Equal(w, class, r.Class())
		}
	}
	if s.Scheduled && s.Paused == nil {
		require.NotEqual(w, target.Nothing, s.Next(w.now).Do, "nobody will come again")
	}
	if s.Paused != nil {
		require.Zero(w, s.RotationAt())
		require.NotEmpty(w, s.Problems()[target.AttentionPaused])
	}
	dead := s.Current != nil && w.live != s.Current.Fingerprint
	if dead && w.late == "" && s.Health(w.now) == target.Ready {
		require.NotNil(w, s.Recheck, "it is ready, dead, and nobody will look")
	}
	if w.steps%8 == 0 {
		require.Less(w, len(stored(w, s))-150*len(s.Retire), 1500)
	}
}

func TestNoHistoryOfAStateLosesAnything(t *testing.T) {
	t.Parallel()
	for name, schedule := range map[string]target.Schedule{
		"scheduled": {Period: time.Hour}, "in a window": {Cron: "0 */3 * * *", Window: time.Hour}, "leased": {},
	} {
		scheduled := schedule != target.Schedule{}
		for _, ref := range []target.Ref{{Kind: target.Decoy, DecoyID: "d"}, {Kind: target.Connector, AppID: "a", ConnectorID: "c"}} {
			t.Run(name+" "+string(ref.Kind), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(rt *rapid.T) {
					w := &world{T: rt, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), filed: map[target.Place]target.Record{}}
					w.terms = target.Terms{SettleTime: time.Minute, CheckEvery: 6 * time.Hour, Scheduled: scheduled}
					w.s = target.New(ref, 1000).Claimed("b", "https://t", "")
					if scheduled {
						w.terms.Schedule, w.terms.GracePeriod = schedule, 10*time.Minute
						w.s = w.s.ComesToBeScheduled(w.now, w.terms.Schedule, w.now)
					}
					rt.Repeat(map[string]func(*rapid.T){
						"rotate": w.rotate, "settle": w.settle, "settle again": w.settle, "time": w.pass, "pause": w.pause,
						"": func(*rapid.T) { w.check() },
					})
				})
			})
		}
	}
}
