// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// rotateRaw rotates the seeded decoy and returns whatever comes back.
func (f *fixture) rotateRaw(t *testing.T) (reply, error) {
	t.Helper()
	path := "/api/v1/decoys/" + f.Decoy(c1test.KindConnectorClient) + "/rotate"
	return f.callWith(t, f.StaticToken(), http.MethodPost, path, "{}")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const longest = 1 << 20 // what the fixture reads
	for name, test := range map[string]struct {
		fault     c1test.Fault
		committed bool
		check     func(*testing.T, reply, error)
	}{
		"status": {c1test.Fault{Status: 429, RetryAfter: "7"}, false, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, 429, r.status)
			assert.Equal(t, "7", r.header.Get("Retry-After"))
			code, _ := r.failure(t)
			assert.Equal(t, 8, code)
		}},
		"status with a page": {c1test.Fault{Status: 502, Body: "<html>"}, false, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, 502, r.status)
			assert.Equal(t, "<html>", string(r.body))
			assert.Contains(t, r.header.Get("Content-Type"), "text/html")
		}},
		"drop before": {c1test.Fault{DropBefore: true}, false, func(t *testing.T, _ reply, err error) {
			assert.ErrorIs(t, err, io.EOF)
		}},
		"redirect": {c1test.Fault{Redirect: "https://elsewhere.example/"}, false, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, http.StatusTemporaryRedirect, r.status)
			assert.Equal(t, "https://elsewhere.example/", r.header.Get("Location"))
		}},
		"drop after": {c1test.Fault{DropAfter: true}, true, func(t *testing.T, _ reply, err error) {
			assert.ErrorIs(t, err, io.EOF)
		}},
		"status after": {c1test.Fault{StatusAfter: 504}, true, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, 504, r.status)
			assert.Contains(t, string(r.body), "<html>")
		}},
		"truncate": {c1test.Fault{Truncate: true}, true, func(t *testing.T, _ reply, err error) {
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}},
		"garbage": {c1test.Fault{Garbage: true}, true, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, 200, r.status)
			assert.NotContains(t, string(r.body), "secret-token")
		}},
		"endless": {c1test.Fault{Endless: true}, true, func(t *testing.T, r reply, _ error) {
			assert.Len(t, r.body, longest)
		}},
		"empty": {c1test.Fault{EmptyAnswer: true}, true, func(t *testing.T, r reply, _ error) {
			assert.Equal(t, 200, r.status)
			assert.Empty(t, r.body)
		}},
		"no material": {c1test.Fault{OmitMaterial: true}, true, func(t *testing.T, r reply, _ error) {
			assert.Contains(t, string(r.body), `"material":null`)
		}},
		"no secret": {c1test.Fault{OmitSecret: true}, true, func(t *testing.T, r reply, _ error) {
			assert.NotEmpty(t, r.field(t, "material", "clientCredential", "clientId"))
			assert.Empty(t, r.field(t, "material", "clientCredential", "clientSecret"))
		}},
		"wrong fingerprint": {c1test.Fault{WrongFingerprint: true}, true, func(t *testing.T, r reply, _ error) {
			var m material
			r.decode(t, &m)
			assert.NotEqual(t, sha(m.secret()), m.Decoy.Fingerprint)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, c1test.Options{TLS: true})
			before := f.DecoyFingerprint(f.Decoy(c1test.KindConnectorClient))
			fault := test.fault
			fault.Op, fault.Times = c1test.OpRotateDecoy, 1
			handle := f.AddFault(fault)
			require.Equal(t, http.StatusOK, f.call(t, http.MethodGet, "/api/v1/decoys", "").status, "another operation")

			answer, err := f.rotateRaw(t)
			test.check(t, answer, err)
			require.Equal(t, 1, handle.Hits())
			require.Equal(t, test.committed, f.DecoyFingerprint(f.Decoy(c1test.KindConnectorClient)) != before)
			require.Equal(t, test.committed, f.Changes(c1test.OpRotateDecoy) == 1)

			answer, err = f.rotateRaw(t)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, answer.status, "the fault was for one request")
			require.Equal(t, 1, handle.Hits())
		})
	}
}

func TestConnectorAnswersCanLackTheirMaterial(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	fault := f.AddFault(c1test.Fault{Object: f.Connector().ConnectorID, OmitMaterial: true})
	answer := f.call(t, http.MethodPost, rotatePath, rotateBody(f.Connector()))
	require.JSONEq(t, `{"credential":null}`, string(answer.body))
	fault.Clear()
	f.AddFault(c1test.Fault{OmitSecret: true})
	minted := f.rotateConnector(t, f.Connector())
	require.NotEmpty(t, minted.ClientID)
	require.Empty(t, minted.ClientSecret)
	f.ClearFaults()
	require.NotEmpty(t, f.rotateConnector(t, f.Connector()).ClientSecret)
	require.Equal(t, 1, fault.Hits())
}

