// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// The fields by which Agent, operators and consul-template know a rotating
// secret, on top of those of a vend with a lease.
var rotatingFields = []string{"last_vault_rotation", "rotation_period", "ttl"}

// command runs Vault's own command line, and returns what it printed.
func command(t *testing.T, e *vaulttest.Engine, args ...string) string {
	t.Helper()
	stdout, stderr, code := e.CLI("", args...)
	require.Zero(t, code, stderr)
	return stdout + stderr
}

func TestCreatingAScheduledBindingRotatesOnceAndShowsNoSecret(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	before := time.Now().Truncate(time.Second)
	created := bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "24h"})
	require.Equal(t, []string{"next_rotation", "version"}, fieldsOf(created), "no secret")
	require.EqualValues(t, 1, integer(t, created.Data["version"]))
	require.Empty(t, created.Warnings)
	next := parseTime(t, created.Data["next_rotation"])
	require.False(t, next.Before(before.Add(24*time.Hour*9/10)), "at most a tenth of the period early: %s", next)
	require.False(t, next.After(time.Now().Add(24*time.Hour)), "never late: %s", next)
	require.Equal(t, 1, rotations(e))

	records := e.Records("connectors/github")
	require.Len(t, records, 1)
	require.Equal(t, "initial", records[0]["reason"])
	require.Equal(t, "stored", records[0]["outcome"])
	require.Equal(t, "root", records[0]["display_name"])

	shown := e.MustRead("connectors/github").Data
	require.Equal(t, "ready", shown["state"])
	require.EqualValues(t, 24*60*60, integer(t, shown["rotation_period"]))
	require.Empty(t, shown["rotation_schedule"])
	require.Equal(t, created.Data["next_rotation"], shown["next_rotation"])
	status := e.MustRead("status").Data
	require.EqualValues(t, 1, integer(t, status["bindings"]))
	require.EqualValues(t, 1, integer(t, status["ready"]))
	require.Zero(t, integer(t, status["overdue"]))
	requireHealthy(t, e)
}

func TestReadingAScheduledBindingNeverTouchesC1(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	connector := e.Tenant.Connector()
	bindScheduled(e, "github", connector, object{"rotation_period": "24h"})
	bindScheduledDecoy(e, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), object{"rotation_schedule": "CRON_TZ=Europe/Berlin 0 3 * * *"})
	asked := e.Tenant.Requests("")

	first := e.MustRead("connector-creds/github")
	require.Equal(t, slices.Sorted(slices.Values(append([]string{
		"app_id", "connector_id", "credential_id", "client_id", "client_secret", "display_name",
		"created_at", "expires_at", "fingerprint_sha256", "version",
	}, rotatingFields...))), fieldsOf(first))
	require.NoError(t, complete(first))
	require.NoError(t, e.Login(first))
	require.Equal(t, connector.AppID, first.Data["app_id"])
	require.Equal(t, connector.ConnectorID, first.Data["connector_id"])
	require.EqualValues(t, 1, integer(t, first.Data["version"]))
	require.EqualValues(t, 24*60*60, integer(t, first.Data["rotation_period"]))
	require.LessOrEqual(t, integer(t, first.Data["ttl"]), int64(24*60*60))
	require.WithinDuration(t, time.Now(), parseTime(t, first.Data["last_vault_rotation"]), time.Minute)
	require.Empty(t, first.Warnings)

	e.Tenant.SetDown(true)
	for range 50 {
		again := e.MustRead("connector-creds/github")
		require.Equal(t, without(first.Data, "ttl"), without(again.Data, "ttl"))
	}
	bait := e.MustRead("decoy-creds/bait")
	require.Equal(t, slices.Sorted(slices.Values(append([]string{
		"decoy_id", "kind", "display_name", "annotations", "material_type",
		"client_id", "client_secret", "fingerprint_sha256", "version",
	}, rotatingFields...))), fieldsOf(bait))
	require.Positive(t, integer(t, bait.Data["ttl"]))
	require.LessOrEqual(t, integer(t, bait.Data["ttl"]), int64(25*60*60), "the next 3 o'clock in Berlin")
	require.Empty(t, bait.LeaseID)
	e.Tenant.SetDown(false)

	require.Equal(t, e.Tenant.DecoyFingerprint(e.Tenant.Decoy(c1test.KindConnectorClient)), bait.Data["fingerprint_sha256"])
	require.Equal(t, asked+1, e.Tenant.Requests(""), "one login, of this test")
	requireHealthy(t, e)
}

