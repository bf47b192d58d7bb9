// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// use logs in with a decoy's material, as a thief would.
// It returns when C1 noticed it, as the engine shows it.
func (e *engine) use(vended *logical.Response) (at string) {
	e.Helper()
	require.False(e, e.alive(vended), "a decoy does not log in")
	findings := e.c1.Findings()
	return rfc3339(findings[len(findings)-1].Time)
}

// used are the events that say that a decoy was used.
func (e *engine) used() (dates []string) {
	e.Helper()
	e.b.work.Wait()
	for _, event := range e.events.Events {
		if event.Type == "c1/decoy-used" {
			dates = append(dates, event.Event.Metadata.AsMap()["last_used_at"].(string))
		}
	}
	return dates
}

func TestTheUseOfALeasedDecoyIsNoticedOncePerCheckPeriod(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindConnectorClient, "check_period", "1h")
	shown := e.read("decoys/bait").Data
	require.Equal(t, int64(3600), shown["check_period"])
	require.Empty(t, shown["last_used_at"])
	require.Equal(t, false, shown["disabled"])
	require.NotEmpty(t, shown["checked_at"], "the binding's write asked C1")
	bait := e.write("decoy-creds/bait")
	e.after(2 * time.Minute)

	at := e.use(bait)
	asked := e.c1.Requests(c1test.OpGetDecoy)
	e.after(30 * time.Minute)
	require.Equal(t, asked, e.c1.Requests(c1test.OpGetDecoy), "not yet")
	require.Empty(t, e.read("decoys/bait").Data["last_used_at"])
	e.after(30 * time.Minute)
	require.Equal(t, asked+1, e.c1.Requests(c1test.OpGetDecoy))
	require.Equal(t, at, e.read("decoys/bait").Data["last_used_at"])
	require.Equal(t, []string{at}, e.used())
	for range 3 {
		e.after(time.Hour)
	}
	require.Equal(t, asked+4, e.c1.Requests(c1test.OpGetDecoy), "once per period")
	require.Equal(t, []string{at}, e.used(), "told once")
	again := e.use(bait)
	e.after(time.Hour)
	require.Equal(t, []string{at, again}, e.used())
	require.Equal(t, true, e.read("status").Data["healthy"], "used bait is no trouble of the mount's")
}

func TestUseBeforeTheMountKnewTheDecoyIsNoNews(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("first", c1test.KindConnectorClient)
	bait := e.write("decoy-creds/first")
	e.use(bait)
	e.must(logical.DeleteOperation, "decoys/first", nil)
	other := configured(t, func(o *c1test.Options) { o.Now = e.clock.now })
	other.emu, other.c1 = e.emu, e.c1
	other.configure(e.c1)
	other.must(logical.CreateOperation, "decoys/second", fields("decoy_id", id, "rotate_on", "write"))
	require.NotEmpty(t, other.read("decoys/second").Data["last_used_at"])
	require.Empty(t, other.used())
}

func TestARotationTellsOfADecoysUseToo(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindConnectorClient)
	bait := e.write("decoy-creds/bait")
	e.use(bait)
	e.write("decoy-creds/bait")
	require.Len(t, e.used(), 1)
}

func TestWhatBecomesOfALeasedDecoyShows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		does  func(*engine, string)
		state string
		says  string
	}{
		"rotated by somebody else": {func(e *engine, id string) { e.c1.RotateDecoy(id) }, target.AttentionDrifted, "a different fingerprint"},
		"deleted":                  {func(e *engine, id string) { e.c1.DeleteDecoy(id) }, target.AttentionDrifted, "gone at C1"},
		"nothing":                  {func(*engine, string) {}, target.Ready, ""},
		"the feature switched off": {func(e *engine, _ string) { e.c1.SetDecoyFeature(false) }, target.Ready, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			id := e.bindDecoy("bait", c1test.KindAccessToken)
			e.write("decoy-creds/bait")
			rotations := e.c1.Requests(c1test.OpRotateDecoy)
			tc.does(e, id)
			e.after(defaultDriftCheck + time.Minute)
			shown := e.read("decoys/bait").Data
			require.Equal(t, tc.state, shown["state"], shown["problems"])
			require.Contains(t, fmt.Sprint(shown["problems"]), tc.says)
			require.Equal(t, rotations, e.c1.Requests(c1test.OpRotateDecoy), "a check rotates nothing")
			e.c1.SetDecoyFeature(true)
			e.after(defaultDriftCheck + time.Minute)
			require.Equal(t, tc.state, e.read("decoys/bait").Data["state"])
		})
	}
}

