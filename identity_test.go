// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// principals remembers whose an identity is, also when it has been deleted.
var principals sync.Map

// requests returns how many requests of these operations come from now on.
func (e *engine) requests(ops ...string) (since func() int) {
	count := func() (n int) {
		for _, op := range ops {
			n += e.c1.Requests(op)
		}
		return n
	}
	before := count()
	return func() int { return count() - before }
}

// ownMount returns a mount that logs in with an identity of its own.
func ownMount(t *testing.T, options ...c1test.IdentityOption) (*engine, c1test.Identity) {
	t.Helper()
	e := newEngine(t)
	id := e.c1.NewIdentity(append([]c1test.IdentityOption{c1test.ExpiresIn(90 * day)}, options...)...)
	e.configureAs(id)
	e.own(id)
	return e, id
}

func (e *engine) configureAs(id c1test.Identity, extra ...any) *logical.Response {
	e.Helper()
	return e.must(logical.UpdateOperation, "config", merge(fields("client_id", id.ClientID, "client_secret", id.ClientSecret,
		"url", e.c1.URL(), "ca_cert", e.emu.CACertPEM()), extra...))
}

// own are the live credentials of the principal of the mount's identity, without the
// seeded ones.
func (e *engine) own(id c1test.Identity) map[string]c1test.OwnCredential {
	e.Helper()
	all := e.c1.LiveCredentials()
	for _, c := range all {
		if c.ClientID == id.ClientID {
			principals.Store(c.ClientID, c.ServicePrincipalID)
		}
	}
	principal, known := principals.Load(id.ClientID)
	require.True(e, known)
	live := map[string]c1test.OwnCredential{}
	for _, c := range all {
		if c.ServicePrincipalID == principal {
			live[c.ClientID] = c
		}
	}
	return live
}

// works proves that the credential in config logs in, and returns its client ID.
func (e *engine) works() string {
	e.Helper()
	cfg, err := readConfig(context.Background(), e.disk())
	require.NoError(e, err)
	client, err := e.b.newClient(cfg)
	require.NoError(e, err)
	defer client.Close()
	_, err = client.Introspect(context.Background())
	require.NoError(e, err, "the credential in config does not log in")
	return cfg.ClientID
}

