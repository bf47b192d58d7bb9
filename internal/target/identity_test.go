// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package target_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// ownWorld is a history of a mount's identity: its state, the config, and C1.
type ownWorld struct {
	*rapid.T
	now    time.Time
	terms  target.Terms
	s      *target.State
	config string            // the credential that it holds
	alive  map[string]string // at C1, with the attempt whose name each bears; "" of those by hand
	late   string            // the attempt that C1 commits until its time is over
	minted int

	attempts int
}

func (w *ownWorld) mint(attempt string) string {
	w.minted++
	id := fmt.Sprint("credential ", w.minted)
	w.alive[id] = attempt
	return id
}

func (w *ownWorld) result(id string) target.Result {
	return target.Result{Outcome: target.OutcomeStored, CredentialID: id, ClientID: id, Fingerprint: id}
}

// rotate is one rotation; it ends with one of its outcomes, or dies on the way.
func (w *ownWorld) rotate(t *rapid.T) {
	if w.s.Attempt != nil {
		return // the driver refuses it
	}
	before := w.s
	w.attempts++
	attempt := fmt.Sprint("attempt ", w.attempts)
	w.s = w.s.Begin(target.Origin{ID: attempt, Binding: "config", StartedAt: w.now}, w.now.Add(w.terms.SettleTime)).Copy()
	switch rapid.SampledFrom([]string{"ok", "refused", "useless", "lost", "late", "made", "in config"}).Draw(t, "outcome") {
	case "ok":
		w.config = w.mint(attempt)
		w.s = w.s.Succeeded(w.now, w.terms, w.result(w.config)).Copy()
	case "refused":
		w.s = before.Refused(w.now, target.Origin{ID: attempt}, "no").Copy()
	case "useless":
		w.s = before.Refused(w.now, target.Origin{ID: attempt}, "it does less").Orphaned(w.now, w.mint(attempt)).Copy()
	case "lost":
		w.s = w.s.Unknown("lost").Copy()
	case "late":
		w.late = attempt
	case "made":
		w.mint(attempt)
	case "in config":
		w.config = w.mint(attempt)
	}
}

// settle does what Next says, as the drivers do.
func (w *ownWorld) settle(t *rapid.T) {
	step := w.s.Next(w.now)
	if !step.Due(w.now) {
		return
	}
	switch step.Do {
	case target.Resolve:
		require.False(w, w.now.Before(w.s.Attempt.CommitBy), "C1 may still commit it")
		made := target.Made{}
		for id, attempt := range w.alive {
			switch {
			case attempt != w.s.Attempt.ID:
			case id == w.config:
				result := w.result(id)
				made.InUse = &result
			default:
				made.Orphans = append(made.Orphans, id)
			}
		}
		w.s = w.s.Concluded(w.now, w.terms, made).Copy()
	case target.Look:
		n, _ := w.s.Observed(w.now, w.terms, target.Seen{})
		w.s = n.Copy()
	case target.Rotate:
		w.rotate(t)
	case target.Retire:
		for _, r := range w.s.DueEnds(w.now) {
			require.NotEqual(w, w.config, r.CredentialID, "the credential in config would be ended")
			if rapid.Bool().Draw(t, "C1 is away") {
				w.s = w.s.Retired(w.now, r.Version, errors.New("away")).Copy()
				continue
			}
			delete(w.alive, r.CredentialID)
			w.s = w.s.Retired(w.now, r.Version, nil).Copy()
		}
	}
	w.follow()
}

// follow has the state follow the config, as the drivers do.
func (w *ownWorld) follow() {
	if w.s.Attempt == nil && w.s.Current.ClientID != w.config {
		w.s = w.s.Adopted(w.now, target.Origin{Reason: target.ReasonConfig}, target.Credential{
			CredentialID: w.config, ClientID: w.config, Fingerprint: w.config,
		}, w.now.Add(w.terms.GracePeriod)).Copy()
	}
}

// pass lets time pass; C1 commits what is late before its time is over.
func (w *ownWorld) pass(d time.Duration) {
	if w.late != "" {
		w.mint(w.late)
		w.late = ""
	}
	w.now = w.now.Add(d)
}

func (w *ownWorld) check() {
	require.Contains(w, w.alive, w.config, "the credential in config is dead")
	stored(w, w.s)
	versions := map[int]bool{}
	for _, r := range w.s.Retire {
		require.False(w, versions[r.Version], "two ends of one version")
		versions[r.Version] = true
	}
}

func TestNoHistoryOfAnIdentityLosesIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := &ownWorld{T: rt, now: time.Unix(1e9, 0).UTC(), alive: map[string]string{}}
		w.terms = target.Terms{SettleTime: time.Minute, CheckEvery: 24 * time.Hour, Scheduled: true, GracePeriod: time.Hour}
		w.terms.Schedule = rapid.SampledFrom([]target.Schedule{{}, {Period: 48 * time.Hour}, {Cron: "0 3 * * 1"}}).Draw(rt, "schedule")
		w.config = w.mint("")
		w.s = target.New(target.Ref{Kind: target.Identity}, 0).Claimed("config", "https://acme.conductor.one", "").Adopted(w.now, target.Origin{}, target.Credential{
			CredentialID: w.config, ClientID: w.config, Fingerprint: w.config,
		}, w.now).ComesToBeScheduled(w.now, w.terms.Schedule, time.Time{}).Rescheduled(w.now, w.terms.Schedule).Copy()
		rt.Repeat(map[string]func(*rapid.T){
			"rotate": w.rotate,
			"settle": w.settle,
			"wait": func(t *rapid.T) {
				w.pass(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 50 * time.Hour}).Draw(t, "time"))
			},
			"write by hand": func(*rapid.T) {
				w.config = w.mint("")
				w.follow()
			},
			"": func(*rapid.T) { w.check() },
		})
		w.comesToRest()
	})
}

// comesToRest says that in the end nothing that the mount has made is alive but what is
// in the config.
func (w *ownWorld) comesToRest() {
	w.terms.Schedule = target.Schedule{}
	w.s = w.s.Rescheduled(w.now, w.terms.Schedule).Copy()
	for range 40 {
		w.pass(2 * time.Hour)
		for range 5 {
			if step := w.s.Next(w.now); step.Do == target.Retire && step.Due(w.now) {
				for _, r := range w.s.DueEnds(w.now) {
					delete(w.alive, r.CredentialID)
					w.s = w.s.Retired(w.now, r.Version, nil).Copy()
				}
			} else if step.Do != target.Rotate {
				w.settle(w.T)
			}
		}
		w.follow()
		w.check()
	}
	require.Nil(w, w.s.Attempt)
	require.Empty(w, w.s.Retire)
	for id, attempt := range w.alive {
		require.True(w, id == w.config || attempt == "", "%s is alive and nobody ends it", id)
	}
	require.Equal(w, target.Ready, w.s.Health(w.now), w.s.ProblemList())
	require.True(w, slices.Contains([]string{"", w.config}, w.s.Current.ClientID))
}
