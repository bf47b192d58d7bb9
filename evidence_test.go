// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
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

// What a router answers to a method or route that it does not know.
var unknownRoute = map[string]c1test.Fault{
	"404 in C1's form": {Status: http.StatusNotFound},
	"404 of a proxy":   {Status: http.StatusNotFound, Body: "<html>not here</html>"},
	"405":              {Status: http.StatusMethodNotAllowed},
	"501":              {Status: http.StatusNotImplemented},
}

// withUnknownRoute runs a test with each of them.
func withUnknownRoute(t *testing.T, op string, test func(*engine, *c1test.FaultHandle)) {
	t.Helper()
	for name, fault := range unknownRoute {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			e.write("config", "max_retries", 0)
			fault.Op = op
			unknown := e.c1.AddFault(fault)
			test(e, unknown)
		})
	}
}

// requireRetiring checks that something waits to be ended, and why.
func (e *engine) requireRetiring(says string) {
	e.Helper()
	status := e.read("status").Data
	require.Equal(e, 1, status["retiring"])
	require.Equal(e, false, status["healthy"])
	require.Contains(e, fmt.Sprint(status["attention"]), says)
}

// endedAt is when the engine believes that a version of a binding ended.
func (e *engine) endedAt(binding string, version int) string {
	e.Helper()
	for _, record := range e.history(binding) {
		if record["version"] == version {
			return record["ended_at"].(string)
		}
	}
	e.Fatalf("no version %d of %s", version, binding)
	return ""
}

func TestALeaseEndThatC1DoesNotKnowLeavesTheCredentialAliveAndTold(t *testing.T) {
	t.Parallel()
	withUnknownRoute(t, c1test.OpRevokeConnectorCredential, func(e *engine, unknown *c1test.FaultHandle) {
		e.bindConnector("hr")
		vended := e.vend("connector-creds/hr")
		_, err := e.revoke(vended.Secret)
		require.NoError(e, err, "Vault's lease ends")
		for range 5 {
			require.True(e, e.alive(vended))
			require.Empty(e, e.endedAt("connectors/hr", 1))
			e.requireRetiring("C1 still shows the credential")
			e.after(2 * retryMax)
		}
		unknown.Clear()
		e.after(2 * retryMax)
		require.False(e, e.alive(vended))
		require.NotEmpty(e, e.endedAt("connectors/hr", 1))
		require.Equal(e, true, e.read("status").Data["healthy"])
	})
}

func TestAGracePeriodThatC1DoesNotKnowTheEndOfIsTold(t *testing.T) {
	t.Parallel()
	withUnknownRoute(t, c1test.OpRevokeConnectorCredential, func(e *engine, unknown *c1test.FaultHandle) {
		e.c1.SetSemantics(c1test.Overlapping)
		ref := e.scheduled("hr", "rotation_period", "1000h", "grace_period", "2m")
		e.write("connectors/hr/rotate")
		e.after(5 * time.Minute)
		require.Len(e, e.c1.AliveCredentials(ref), 2)
		require.Empty(e, e.endedAt("connectors/hr", 1))
		e.requireRetiring("C1 still shows the credential")
		unknown.Clear()
		e.after(2 * retryMax)
		require.Len(e, e.c1.AliveCredentials(ref), 1)
		require.NotEmpty(e, e.endedAt("connectors/hr", 1))
	})
}

func TestADecoysLeaseEndWaitsForAFeatureThatIsOff(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", leaseEndRotate)
	vended := e.write("decoy-creds/bait")
	planted := e.c1.DecoyFingerprint(id)
	e.c1.SetDecoyFeature(false)
	_, err := e.revoke(vended.Secret)
	require.NoError(t, err)
	for range 5 {
		require.Empty(t, e.endedAt("decoys/bait", 1))
		e.requireRetiring("may be switched off")
		e.after(2 * retryMax)
	}
	e.c1.SetDecoyFeature(true)
	e.after(2 * retryMax)
	require.NotEqual(t, planted, e.c1.DecoyFingerprint(id))
	require.NotEmpty(t, e.endedAt("decoys/bait", 1))
	require.Equal(t, true, e.read("status").Data["healthy"])
}

func TestACheckOfWhatC1DoesNotKnowTheRouteToFindsNothing(t *testing.T) {
	t.Parallel()
	withUnknownRoute(t, c1test.OpGetConnectorCredential, func(e *engine, _ *c1test.FaultHandle) {
		e.c1.SetConnectorFeature(true)
		e.scheduled("hr", "rotation_period", "1000h")
		e.c1.AddFault(c1test.Fault{Op: c1test.OpGetConnector, Status: http.StatusNotFound})
		e.after(3 * defaultDriftCheck)
		require.Equal(e, target.Ready, e.read("connectors/hr").Data["state"])
		require.Equal(e, 1, e.c1.Changes(c1test.OpRotateConnector))
	})
}