func TestRotateRootReplacesTheMountsCredentialByOneLikeIt(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]c1test.IdentityOption{
		"service principal": {c1test.DisplayName("vault"), c1test.SourceCIDRs("127.0.0.0/8", "::1/128")},
		"DPoP":              {c1test.RequireDPoP()},
		"personal":          {c1test.PersonalClient(), c1test.DisplayName("mine")},
		"scoped":            {c1test.ScopedRoles("role-a", "role-b")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, id := ownMount(t, options...)
			before := e.own(id)[id.ClientID]
			created := e.requests(c1test.OpCreateServicePrincipalCredential, c1test.OpCreatePersonalClient)
			minted := e.requests(c1test.OpToken)
			e.after(time.Second) // the look that follows a write of the config
			e.storage.operations()
			listed := e.requests(c1test.OpListServicePrincipalCredentials, c1test.OpListPersonalClients)
			introspected := e.requests(c1test.OpIntrospect)
			began := e.clock.now()
			resp := e.write("config/rotate-root")
			ended := e.clock.now()
			require.Equal(t, 9, e.storage.operations().puts, "attempt: state, due entry, filed record; config; outcome: state, due entry, three of the index")
			require.Equal(t, 1, created())
			require.Equal(t, 1, listed())
			require.Equal(t, 2, introspected(), "as the one before, and as the new one")
			require.LessOrEqual(t, minted(), 4, "one for each; with DPoP each is told once that proofs are needed")
			require.NotContains(t, fmt.Sprint(resp.Data), "secret-token")

			made := e.own(id)[resp.Data["client_id"].(string)]
			require.NotEmpty(t, made.ClientID)
			require.NotEqual(t, id.ClientID, made.ClientID)
			require.Equal(t, made.ClientID, e.works())
			require.Equal(t, made.ClientID, e.read("config").Data["client_id"])
			require.Equal(t, resp.Data["credential_id"], made.ID)
			require.True(t, strings.HasPrefix(made.DisplayName, before.DisplayName+" [vault "), made.DisplayName)
			require.Equal(t, before.ScopedRoles, made.ScopedRoles)
			require.Equal(t, before.SourceCIDRs, made.SourceCIDRs)
			require.Equal(t, before.RequireDPoP, made.RequireDPoP)
			require.Equal(t, before.ExpiresAt.Sub(before.CreatedAt), made.ExpiresAt.Sub(made.CreatedAt))
			require.Equal(t, rfc3339(made.ExpiresAt), resp.Data["expires_at"])

			found := e.write("lookup", "client_id", made.ClientID).Data
			require.Equal(t, "identity", found["kind"])
			require.Equal(t, true, found["current"])
			require.Equal(t, "approle-billing", found["display_name"])
			require.Contains(t, e.logs.String(), "rotated: target=\"the mount's identity\"")
			e.b.work.Wait()
			require.True(t, slices.ContainsFunc(e.events.Events, func(event logical.MockEvent) bool { return event.Type == "c1/identity-rotate" }))

			// The one before works for the grace period, and then no more.
			ends := resp.Data["previous_ends_at"].(string)
			require.LessOrEqual(t, rfc3339(began.Add(time.Hour)), ends)
			require.GreaterOrEqual(t, rfc3339(ended.Add(time.Hour)), ends)
			require.Len(t, e.own(id), 2)
			e.after(59 * time.Minute)
			require.Len(t, e.own(id), 2)
			e.after(2 * time.Minute)
			require.Equal(t, []string{made.ClientID}, clientIDs(e.own(id)))
			require.Empty(t, e.state(identityRef).Retire)
			require.True(t, e.read("status").Data["healthy"].(bool), "%v", e.read("status").Data)

			// Its name does not grow.
			next := e.write("config/rotate-root").Data["client_id"].(string)
			again := e.own(id)[next]
			require.Len(t, again.DisplayName, len(made.DisplayName))
			require.NotEqual(t, made.DisplayName, again.DisplayName)
		})
	}
}

func clientIDs(m map[string]c1test.OwnCredential) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func TestTheNewCredentialLivesAsLongAsC1LetsIt(t *testing.T) {
	t.Parallel()
	made := func(owner c1api.Owner, life time.Duration) time.Duration {
		c := &c1api.OwnCredential{CreatedAt: time.Unix(1e9, 7)}
		if life > 0 {
			c.ExpiresAt = time.Unix(1e9, 0).Add(life)
		}
		return (&ownCredentials{owner: owner, held: c}).successor("id").Lifetime
	}
	service, person := c1api.Owner{ServicePrincipalID: "sp"}, c1api.Owner{}
	require.Equal(t, 30*day, made(service, 30*day))
	require.Equal(t, 30*day, made(service, 30*day-time.Hour))
	require.Equal(t, 90*day, made(service, 0))
	require.Equal(t, 180*day, made(service, 181*day))
	require.Equal(t, time.Duration(0), made(person, 0))
	require.Equal(t, day, made(person, day))
}

func TestAPersonalCredentialThatNeverExpiresIsRotatedToOne(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.c1.NewIdentity(c1test.PersonalClient())
	e.configureAs(id)
	require.Empty(t, e.write("config/rotate-root").Data["expires_at"])
	require.Empty(t, e.read("status").Data["identity_warning"])
}