func TestAnswersCanBeShaped(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	long := strings.Repeat("x", 600<<10)
	f.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Times: 1, Set: map[string]any{
		"credential.id": "..", "credential.lastUsedAt": "", "credential.displayName": long,
		"credential.expiresTime": nil, "credential.clientId": c1test.Absent,
		"credential.made.up": 9007199254740993, "extra": []string{"a"},
	}})
	answer := f.call(t, http.MethodPost, rotatePath, rotateBody(f.Connector()))
	require.Equal(t, http.StatusOK, answer.status)
	for field, want := range map[string]any{"id": "..", "lastUsedAt": "", "displayName": long, "expiresTime": nil} {
		require.Equal(t, want, answer.field(t, "credential", field), field)
	}
	require.Contains(t, string(answer.body), `"made":{"up":9007199254740993}`)
	require.Contains(t, string(answer.body), `"extra":["a"]`)
	require.NotContains(t, string(answer.body), "clientId")
	require.NotEmpty(t, answer.field(t, "credential", "clientSecret"), "the rest stays")
	require.Len(t, f.AliveCredentials(f.Connector()), 1, "the state stays")
	require.NotEqual(t, "..", f.AliveCredentials(f.Connector())[0].ID)

	f.AddFault(c1test.Fault{Op: c1test.OpListDecoys, Set: map[string]any{"list.0.displayName": "first", "list.99.id": "x", "nextPageToken": true}})
	answer = f.call(t, http.MethodGet, "/api/v1/decoys", "")
	list, isList := answer.field(t, "list").([]any)
	require.True(t, isList)
	require.Len(t, list, 4)
	require.Equal(t, "first", list[0].(map[string]any)["displayName"])
	require.Equal(t, true, answer.field(t, "nextPageToken"))

	f.AddFault(c1test.Fault{Op: c1test.OpGetDecoy, Set: map[string]any{"decoy": nil}})
	require.JSONEq(t, `{"decoy":null}`, string(f.call(t, http.MethodGet, "/api/v1/decoys/"+f.Decoy(c1test.KindAccessToken), "").body))
	missing := f.call(t, http.MethodGet, "/api/v1/decoys/none", "")
	require.Equal(t, http.StatusNotFound, missing.status)
	require.NotContains(t, string(missing.body), `"decoy":`, "refusals stay as they are")
}

func TestLateCommitHappensWhenItsGateOpens(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	gate := make(chan struct{})
	f.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, Times: 1, CommitLate: gate})
	_, err := f.rotateRaw(t)
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, f.Changes(c1test.OpRotateDecoy))
	close(gate)
	require.Eventually(t, func() bool { return f.Changes(c1test.OpRotateDecoy) == 1 }, 5*time.Second, time.Millisecond)
}

func TestClockOffsetShowsInDateAndChecks(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	me := f.Identity()
	fault := f.AddFault(c1test.Fault{ClockOffset: time.Hour})
	f.AddFault(c1test.Fault{Op: c1test.OpIntrospect, Status: 503})
	require.EqualError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret), "invalid_client")
	answer := f.call(t, http.MethodGet, "/api/v1/auth/introspect", "")
	require.Equal(t, 503, answer.status, "an offset goes together with other faults")
	require.Equal(t, clockStart.Add(time.Hour).Format(http.TimeFormat), answer.header.Get("Date"))
	fault.Clear()
	require.NoError(t, f.Login(t.Context(), me.ClientID, me.ClientSecret))
}

func TestDelayedRequestGivesUpWhenTheEmulatorCloses(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	bearer := f.StaticToken()
	f.AddFault(c1test.Fault{Delay: time.Hour})
	failed := make(chan error)
	go func() { failed <- f.UseToken(t.Context(), bearer) }()
	require.Eventually(t, func() bool { return f.Requests("") == 1 }, 5*time.Second, time.Millisecond)
	require.NoError(t, f.emulator.Close())
	require.Error(t, <-failed)
}

func TestDownMeansNoConnectionAndUpMeansTheSamePort(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{TLS: true})
	url := f.URL()
	require.NoError(t, f.UseToken(t.Context(), f.StaticToken()))
	f.SetDown(true)
	f.SetDown(true)
	require.ErrorContains(t, f.UseToken(t.Context(), f.StaticToken()), "connection refused")
	f.SetDown(false)
	f.SetDown(false)
	require.Equal(t, url, f.URL())
	require.NoError(t, f.UseToken(t.Context(), f.StaticToken()))
}