func TestAnUnknownOutcomeWaitsForAFeatureThatIsOff(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.write("decoy-creds/bait")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, DropBefore: true, Times: 1})
	require.Equal(t, http.StatusConflict, e.refused(logical.UpdateOperation, "decoy-creds/bait", nil).status)
	e.c1.SetDecoyFeature(false)
	for range 3 {
		e.after(2 * retryMax)
		shown := e.read("decoys/bait").Data
		require.Equal(t, target.AttentionAmbiguous, shown["state"])
		require.NotContains(t, fmt.Sprint(shown["problems"]), "gone", "nobody said so")
	}
	e.c1.SetDecoyFeature(true)
	e.after(2 * retryMax)
	require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"], "the fingerprint says that C1 did not rotate")
}

func TestNothingDeadIsRetried(t *testing.T) {
	t.Parallel()
	for _, form := range []c1test.RevokedAnswer{c1test.RevokedNotFound, c1test.RevokedShown} {
		for name, die := range map[string]func(*engine, c1test.ConnectorRef, string){
			"revoked":           func(e *engine, _ c1test.ConnectorRef, id string) { e.c1.RevokeCredential(id) },
			"rotated away":      func(e *engine, ref c1test.ConnectorRef, _ string) { e.c1.RotateConnector(ref) },
			"connector deleted": func(e *engine, ref c1test.ConnectorRef, _ string) { e.c1.DeleteConnector(ref) },
			"app deleted":       func(e *engine, ref c1test.ConnectorRef, _ string) { e.c1.DeleteApp(ref.AppID) },
			"expired":           func(e *engine, _ c1test.ConnectorRef, _ string) { e.clock.advance(31 * time.Minute) },
		} {
			t.Run(string(form)+"/"+name, func(t *testing.T) {
				t.Parallel()
				e := configured(t)
				e.c1.SetSemantics(c1test.Exclusive)
				e.c1.SetRevokedAnswer(form)
				e.c1.SetCredentialTTL(30 * time.Minute)
				ref := e.bindConnector("hr")
				vended := e.vend("connector-creds/hr")
				die(e, ref, vended.Data["credential_id"].(string))
				_, err := e.revoke(vended.Secret)
				require.NoError(t, err)
				require.NotEmpty(t, e.endedAt("connectors/hr", 1))
				e.after(time.Hour)
				asked := e.asked()
				e.after(100 * time.Hour)
				require.Equal(t, asked, e.asked())
				require.Equal(t, true, e.read("status").Data["healthy"])
			})
		}
	}
}

// oddAnswers are fields that C1 could send in another form than published, beside
// an ID, a client ID and a secret that are good.
func oddAnswers(below string) map[string]map[string]any {
	odd := map[string]map[string]any{}
	for _, field := range []string{"lastUsedAt", "createdAt", "updatedAt"} {
		for name, value := range map[string]any{"empty": "", "a number": 7, "an object": map[string]any{}, "null": nil, "no time": "soon"} {
			odd[field+" "+name] = map[string]any{below + "." + field: value}
		}
	}
	odd["display name a number"] = map[string]any{below + ".displayName": 7}
	odd["display name huge"] = map[string]any{below + ".displayName": strings.Repeat("x", 100_000)}
	odd["display name of lines"] = map[string]any{below + ".displayName": "a\nb\x1b[2J\u202Ec"}
	return odd
}

func TestAGoodSecretIsNeverThrownAwayForWhatStandsBesideIt(t *testing.T) {
	t.Parallel()
	for name, set := range oddAnswers("credential") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			e.bindConnector("hr")
			e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Set: set})
			vended := e.vend("connector-creds/hr")
			require.True(t, e.alive(vended))
			require.LessOrEqual(t, len(vended.Data["display_name"].(string)), 1100)
			require.NotContains(t, vended.Data["display_name"], "\n")
			require.NotContains(t, vended.Data["display_name"], "\u202E")

			e.must(logical.DeleteOperation, "connectors/hr", nil)
			ref := e.scheduled("clock")
			for range 2 {
				e.after(time.Hour)
			}
			require.Equal(t, 4, e.c1.Changes(c1test.OpRotateConnector), "one by the read, one at the start, two by the clock")
			require.Equal(t, target.Ready, e.read("connectors/clock").Data["state"])
			require.NotEmpty(t, e.state(connectorTarget(ref)).Current.Material)
		})
	}
	for name, set := range oddAnswers("decoy") {
		t.Run("decoy: "+name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			id := e.bindDecoy("bait", c1test.KindConnectorClient)
			e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, Set: set})
			vended := e.write("decoy-creds/bait")
			require.Equal(t, e.c1.DecoyFingerprint(id), vended.Data["fingerprint_sha256"])
			require.Equal(t, target.Ready, e.read("decoys/bait").Data["state"])
		})
	}
}