// The process dies at each write of a rotation, or each of them fails. In the end the
// config holds a credential that works, and nothing is alive that the state does not
// name.
func TestARootRotationThatDiesLeavesNothingUnknown(t *testing.T) {
	t.Parallel()
	for _, kind := range []c1test.IdentityOption{nil, c1test.PersonalClient()} {
		for n := range 12 {
			for _, forGood := range []bool{true, false} {
				t.Run(fmt.Sprintf("personal %v, write %d, for good %v", kind != nil, n, forGood), func(t *testing.T) {
					t.Parallel()
					var options []c1test.IdentityOption
					if kind != nil {
						options = append(options, kind)
					}
					e, id := ownMount(t, options...)
					e.after(time.Second)
					writes := 0
					e.storage.failWhen(func(op, _ string) bool {
						if op != "put" {
							return false
						}
						writes++
						return writes == n+1 || forGood && writes > n
					})
					_, err := e.do(context.Background(), newRequest(logical.UpdateOperation, "config/rotate-root", nil))
					if forGood && n < 3 {
						require.Error(t, err)
					}
					e.storage.failWhen(nil)
					e.restart()
					e.settlesItsIdentity(id)
				})
			}
		}
	}
}

// settlesItsIdentity proves that a mount that was disturbed comes to rest: what is in
// config works, and nothing else of its owner is alive.
func (e *engine) settlesItsIdentity(id c1test.Identity) {
	e.Helper()
	for range 4 {
		e.works()
		e.after(35 * time.Minute)
	}
	current := e.works()
	require.Equal(e, []string{current}, clientIDs(e.own(id)))
	require.Nil(e, e.state(identityRef).Attempt)
	require.Empty(e, e.state(identityRef).Retire)
	require.Equal(e, current, e.state(identityRef).Current.ClientID)
	status := e.read("status").Data
	require.True(e, status["healthy"].(bool), "%v", status)
	e.write("config/rotate-root")
	require.NotEqual(e, current, e.works())
}

// C1's answer to each request of a rotation is lost or bad.
func TestARootRotationWhoseAnswersAreLostLeavesNothingUnknown(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]c1test.Fault{
		"dropped before": {DropBefore: true}, "dropped after": {DropAfter: true}, "502 after": {StatusAfter: 502},
		"cut short": {Truncate: true}, "garbage": {Garbage: true}, "empty": {EmptyAnswer: true}, "503": {Status: 503}, "403": {Status: 403},
	} {
		for _, op := range []string{
			c1test.OpIntrospect, c1test.OpToken, c1test.OpListServicePrincipalCredentials,
			c1test.OpCreateServicePrincipalCredential, c1test.OpDeleteServicePrincipalCredential,
		} {
			t.Run(name+" "+op, func(t *testing.T) {
				t.Parallel()
				e, id := ownMount(t)
				e.configureAs(id, "max_retries", 0)
				once := fault
				once.Op, once.Times = op, 1
				e.c1.AddFault(once)
				_, _ = e.do(context.Background(), newRequest(logical.UpdateOperation, "config/rotate-root", nil))
				require.LessOrEqual(t, len(e.own(id)), 2)
				e.works()
				e.settlesItsIdentity(id)
			})
		}
	}
}

func TestACredentialThatDoesLessIsNotTakenAndIsEnded(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t, c1test.ScopeDenies(c1test.OpRotateConnector))
	f := e.refused(logical.UpdateOperation, "config/rotate-root", nil)
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "lacks the permission rotateConnector")
	require.Equal(t, []string{id.ClientID}, clientIDs(e.own(id)))
	require.Equal(t, id.ClientID, e.works())

	// Where it cannot be ended at once, status names it until it is.
	e.c1.AddFault(c1test.Fault{Op: c1test.OpDeleteServicePrincipalCredential, Status: 503, Times: 5})
	e.refused(logical.UpdateOperation, "config/rotate-root", nil)
	require.Len(t, e.own(id), 2)
	require.Len(t, e.state(identityRef).Retire, 1)
	e.c1.ClearFaults()
	e.after(2 * time.Minute)
	require.Equal(t, []string{id.ClientID}, clientIDs(e.own(id)))
}

func TestAClientIDOfAnotherTenantOrKindIsNotTaken(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.c1.NewIdentity(c1test.ExpiresIn(90 * day))
	e.configureAs(id)
	for _, odd := range []string{"calm-otter-1@acme.conductor.one/pcc", "calm-otter-1@acme.conductor.one/wfe"} {
		e.c1.AddFault(c1test.Fault{Op: c1test.OpCreateServicePrincipalCredential, Times: 1, Set: map[string]any{"credential.clientId": odd}})
		require.Contains(t, e.refused(logical.UpdateOperation, "config/rotate-root", nil).message, "of another tenant or kind")
		require.Equal(t, id.ClientID, e.works())
		require.Equal(t, []string{id.ClientID}, clientIDs(e.own(id)))
	}
}