func TestEveryKindOfDecoyRotatesOnSchedule(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	for kind, secret := range map[c1test.Kind]string{
		c1test.KindUserClientCredential: "client_secret",
		c1test.KindConnectorClient:      "client_secret",
		c1test.KindAccessToken:          "access_token",
		c1test.KindWorkloadFederation:   "",
	} {
		id := e.Tenant.Decoy(kind)
		created := bindScheduledDecoy(e, string(kind), id, object{"rotation_period": "12h"})
		require.Equal(t, []string{"next_rotation", "version"}, fieldsOf(created))
		first := e.MustRead("decoy-creds/" + string(kind))
		require.Equal(t, e.Tenant.DecoyFingerprint(id), first.Data["fingerprint_sha256"])
		second := e.MustWrite("decoy-creds/"+string(kind), object{"placement": "web-1"})
		require.Empty(t, second.LeaseID)
		require.EqualValues(t, 2, integer(t, second.Data["version"]))
		require.Equal(t, fieldsOf(first), fieldsOf(second))
		require.Equal(t, e.Tenant.DecoyFingerprint(id), second.Data["fingerprint_sha256"])
		if secret == "" {
			require.Empty(t, second.Data["fingerprint_sha256"])
			require.NotEqual(t, first.Data["workload_federation_trust_id"], second.Data["workload_federation_trust_id"])
		} else {
			require.Equal(t, fingerprint(second.Data[secret]), second.Data["fingerprint_sha256"])
			require.NotEqual(t, first.Data[secret], second.Data[secret])
		}
		require.Equal(t, without(second.Data, "ttl"), without(e.MustRead("decoy-creds/"+string(kind)).Data, "ttl"))

		rotated := e.MustWrite("decoys/"+string(kind)+"/rotate", nil)
		require.Equal(t, []string{"fingerprint_sha256", "last_rotation", "next_rotation", "shared", "version"}, fieldsOf(rotated))
		require.EqualValues(t, 3, integer(t, rotated.Data["version"]))
		require.Equal(t, e.Tenant.DecoyFingerprint(id), rotated.Data["fingerprint_sha256"])
	}
	requireHealthy(t, e)
}

func TestWritingAScheduledBindingRotatesNowAndSaysWhenItIsNext(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	created := bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "2h"})
	first := e.MustRead("connector-creds/github")

	written := e.MustWrite("connector-creds/github", object{"placement": "host-7"})
	require.NoError(t, complete(written))
	require.NoError(t, e.Login(written))
	require.Equal(t, fieldsOf(first), fieldsOf(written))
	require.EqualValues(t, 2, integer(t, written.Data["version"]))
	require.NotEqual(t, first.Data["credential_id"], written.Data["credential_id"])
	require.Equal(t, 2, rotations(e))
	next := text(e.MustRead("connectors/github").Data["next_rotation"])
	require.False(t, parseTime(t, next).Before(parseTime(t, created.Data["next_rotation"])))
	if next != created.Data["next_rotation"] { // as it is shown, in seconds
		require.Contains(t, strings.Join(written.Warnings, "\n"), next)
	}
	require.NotContains(t, strings.Join(written.Warnings, "\n"), "shared")
	require.Equal(t, without(written.Data, "ttl"), without(e.MustRead("connector-creds/github").Data, "ttl"))

	record := e.Records("connectors/github")[0]
	require.Equal(t, "write", record["reason"])
	require.Equal(t, "stored", record["outcome"])
	require.Equal(t, "host-7", record["placement"])
	require.Equal(t, written.RequestID, record["request_id"])
	requireHealthy(t, e)
}