func TestADriftCheckPeriodTakesEffectForAllBindings(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "drift_check_period", 0)
	ref := e.scheduled("hr", "rotation_period", "1000h")
	id := e.bindDecoy("bait", c1test.KindAccessToken)
	own := e.c1.NewDecoy(c1test.KindAccessToken, "own", nil)
	e.must(logical.CreateOperation, "decoys/own", fields("decoy_id", own, "rotate_on", "write", "check_period", "500h"))
	e.after(48 * time.Hour)
	asked := func() [2]int {
		return [2]int{e.c1.Requests(c1test.OpGetConnectorCredential), e.c1.Requests(c1test.OpGetDecoy)}
	}
	before := asked()

	e.write("config", "drift_check_period", "1h")
	e.b.work.Wait()
	keys, err := logical.CollectKeys(t.Context(), e.storage.Storage)
	require.NoError(t, err)
	require.NotContains(t, keys, replanKey, "it is done")
	e.after(time.Hour)
	require.Equal(t, [2]int{before[0] + 1, before[1] + 1}, asked(), "what has a period of its own keeps it")
	require.False(t, recheckAt(e.state(connectorTarget(ref))).IsZero())
	require.False(t, recheckAt(e.state(decoyTarget(id))).IsZero())

	e.write("config", "drift_check_period", 0)
	e.b.work.Wait()
	before = asked()
	e.after(72 * time.Hour)
	require.Equal(t, before, asked(), "and so does 0")
}

func TestADriftCheckPeriodTakesEffectAfterADeath(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "drift_check_period", 0)
	ref := e.scheduled("hr", "rotation_period", "1000h")
	e.storage.failWhen(func(op, prefix string) bool { return op == "list" && prefix == bindingPrefix })
	e.write("config", "drift_check_period", "1h")
	e.b.work.Wait()
	require.True(t, recheckAt(e.state(connectorTarget(ref))).IsZero())
	e.storage.failWhen(nil)
	e.restart()
	e.b.replanInBackground() // as the worker does when it starts
	e.b.work.Wait()
	require.False(t, recheckAt(e.state(connectorTarget(ref))).IsZero())
}

func TestWritingABindingAgainDoesNotPutOffItsCheck(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.scheduled("hr", "rotation_period", "1000h")
	planned := recheckAt(e.state(connectorTarget(ref)))
	require.False(t, planned.IsZero())
	for range 5 {
		e.clock.advance(4 * time.Hour)
		e.write("connectors/hr", "rotation_period", "1000h", "metadata", map[string]any{"team": "people"})
		require.Equal(t, planned, recheckAt(e.state(connectorTarget(ref))))
	}
}

func TestADeletedBindingIsNotCheckedAnyMore(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "rotation_period", "1000h")
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.write("decoy-creds/bait")
	e.must(logical.DeleteOperation, "connectors/hr", nil)
	e.must(logical.DeleteOperation, "decoys/bait", nil)
	e.after(time.Hour)
	asked := e.asked()
	e.after(100 * time.Hour)
	require.Equal(t, asked, e.asked())
	require.Equal(t, true, e.read("status").Data["healthy"])
}

// annotations are the decoy's at C1, as a finding would show them.
func (e *engine) annotations(vended *logical.Response) map[string]string {
	e.Helper()
	e.use(vended)
	findings := e.c1.Findings()
	return findings[len(findings)-1].Annotations
}