func TestAnIdentityThatMayNotReplaceItselfIsToldSo(t *testing.T) {
	t.Parallel()
	for _, op := range []string{c1test.OpListServicePrincipalCredentials, c1test.OpCreateServicePrincipalCredential} {
		e, id := ownMount(t, c1test.Denied(op))
		before := e.changes()
		f := e.refused(logical.UpdateOperation, "config/rotate-root", nil)
		require.Equal(t, http.StatusBadGateway, f.status)
		require.Contains(t, f.message, "may not replace its own credential")
		require.Equal(t, before, e.changes())
		require.Equal(t, id.ClientID, e.works())
		require.Empty(t, e.read("status").Data["attention"])
	}
}

func TestWhatCannotBeRotatedIsRefused(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	require.Contains(t, e.refused(logical.UpdateOperation, "config/rotate-root", nil).message, "not configured")
	e.must(logical.UpdateOperation, "config", fields("access_token", e.c1.StaticToken(), "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM()))
	require.Contains(t, e.refused(logical.UpdateOperation, "config/rotate-root", nil).message, "access_token")
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("root_rotation_period", "30d")).message, "root_rotation_period")
	e.configure(e.c1)
	for _, c := range []struct{ field, value, want string }{
		{"root_rotation_period", "23h", "root_rotation_period must lie between"},
		{"root_rotation_period", "400d", "root_rotation_period must lie between"},
		{"root_rotation_schedule", "0 3 * * ", "root_rotation_schedule"},
		{"root_rotation_schedule", "0 */12 * * *", "are 12h0m0s apart"},
		{"root_rotation_schedule", "0 3,4 1 * *", "are 1h0m0s apart"},
		{"root_grace_period", "31d", "root_grace_period must lie between"},
		{"root_grace_period", "1.5", "root_grace_period"},
		{"ca_cert_only", "perhaps", "ca_cert_only"},
		{"identity_token_ttl", "1h", "go with a client_id of workload federation"},
		{"identity_token_audience", "acme", "go with a client_id of workload federation"},
	} {
		require.Contains(t, e.refused(logical.UpdateOperation, "config", fields(c.field, c.value)).message, c.want)
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("root_rotation_period", "30d", "root_rotation_schedule", "0 3 1 * *")).message, "exclude each other")
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("ca_cert", "", "ca_cert_only", true,
		"client_secret", e.c1.Identity().ClientSecret)).message, "ca_cert_only needs a ca_cert")
}

func TestAPeriodThatTheCredentialDoesNotOutliveIsRefused(t *testing.T) {
	t.Parallel()
	e, _ := ownMount(t)
	f := e.refused(logical.UpdateOperation, "config", fields("root_rotation_period", "77d"))
	require.Contains(t, f.message, "root_rotation_period (1848h0m0s) must not be longer than the credential's lifetime (2160h0m0s)")
	e.write("config", "root_rotation_period", "76d")
	require.NotEmpty(t, e.read("config").Data["next_root_rotation"])
	e.write("config", "root_rotation_period", 0)
	require.Empty(t, e.read("config").Data["next_root_rotation"])

	e, _ = ownMount(t, c1test.Denied(c1test.OpListServicePrincipalCredentials))
	f = e.refused(logical.UpdateOperation, "config", fields("root_rotation_period", "30d"))
	require.Contains(t, f.message, "may not replace its own credential")
}