func TestAnOperatorRotatesAScheduledBindingWithoutSeeingTheSecret(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "2h"})
	e.BindConnector(e.Mount, "leased", e.Tenant.NewConnector("Leased"), nil)

	rotated := e.MustWrite("connectors/github/rotate", nil)
	require.Equal(t, []string{"credential_id", "fingerprint_sha256", "last_rotation", "next_rotation", "shared", "version"}, fieldsOf(rotated))
	require.EqualValues(t, 2, integer(t, rotated.Data["version"]))
	require.Equal(t, false, rotated.Data["shared"])
	current := e.MustRead("connector-creds/github")
	require.NoError(t, e.Login(current))
	for _, name := range []string{"credential_id", "fingerprint_sha256", "version"} {
		require.Equal(t, current.Data[name], rotated.Data[name])
	}
	require.Equal(t, e.MustRead("connectors/github").Data["next_rotation"], rotated.Data["next_rotation"])
	require.Equal(t, "rotate", e.Records("connectors/github")[0]["reason"])

	shown := command(t, e, "write", "-f", e.Path("connectors/github/rotate")) // is searched for secrets
	e.Collect("what the command printed", []byte(shown))
	require.Contains(t, shown, "next_rotation")
	require.EqualValues(t, 3, integer(t, e.MustRead("connector-creds/github").Data["version"]))

	asked := rotations(e)
	_, err := e.Write("connectors/leased/rotate", nil)
	requireRefused(t, err, 400, "rotate_on=read")
	_, err = e.Write("connectors/nothing/rotate", nil)
	requireRefused(t, err, 400, "nothing")
	require.Equal(t, asked, rotations(e))
}

func TestACooldownHoldsForScheduledBindingsToo(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "2h", "cooldown": "1h"})
	for _, path := range []string{"connectors/github/rotate", "connector-creds/github"} {
		_, err := e.Write(path, nil)
		requireRefused(t, err, 429, "cooling down")
	}
	require.EqualValues(t, 1, integer(t, e.MustRead("connector-creds/github").Data["version"]), "a read rotates nothing")
	require.Equal(t, 1, rotations(e))
}

func TestChangingTheScheduleRotatesNothingAndSaysWhenItIsNext(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "24h"})
	change := func(fields object) string {
		t.Helper()
		answer := e.MustWrite("connectors/github", fields)
		require.Equal(t, []string{"next_rotation", "version"}, fieldsOf(answer))
		require.EqualValues(t, 1, integer(t, answer.Data["version"]))
		require.Equal(t, answer.Data["next_rotation"], e.MustRead("connectors/github").Data["next_rotation"])
		return text(answer.Data["next_rotation"])
	}
	now := time.Now()
	require.WithinRange(t, parseTime(t, change(object{"rotation_period": 7200})), now.Add(time.Hour), now.Add(2*time.Hour+time.Minute))

	// 3 o'clock in Berlin is 1 or 2 o'clock in UTC.
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	next := parseTime(t, change(object{"rotation_period": 0, "rotation_schedule": "CRON_TZ=Europe/Berlin 0 3 * * *"}))
	require.Equal(t, "03:00:00", next.In(berlin).Format(time.TimeOnly))
	require.WithinRange(t, next, now, now.Add(25*time.Hour))
	require.EqualValues(t, 1, integer(t, e.MustRead("connector-creds/github").Data["version"]))

	next = parseTime(t, change(object{"rotation_schedule": "30 12 * * *"}))
	require.Equal(t, "12:30:00", next.UTC().Format(time.TimeOnly))

	require.Empty(t, change(object{"rotation_schedule": ""}), "only by hand")
	require.NoError(t, complete(e.MustRead("connector-creds/github")))

	for _, wrong := range []object{
		{"rotation_period": "1h", "rotation_schedule": "30 12 * * *"},
		{"rotation_period": "59s"},
		{"rotation_period": "often"},
		{"rotation_schedule": "30 12 * *"},
		{"rotation_schedule": "CRON_TZ=Europe/Atlantis 0 3 * * *"},
		{"ttl": "1h"},
		{"max_ttl": "1h"},
		{"on_lease_end": "revoke"},
	} {
		before := e.MustRead("connectors/github").Data
		_, err := e.Write("connectors/github", wrong)
		requireRefused(t, err, 400)
		for name := range wrong {
			require.ErrorContains(t, err, name)
		}
		require.Equal(t, before, e.MustRead("connectors/github").Data, "nothing is stored of %v", wrong)
	}
	require.Equal(t, 1, rotations(e))
}