func TestBarrierHoldsBeforeAndAfterTheCommit(t *testing.T) {
	t.Parallel()
	for when, committed := range map[c1test.When]int{c1test.BeforeCommit: 0, c1test.AfterCommit: 1} {
		t.Run(string(when), func(t *testing.T) {
			t.Parallel()
			f := start(t, c1test.Options{})
			f.StaticToken()
			barrier := f.Hold(c1test.OpRotateDecoy, when)
			answered := make(chan error, 1)
			go func() {
				answer, err := f.rotateRaw(t)
				if err == nil && answer.status != http.StatusOK {
					err = errors.New("not answered with success")
				}
				answered <- err
			}()
			<-barrier.Arrived()
			require.Equal(t, 1, barrier.Held())
			require.Equal(t, committed, f.Changes(c1test.OpRotateDecoy))
			require.Empty(t, answered)
			f.rotateDecoy(t, f.Decoy(c1test.KindAccessToken)) // only one request was to be held

			barrier.Release()
			barrier.Release()
			require.NoError(t, <-answered)
			require.Equal(t, 2, f.Changes(c1test.OpRotateDecoy))
		})
	}
}

func TestHeldRequestsEndWithTheEmulatorUncommitted(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.StaticToken()
	barrier := f.HoldNext(c1test.OpRotateDecoy, f.Decoy(c1test.KindConnectorClient), c1test.BeforeCommit, 3)
	failed := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := f.rotateRaw(t)
			failed <- err
		}()
	}
	<-barrier.Arrived()
	require.Equal(t, 3, f.MaxConcurrent(f.Decoy(c1test.KindConnectorClient)))
	require.NoError(t, f.emulator.Close())
	for range 3 {
		require.Error(t, <-failed)
	}
	require.Zero(t, f.Changes(c1test.OpRotateDecoy))
}

func TestCallersWhoWaitForTheirAnswerAreNeverConcurrent(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for range 20 {
		f.rotateConnector(t, f.Connector())
	}
	require.Equal(t, 1, f.MaxConcurrent(f.Connector().ConnectorID))
	require.Equal(t, 20, f.Requests(c1test.OpRotateConnector))
}

func TestTenantsShareNothingButTheirCA(t *testing.T) {
	t.Parallel()
	e := c1test.StartT(t, c1test.Options{TLS: true, Tenants: []string{"acme", "globex"}})
	acme, globex := e.Tenant("acme"), e.Tenant("globex")
	require.Same(t, acme, e.Default())
	require.Nil(t, e.Tenant("nobody"))
	require.NotEqual(t, acme.URL(), globex.URL())
	require.NoError(t, acme.Login(t.Context(), acme.Identity().ClientID, acme.Identity().ClientSecret))
	require.NoError(t, globex.Login(t.Context(), globex.Identity().ClientID, globex.Identity().ClientSecret))
	require.Error(t, globex.Login(t.Context(), acme.Identity().ClientID, acme.Identity().ClientSecret))
	require.Error(t, globex.UseToken(t.Context(), acme.StaticToken()))
	require.Empty(t, globex.RotateConnector(acme.Connector()).ID)
	acme.SetDown(true)
	require.NoError(t, globex.UseToken(t.Context(), globex.StaticToken()))
}

func TestSecretsListsEverythingThatWasMintedOrPresented(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	minted := f.rotateConnector(t, f.Connector())
	bait := f.rotateDecoy(t, f.Decoy(c1test.KindAccessToken))
	token, err := f.LoginToken(t.Context(), minted.ClientID, minted.ClientSecret)
	require.NoError(t, err)
	secrets := f.emulator.Secrets()
	for _, s := range []string{
		f.Identity().ClientSecret, f.PlainIdentity().ClientSecret, f.StaticToken(),
		minted.ClientSecret, strings.TrimPrefix(minted.ClientSecret, "secret-token:conductorone.com:v1:"), bait.secret(), token,
	} {
		require.Contains(t, secrets, s)
	}
}

func TestStartRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]c1test.Options{
		"semantics":     {Semantics: "both"},
		"revoked":       {RevokedAnswer: "both"},
		"token errors":  {TokenErrors: "both"},
		"token TTL":     {TokenTTL: time.Millisecond},
		"equal tenants": {Tenants: []string{"a", "a"}},
		"empty tenant":  {Tenants: []string{""}},
		"address":       {Addr: "nowhere"},
	} {
		_, err := c1test.Start(o)
		assert.Error(t, err, name)
	}
}

func TestATenantThatIsDownRefusesAndComesUpOnItsPort(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	addr := strings.TrimPrefix(f.URL(), "http://")
	for range 3 {
		f.SetDown(true)
		_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		require.ErrorContains(t, err, "refused")
		f.SetDown(false)
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		require.NoError(t, connection.Close())
	}
	f.SetDown(true)
	require.NoError(t, f.emulator.Close())
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	require.NoError(t, err, "a closed emulator holds nothing")
	require.NoError(t, free.Close())
}