func TestTheClockRotatesTheIdentityBeforeItExpires(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schedule []any
		within   time.Duration
	}{
		"period":               {[]any{"root_rotation_period", "30d"}, 30 * day},
		"cron":                 {[]any{"root_rotation_schedule", "0 3 1 * *"}, 31 * day},
		"longer than it lives": {[]any{"root_rotation_period", "365d", "verify_connection", false}, 81 * day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			id := e.c1.NewIdentity(c1test.ExpiresIn(90 * day))
			e.configureAs(id, c.schedule...)
			e.own(id)
			e.after(time.Second) // the first look
			next, err := time.Parse(time.RFC3339, e.read("config").Data["next_root_rotation"].(string))
			require.NoError(t, err)
			require.LessOrEqual(t, next.Sub(e.clock.now()), c.within+time.Minute)
			seen := map[string]bool{}
			for range 200 {
				e.after(day)
				seen[e.works()] = true
			}
			require.GreaterOrEqual(t, len(seen), int(200*day/c.within))
			require.LessOrEqual(t, len(e.own(id)), 2)
			last := e.records(identityRef)
			require.Equal(t, target.ReasonSchedule, last[len(last)-1].Reason)
			require.True(t, e.read("status").Data["healthy"].(bool), "%v", e.read("status").Data)
		})
	}
}

func TestAnExpiryIsToldInTimeAndAskedForOnceADay(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	e.after(time.Second)
	expires := rfc3339(e.own(id)[id.ClientID].ExpiresAt)
	require.Equal(t, expires, e.read("config").Data["identity_expires_at"])
	require.Equal(t, expires, e.read("status").Data["identity_expires_at"])
	listed := e.requests(c1test.OpListServicePrincipalCredentials)
	for range 48 {
		e.after(time.Hour)
	}
	require.LessOrEqual(t, listed(), 2)
	e.after(73 * day)
	require.Empty(t, e.read("status").Data["identity_warning"])
	require.Empty(t, e.read("config").Warnings)
	e.after(2 * day)
	require.Contains(t, e.read("status").Data["identity_warning"], "expires at "+expires+": write config/rotate-root")
	require.False(t, e.read("status").Data["healthy"].(bool))
	require.Contains(t, e.read("config").Warnings[0], "expires at "+expires)
	e.write("config/rotate-root")
	require.Empty(t, e.read("status").Data["identity_warning"])
	require.True(t, e.read("status").Data["healthy"].(bool))
}

func TestACredentialThatSomebodyDeletedIsTold(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	other := e.c1.NewIdentity(c1test.Beside(id))
	e.after(time.Second)
	e.c1.DeleteIdentity(id.ClientID) // its token lives on for a while
	e.after(day)
	status := e.read("status").Data
	require.False(t, status["healthy"].(bool), "%v", status)
	e.configureAs(other)
	e.after(time.Second)
	require.True(t, e.read("status").Data["healthy"].(bool))
}

func TestAConfigWrittenByHandWins(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	made := e.write("config/rotate-root").Data["client_id"].(string)
	mine := e.c1.NewIdentity(c1test.Beside(id), c1test.ExpiresIn(60*day))
	resp := e.configureAs(mine)
	require.Contains(t, resp.Warnings[0], made)
	require.Equal(t, mine.ClientID, e.works())
	records := e.records(identityRef)
	last := records[len(records)-1]
	require.Equal(t, target.ReasonConfig, last.Reason)
	require.Equal(t, mine.ClientID, last.ClientID)
	e.after(2 * time.Hour)
	require.Equal(t, []string{mine.ClientID}, clientIDs(e.own(id)), "what the mount had made is ended, what it replaced before as well")

	// One that is on its way out and written again stays.
	e.write("config/rotate-root")
	e.configureAs(mine)
	e.after(2 * time.Hour)
	e.after(2 * time.Hour)
	require.Equal(t, mine.ClientID, e.works())
	require.Equal(t, []string{mine.ClientID}, clientIDs(e.own(id)))
	e.settlesItsIdentity(id)
}