func TestABindingMayBeginWithoutMaterial(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	created := bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "24h", "skip_initial_rotation": true})
	require.Zero(t, integer(t, created.Data["version"]))
	require.Zero(t, rotations(e))
	require.Equal(t, "pending", e.MustRead("connectors/github").Data["state"])
	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, 400, "no material yet")
	requireHealthy(t, e)

	require.NoError(t, e.Login(e.MustWrite("connector-creds/github", nil)))
	require.Equal(t, "ready", e.MustRead("connectors/github").Data["state"])
	require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
}

func TestARefusedInitialRotationStoresNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	fields := scheduled(object{
		"app_id": e.Tenant.Connector().AppID, "connector_id": e.Tenant.Connector().ConnectorID, "rotation_period": "24h",
	})
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Times: 1, Status: 403})
	_, err := e.Write("connectors/github", fields)
	requireRefused(t, err, 502)
	missing, err := e.Read("connectors/github")
	require.NoError(t, err)
	require.Nil(t, missing)
	require.EqualValues(t, 1, integer(t, e.MustWrite("connectors/github", fields).Data["version"]))
	requireHealthy(t, e)
}

func TestABindingMayChangeToAScheduleAndBack(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	leased := e.MustRead("connector-creds/github")
	require.NotEmpty(t, leased.LeaseID)

	changed := e.MustWrite("connectors/github", object{"rotate_on": "schedule", "rotation_period": "24h"})
	require.EqualValues(t, 2, integer(t, changed.Data["version"]), "what was leased is not kept, so there is nothing to show without a rotation")
	require.NotEmpty(t, changed.Data["next_rotation"])
	stored := e.MustRead("connector-creds/github")
	require.NoError(t, complete(stored))
	require.NoError(t, e.Login(stored))
	revoke(t, e, leased)
	require.Equal(t, []any{stored.Data["credential_id"]}, alive(e), "a lease ends its own credential only")

	e.MustWrite("connectors/github", object{"rotate_on": "read", "rotation_period": 0})
	shown := e.MustRead("connectors/github").Data
	require.Equal(t, "read", shown["rotate_on"])
	require.Empty(t, shown["next_rotation"])
	_, err := e.Write("connectors/github/rotate", nil)
	requireRefused(t, err, 400, "rotate_on=read")
	again := e.MustRead("connector-creds/github")
	require.NotEmpty(t, again.LeaseID)
	require.EqualValues(t, 3, integer(t, again.Data["version"]))
	require.NotContains(t, again.Data, "rotation_period")
	require.NoError(t, e.Login(again))
	requireHealthy(t, e)
}

func TestDeletingAScheduledBindingRevokesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	connector := e.Tenant.Connector()
	bindScheduled(e, "kept", connector, object{"rotation_period": "24h"})
	kept := e.MustRead("connector-creds/kept")
	printed := command(t, e, "delete", e.Path("connectors/kept"))
	require.Contains(t, printed, "WARNING")
	require.Contains(t, printed, text(kept.Data["credential_id"]), "it names what stays alive")
	require.NoError(t, e.Login(kept))
	found := e.MustWrite("lookup", object{"fingerprint_sha256": kept.Data["fingerprint_sha256"]}).Data
	require.Equal(t, "kept", found["binding"], "whose copy it was is still known")
	e.Tenant.RevokeCredential(text(kept.Data["credential_id"]))

	bindScheduled(e, "ended", connector, object{"rotation_period": "24h"})
	ended := e.MustRead("connector-creds/ended")
	printed = command(t, e, "delete", e.Path("connectors/ended"), "revoke=true")
	require.NotContains(t, printed, "WARNING")
	require.Error(t, e.Login(ended))
	require.Empty(t, alive(e))

	id := e.Tenant.Decoy(c1test.KindAccessToken)
	bindScheduledDecoy(e, "planted", id, object{"rotation_period": "24h"})
	planted := e.MustRead("decoy-creds/planted")
	printed = command(t, e, "delete", e.Path("decoys/planted"))
	require.Contains(t, printed, "WARNING")
	require.Equal(t, planted.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(id), "bait stays planted")
	bindScheduledDecoy(e, "planted", id, object{"rotation_period": "24h"})
	planted = e.MustRead("decoy-creds/planted")
	command(t, e, "delete", e.Path("decoys/planted"), "revoke=true")
	require.NotEqual(t, planted.Data["fingerprint_sha256"], e.Tenant.DecoyFingerprint(id), "the copies are dead")

	list, err := e.Root.Logical().List(e.Path("connectors"))
	require.NoError(t, err)
	require.Nil(t, list)
	requireHealthy(t, e)
	_, err = e.Root.Logical().Delete(e.Path("config"))
	require.NoError(t, err, "nothing is left behind")
}

func TestThePreviousCredentialIsRevokedAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	const grace = 5 * time.Second
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "24h", "grace_period": "5s"})
	require.EqualValues(t, 5, integer(t, e.MustRead("connectors/github").Data["grace_period"]))
	first := e.MustRead("connector-creds/github")
	rotatedAt := time.Now()
	second := e.MustWrite("connector-creds/github", nil)
	require.NoError(t, e.Login(first), "C1 lets both live, and the grace period has only begun")

	eventuallyWithin(t, grace+time.Minute+begins, func() error {
		if e.Login(first) == nil {
			return errors.New("the previous credential is still alive")
		}
		return nil
	})
	require.GreaterOrEqual(t, time.Since(rotatedAt), grace)
	require.Equal(t, []any{second.Data["credential_id"]}, alive(e))
	vaulttest.Eventually(t, begins, func() error { // C1 has ended it, and then it is recorded
		if e.Records("connectors/github")[1]["ended_at"] == "" {
			return errors.New("its end is not recorded")
		}
		return nil
	})
	require.Empty(t, e.Records("connectors/github")[0]["ended_at"])
	require.Equal(t, 2, rotations(e))
	requireHealthy(t, e)
}

func TestAScheduledReadMayBeWrapped(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduled(e, "github", e.Tenant.Connector(), object{"rotation_period": "24h"})
	bindScheduled(e, "wrapped", e.Tenant.NewConnector("Wrapped"), object{"rotation_period": "24h", "wrap_ttl": "60s"})
	asked := e.Tenant.Requests("")

	// By the command line, as a person does it.
	var wrapped, opened api.Secret
	require.NoError(t, json.Unmarshal([]byte(command(t, e, "read", "-wrap-ttl=90s", "-format=json", e.Path("connector-creds/github"))), &wrapped))
	require.Equal(t, 90, wrapped.WrapInfo.TTL)
	require.Empty(t, wrapped.Data)
	stdout, stderr, code := e.CLI("", "unwrap", "-format=json", wrapped.WrapInfo.Token)
	require.Zero(t, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &opened))
	require.NotEmpty(t, opened.Data["client_secret"])
	require.Empty(t, opened.LeaseID)
	require.Equal(t, e.MustRead("connector-creds/github").Data["client_secret"], opened.Data["client_secret"])
	_, _, code = e.CLI("", "unwrap", wrapped.WrapInfo.Token)
	require.NotZero(t, code, "it opens once")

	// The binding demands it, of reads and writes.
	for _, vend := range []func() (*api.Secret, error){
		func() (*api.Secret, error) { return e.Read("connector-creds/wrapped") },
		func() (*api.Secret, error) { return e.Write("connector-creds/wrapped", nil) },
	} {
		answer, err := vend()
		require.NoError(t, err)
		require.NotNil(t, answer.WrapInfo)
		require.Equal(t, 60, answer.WrapInfo.TTL)
		require.Empty(t, answer.Data)
		material, err := e.Root.Logical().Unwrap(answer.WrapInfo.Token)
		require.NoError(t, err)
		require.NoError(t, complete(material))
		require.NoError(t, e.Login(material))
	}
	require.Equal(t, asked+3, e.Tenant.Requests(""), "the one write, and two logins of this test")
}