func TestWhatCouldNotBeReadIsAWarning(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Set: map[string]any{"credential.lastUsedAt": "yesterday"}})
	resp := e.vend("connector-creds/hr")
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "lastUsedAt")
	require.Contains(t, e.history("connectors/hr")[0]["warning"], "lastUsedAt")
	require.Equal(t, target.Ready, e.read("connectors/hr").Data["state"], "that is no drift")
}

func TestACredentialThatCouldNeverBeRevokedIsSaidToBeUnusable(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"a step in a path": "..", "overlong": strings.Repeat("x", 1025), "of two lines": "a\nb", "empty": ""} {
		e := configured(t)
		e.bindConnector("hr")
		e.c1.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Set: map[string]any{"credential.id": id}})
		f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
		require.Equal(t, http.StatusConflict, f.status, name)
		require.Less(t, len(f.message), 600, name)
		require.Equal(t, target.AttentionAmbiguous, e.read("connectors/hr").Data["state"], name)
	}
}

func TestASecretInDisguiseIsNeverSent(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.c1.Identity()
	for name, secret := range map[string]string{
		"a byte-order mark": "\uFEFF" + id.ClientSecret,
		"double quotes":     `"` + id.ClientSecret + `"`,
		"single quotes":     `'` + id.ClientSecret + `'`,
		"an assignment":     "C1_CLIENT_SECRET=" + id.ClientSecret,
		"a YAML line":       "clientSecret: " + id.ClientSecret,
		"upper case":        "Secret-Token:" + strings.TrimPrefix(id.ClientSecret, "secret-token:"),
		"a space before":    " " + id.ClientSecret,
		"a space inside":    "secret-token :" + strings.TrimPrefix(id.ClientSecret, "secret-token:"),
		"two of them":       id.ClientSecret + "," + id.ClientSecret,
		"percent-encoded":   strings.ReplaceAll(id.ClientSecret, ":", "%3A"),
		"its key alone":     strings.TrimPrefix(id.ClientSecret, "secret-token:conductorone.com:v1:"),
	} {
		for _, data := range []map[string]any{
			fields("client_id", id.ClientID, "client_secret", secret),
			fields("access_token", secret),
		} {
			merge(data, "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM())
			f := e.refused(logical.CreateOperation, "config", data)
			require.Equal(t, http.StatusBadRequest, f.status)
			require.Regexp(t, "^(client_secret|access_token): ", f.message, name)
			require.NotContains(t, f.message, id.ClientSecret[40:], name)
			require.Zero(t, e.c1.Requests(""), "%s: nothing is sent", name)
		}
	}
	require.Nil(t, e.read("config"))
	e.noSecretsIn("the log", e.logs.String())
}

func TestABundleWithABrokenCertificateIsRefused(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.c1.Identity()
	good := e.emu.CACertPEM()
	broken := strings.Replace(good, "MII", "M!I", 1)
	for name, tc := range map[string]struct{ bundle, says string }{
		"the first of two":  {broken + good, "certificate 1"},
		"the second of two": {good + broken, "certificate 2"},
		"cut short":         {good + good[:len(good)/2], "certificate 2"},
		"none at all":       {"just text", "ca_cert"},
	} {
		f := e.refused(logical.CreateOperation, "config", fields("client_id", id.ClientID, "client_secret", id.ClientSecret, "url", e.c1.URL(), "ca_cert", tc.bundle))
		require.Contains(t, f.message, tc.says, name)
		require.Zero(t, e.c1.Requests(""), name)
	}
	e.configure(e.c1, "ca_cert", "# the corporate root\n"+good+"\n# end\n")
}

func TestARotationThatMovesNothingSaysNothingOfAMove(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "rotation_period", 0, "rotation_schedule", "0 3 * * 7")
	resp := e.write("connectors/hr/rotate")
	require.NotContains(t, strings.Join(resp.Warnings, "\n"), "moved", "the next Sunday is the next Sunday")
	e.write("connectors/hr", "rotation_period", "1h")
	e.clock.advance(10 * time.Minute)
	resp = e.write("connectors/hr/rotate")
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "the next scheduled rotation moved from")
}