func TestAFindingSaysWhereTheCopyWas(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindConnectorClient, "annotate", true)
	require.Equal(t, true, e.read("decoys/bait").Data["annotate"])
	bait := e.write("decoy-creds/bait", "placement", "web-1:/srv/.env")
	require.Empty(t, bait.Warnings)
	shown := e.annotations(bait)
	require.Equal(t, "web-1:/srv/.env", shown["vault/placement"])
	require.Equal(t, "1", shown["vault/version"])
	require.Equal(t, "production", shown["environment"], "what others wrote stays")

	long := e.write("decoy-creds/bait", "placement", strings.Repeat("ü", 250)+" web-2")
	require.Equal(t, 256, len([]rune(e.annotations(long)["vault/placement"])))
	resp := e.write("decoy-creds/bait", "placement", strings.Repeat("x", maxLabelLength))
	require.Contains(t, resp.Warnings[0], "cut to 256")
	require.Equal(t, 256, len(e.annotations(resp)["vault/placement"])-len("…")+1)

	unplaced := e.write("decoy-creds/bait")
	require.NotContains(t, e.annotations(unplaced), "vault/placement", "the one before is another copy's")
	require.Equal(t, "4", e.annotations(unplaced)["vault/version"])
}

func TestAnAnnotationThatFailsLosesNoVend(t *testing.T) {
	t.Parallel()
	for _, rotateOn := range []string{rotateOnWrite, rotateOnSchedule} {
		e := configured(t)
		e.write("config", "max_retries", 0)
		id := e.bindDecoy("bait", c1test.KindConnectorClient, "annotate", true, "rotate_on", rotateOn)
		for _, status := range []int{http.StatusForbidden, http.StatusBadRequest, http.StatusInternalServerError, http.StatusNotFound} {
			e.c1.AddFault(c1test.Fault{Op: c1test.OpUpdateDecoy, Status: status, Times: 1})
			bait := e.write("decoy-creds/bait", "placement", "web-1")
			require.NotEmpty(t, bait.Data["client_secret"])
			require.Contains(t, strings.Join(bait.Warnings, "\n"), "annotations at C1 do not say where this copy is")
			require.Equal(t, bait.Data["fingerprint_sha256"], e.c1.DecoyFingerprint(id))
		}
		require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
	}
}

func TestAScheduledDecoyIsAnnotatedByTheClockToo(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.scheduledDecoy("bait", c1test.KindConnectorClient, "annotate", true)
	e.write("decoys/bait/rotate", "placement", "web-1")
	require.Equal(t, "web-1", e.annotations(e.read("decoy-creds/bait"))["vault/placement"])
	for range 3 {
		e.after(time.Hour)
	}
	version := e.state(decoyTarget(id)).Version
	require.Greater(t, version, 2)
	shown := e.annotations(e.read("decoy-creds/bait"))
	require.Equal(t, fmt.Sprint(version), shown["vault/version"])
	require.NotContains(t, shown, "vault/placement")
}

func TestDecoyFieldsAreTheDecoysAlone(t *testing.T) {
	t.Parallel()
	e := configured(t)
	for _, pair := range [][]any{{"check_period", "1h"}, {"annotate", true}} {
		f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData(pair...))
		require.Contains(t, f.message, "unknown field")
	}
	id := e.c1.Decoy(c1test.KindAccessToken)
	for _, bad := range []any{"1s", "59s", "99999h", -1, "soon"} {
		f := e.refused(logical.CreateOperation, "decoys/bait", fields("decoy_id", id, "rotate_on", "write", "check_period", bad))
		require.Contains(t, f.message, "check_period")
	}
	_, err := readBinding(context.Background(), e.disk(), target.Decoy, "bait")
	require.NoError(t, err)
	require.Nil(t, e.read("decoys/bait"))
}