func TestLookupSaysFromWhenToWhenAVersionWasHandedOut(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindScheduledDecoy(e, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), object{"rotation_period": "24h"})
	first := e.MustRead("decoy-creds/bait")
	lookUp := func() object {
		t.Helper()
		return e.MustWrite("lookup", object{"fingerprint_sha256": first.Data["fingerprint_sha256"]}).Data
	}
	found := lookUp()
	require.Equal(t, true, found["current"])
	require.Equal(t, "stored", found["outcome"])
	require.Equal(t, first.Data["last_vault_rotation"], found["valid_from"])
	require.Empty(t, found["valid_until"])

	second := e.MustWrite("decoy-creds/bait", nil)
	found = lookUp()
	require.Equal(t, false, found["current"])
	require.EqualValues(t, 1, integer(t, found["version"]))
	require.Equal(t, first.Data["last_vault_rotation"], found["valid_from"])
	require.Equal(t, second.Data["last_vault_rotation"], found["valid_until"])
}

// A rotation that nobody asks for: the point of it all.
func TestScheduledRotationsHappenByThemselvesAndInTime(t *testing.T) {
	t.Parallel()
	bothSemantics(t, func(t *testing.T, e *vaulttest.Engine, semantics c1test.Semantics) {
		period := object{"rotation_period": shortestPeriod}
		bindScheduled(e, "github", e.Tenant.Connector(), period)
		bindScheduledDecoy(e, "bait", e.Tenant.Decoy(c1test.KindUserClientCredential), period)
		bindScheduledDecoy(e, "trust", e.Tenant.Decoy(c1test.KindWorkloadFederation), period)
		// By the minute, whatever the minute.
		bindScheduledDecoy(e, "cron", e.Tenant.Decoy(c1test.KindAccessToken), object{"rotation_schedule": "* * * * *"})
		planned := map[string]time.Time{}
		for _, binding := range []string{"connectors/github", "decoys/bait", "decoys/trust", "decoys/cron"} {
			planned[binding] = parseTime(t, e.MustRead(binding).Data["next_rotation"])
		}
		first := e.MustRead("connector-creds/github")
		require.Equal(t, 4, rotations(e))

		for binding, due := range planned {
			eventuallyWithin(t, time.Until(due)+begins+requestTimeout, func() error {
				if version := e.MustRead(binding).Data["version"]; number(version) < 2 {
					return fmt.Errorf("%s is at version %v", binding, version)
				}
				return nil
			})
			records := e.Records(binding)
			record := records[len(records)-2]
			require.Equal(t, "schedule", record["reason"], binding)
			require.Equal(t, "stored", record["outcome"], binding)
			require.Empty(t, record["request_id"], "nobody asked")
			started := parseTime(t, record["started_at"])
			require.WithinRange(t, started, due.Add(-time.Second), due.Add(begins), binding)
			t.Logf("%s: began %s after its time", binding, started.Sub(due))
		}
		second := e.MustRead("connector-creds/github")
		require.NoError(t, complete(second))
		require.NoError(t, e.Login(second))
		require.Equal(t, e.MustRead("decoy-creds/bait").Data["fingerprint_sha256"],
			e.Tenant.DecoyFingerprint(e.Tenant.Decoy(c1test.KindUserClientCredential)))
		if semantics == c1test.Overlapping {
			require.NoError(t, e.Login(first), "without a grace period C1 decides")
		} else {
			require.Error(t, e.Login(first))
		}
		requireHealthy(t, e)
	})
}