func TestAConfigWrittenByHandDuringARotationOfUnknownOutcomeSaysWhatMayBeAlive(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	e.c1.AddFault(c1test.Fault{Op: c1test.OpCreateServicePrincipalCredential, DropAfter: true, Times: 1})
	require.Equal(t, http.StatusConflict, e.refused(logical.UpdateOperation, "config/rotate-root", nil).status)
	f := e.refused(logical.UpdateOperation, "config/rotate-root", nil)
	require.Equal(t, http.StatusConflict, f.status)
	require.Contains(t, f.message, "is not known yet")
	mine := e.c1.NewIdentity(c1test.Beside(id), c1test.ExpiresIn(60*day))
	resp := e.configureAs(mine)
	require.Contains(t, resp.Warnings[0], "[vault "+e.state(identityRef).Attempt.ID+"]")
	require.Len(t, e.own(id), 3)
	for range 3 {
		e.after(2 * time.Minute)
		require.Equal(t, mine.ClientID, e.works())
	}
	require.ElementsMatch(t, []string{id.ClientID, mine.ClientID}, clientIDs(e.own(id)), "what nobody stored is ended, what others wrote stays")
	require.Equal(t, mine.ClientID, e.state(identityRef).Current.ClientID)
}

// A config that is deleted meanwhile does not make a credential count as ended.
func TestWithoutAConfigNothingOfItsCountsAsEnded(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	s, err := e.b.session(context.Background())
	require.NoError(t, err)
	require.NoError(t, e.b.store.Delete(context.Background(), configKey))
	require.ErrorContains(t, e.b.revokeAtC1(context.Background(), s, identityRef, e.own(id)[id.ClientID].ID), "the config was deleted")
	require.Len(t, e.own(id), 1)
}

func TestAConfigThatIsDeletedSaysWhatItLeaves(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	made := e.write("config/rotate-root").Data["client_id"].(string)
	resp := e.must(logical.DeleteOperation, "config", nil)
	require.Len(t, resp.Warnings, 2)
	require.Contains(t, fmt.Sprint(resp.Warnings), made)
	e.after(2 * time.Hour)
	require.Len(t, e.own(id), 2)
	e.configureAs(id)
	e.after(time.Second)
	require.True(t, e.read("status").Data["healthy"].(bool))
}

func TestCallersShareARootRotation(t *testing.T) {
	t.Parallel()
	e, id := ownMount(t)
	hold := e.c1.Hold(c1test.OpCreateServicePrincipalCredential, c1test.BeforeCommit)
	answers := make(chan *logical.Response, 3)
	for range 3 {
		go func() {
			resp, err := e.do(context.Background(), newRequest(logical.UpdateOperation, "config/rotate-root", nil))
			if err != nil || resp.IsError() {
				resp = &logical.Response{Data: map[string]any{"shared": fmt.Sprint(err)}}
			}
			answers <- resp
		}()
	}
	<-hold.Arrived()
	require.Eventually(t, func() bool {
		e.b.shared.mu.Lock()
		defer e.b.shared.mu.Unlock()
		return e.b.shared.open[identityRef] != nil && e.b.shared.open[identityRef].callers == 3
	}, time.Minute, time.Millisecond)
	hold.Release()
	shared := 0
	for range 3 {
		if (<-answers).Data["shared"] == true {
			shared++
		}
	}
	require.Equal(t, 2, shared)
	require.Len(t, e.own(id), 2)
}

// Whoever writes the config right after a rotation, as an operator does whose credential
// has leaked, does not keep the old one alive.
func TestAnEndWaitsForAConfigThatIsBeingWritten(t *testing.T) {
	t.Parallel()
	inBubble(t, func(e *engine) {
		id := e.c1.NewIdentity(c1test.ExpiresIn(90 * day))
		e.configureAs(id, "root_grace_period", "1m")
		e.own(id)
		pass(time.Second) // the first look
		e.write("config/rotate-root")
		pass(50 * time.Second)
		require.Contains(t, e.own(id), id.ClientID)
		unlock, err := e.b.locks.Lock(context.Background(), configKey)
		require.NoError(t, err)
		pass(15 * time.Second)
		require.Contains(t, e.own(id), id.ClientID, "it waits")
		unlock()
		pass(time.Second)
		require.NotContains(t, e.own(id), id.ClientID)
		require.NotContains(t, e.logs.String(), "could not end a credential")
	})
}
