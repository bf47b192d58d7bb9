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
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func (e *engine) lookUp(pairs ...any) map[string]any {
	e.Helper()
	return e.write("lookup", pairs...).Data
}

func (e *engine) noRecord(pairs ...any) string {
	e.Helper()
	f := e.refused(logical.UpdateOperation, "lookup", fields(pairs...))
	require.Equal(e, http.StatusNotFound, f.status, f.message)
	return f.message
}

func TestAnIncidentStartsWithWhateverC1Gives(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	first := e.vend("connector-creds/hr").Data
	second := e.vend("connector-creds/hr").Data
	e.bindDecoy("bait", c1test.KindConnectorClient)
	bait := e.write("decoy-creds/bait", "placement", "web-1:/srv/.env").Data
	e.b.work.Wait()

	for _, vended := range []map[string]any{first, second} {
		fingerprint := vended["fingerprint_sha256"].(string)
		want := e.lookUp("fingerprint_sha256", strings.ToUpper(fingerprint))
		require.Equal(t, vended["version"], want["version"])
		require.Equal(t, "hr", want["binding"])
		require.NotContains(t, want, "planted")
		require.Equal(t, want, e.lookUp("fingerprint_prefix", fingerprint[:12]))
		require.Equal(t, want, e.lookUp("fingerprint_prefix", fingerprint))
		require.Equal(t, want, e.lookUp("client_id", vended["client_id"]))
		require.Equal(t, want, e.lookUp("credential_id", vended["credential_id"]))
	}
	want := e.lookUp("fingerprint_sha256", bait["fingerprint_sha256"])
	require.Equal(t, "web-1:/srv/.env", want["placement"])
	require.Len(t, want["planted"], 1)
	require.Equal(t, want, e.lookUp("decoy_id", bait["decoy_id"]))
	require.Equal(t, want, e.lookUp("client_id", bait["client_id"]))
}

func TestAFindingOfADecoyFindsEachCopyThatIsPlanted(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindConnectorClient)
	var client string
	var times []time.Time
	for i := range 3 {
		vended := e.write("decoy-creds/bait", "placement", fmt.Sprintf("web-%d:/srv/.env", i)).Data
		client = vended["client_id"].(string)
		times = append(times, e.clock.now())
		e.clock.advance(time.Hour)
	}
	e.b.work.Wait()
	now := e.lookUp("decoy_id", id)
	require.Equal(t, 3, now["version"])
	require.Equal(t, true, now["current"])
	planted := now["planted"].([]any)
	require.Len(t, planted, 3)
	for i, copied := range planted {
		shown := copied.(map[string]any)
		require.Equal(t, 3-i, shown["version"], "newest first")
		require.Equal(t, fmt.Sprintf("web-%d:/srv/.env", 2-i), shown["placement"])
		require.Equal(t, "approle-billing", shown["display_name"], "to whom")
		require.Equal(t, rfc3339(times[2-i]), shown["issued_at"])
		require.Equal(t, i == 0, shown["current"])
	}
	for i, at := range times {
		for _, key := range []any{"decoy_id", "client_id"} {
			value := map[any]any{"decoy_id": id, "client_id": client}[key]
			then := e.lookUp(key, value, "at", rfc3339(at.Add(time.Minute)))
			require.Equal(t, i+1, then["version"], "the record that was current then")
			require.Equal(t, planted, then["planted"])
		}
	}
	require.Contains(t, e.noRecord("decoy_id", id, "at", "2001-02-03T04:05:06Z"), "as old as 2001-02-03")
}

func TestCopiesThatTheEngineMadeDeadAreNotPlanted(t *testing.T) {
	t.Parallel()
	e := configured(t)
	id := e.bindDecoy("bait", c1test.KindAccessToken, "on_lease_end", leaseEndRotate)
	e.write("decoy-creds/bait", "placement", "stays")
	ended := e.write("decoy-creds/bait", "placement", "goes")
	_, err := e.revoke(ended.Secret)
	require.NoError(t, err)
	answer := e.lookUp("decoy_id", id)
	require.Equal(t, target.OutcomeDiscarded, answer["outcome"])
	planted := answer["planted"].([]any)
	require.Len(t, planted, 1)
	require.Equal(t, "stays", planted[0].(map[string]any)["placement"])
}

func TestCopiesWhoseRecordsAreGoneAreCounted(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "history_limit", 2)
	id := e.bindDecoy("bait", c1test.KindConnectorClient)
	for range 5 {
		e.write("decoy-creds/bait")
	}
	e.b.work.Wait()
	resp := e.write("lookup", "decoy_id", id)
	require.Len(t, resp.Data["planted"], 2)
	require.Contains(t, resp.Warnings[0], "lacks 3 older version(s)")
	require.Equal(t, 5, e.lookUp("client_id", e.state(decoyTarget(id)).Current.ClientID)["version"], "the client ID is still in use")
}

func TestAPrefixOfSeveralFingerprintsListsThem(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	whole := e.vend("connector-creds/hr").Data["fingerprint_sha256"].(string)
	// A second secret with the same 12 digits cannot be made: write its record.
	twin := whole[:20] + strings.Repeat("0", 44)
	ref := decoyTarget("twin")
	require.NoError(t, writeState(t.Context(), e.b.store, &target.State{
		Ref: ref, Version: 1, Newest: &target.Record{Version: 1, Outcome: target.OutcomeIssued, Fingerprint: twin, Origin: target.Origin{Binding: "bait"}},
	}))
	require.NoError(t, e.b.writeIndex(t.Context(), &target.State{Ref: ref, Version: 1}, []store.Key{fingerprintKey(twin)}))
	resp := e.write("lookup", "fingerprint_prefix", strings.ToUpper(whole[:16]))
	require.Len(t, resp.Warnings, 1)
	matches := resp.Data["matches"].([]any)
	require.Len(t, matches, 2)
	bindings := []any{matches[0].(map[string]any)["binding"], matches[1].(map[string]any)["binding"]}
	require.ElementsMatch(t, []any{"hr", "bait"}, bindings)
	require.NotContains(t, resp.Data, "binding", "none of them is more likely than the other")
	require.Equal(t, "bait", e.lookUp("fingerprint_prefix", twin[:24])["binding"])
}

func TestLookupTakesExactlyOneGoodKey(t *testing.T) {
	t.Parallel()
	e := configured(t)
	whole := strings.Repeat("ab", 32)
	for name, bad := range map[string]struct {
		input []any
		says  string
	}{
		"nothing":                  {nil, "give exactly one of fingerprint_sha256, fingerprint_prefix, decoy_id, client_id, credential_id"},
		"blank":                    {[]any{"decoy_id", " "}, "give exactly one of"},
		"two":                      {[]any{"decoy_id", "a", "client_id", "b"}, "decoy_id and client_id: give exactly one"},
		"a short fingerprint":      {[]any{"fingerprint_sha256", whole[:32]}, "give what you have as fingerprint_prefix"},
		"a very short fingerprint": {[]any{"fingerprint_sha256", "abc"}, "fingerprint_sha256: must be the whole SHA-256"},
		"no hex":                   {[]any{"fingerprint_sha256", strings.Repeat("g", 64)}, "fingerprint_sha256"},
		"the secret":               {[]any{"fingerprint_sha256", "secret-token:conductorone.com:v1:x"}, "never the secret itself"},
		"eleven digits":            {[]any{"fingerprint_prefix", whole[:11]}, "fingerprint_prefix: must be the first 12"},
		"too many digits":          {[]any{"fingerprint_prefix", whole + "ab"}, "fingerprint_prefix"},
		"a bad decoy ID":           {[]any{"decoy_id", "a/b"}, "decoy_id"},
		"a client ID of two lines": {[]any{"client_id", "a@b/c\nd"}, "client_id"},
		"a huge credential ID":     {[]any{"credential_id", strings.Repeat("x", 2000)}, "credential_id"},
		"a time for a fingerprint": {[]any{"fingerprint_sha256", whole, "at", "2026-01-02T03:04:05Z"}, "at goes with"},
		"no time":                  {[]any{"decoy_id", "x", "at", "yesterday"}, "at \"yesterday\": must be a time"},
		"an unknown field":         {[]any{"fingerprint", whole}, "unknown field"},
	} {
		f := e.refused(logical.UpdateOperation, "lookup", fields(bad.input...))
		require.Equal(t, http.StatusBadRequest, f.status, name)
		require.Contains(t, f.message, bad.says, name)
		require.NotContains(t, f.message, "conductorone.com", name)
	}
	for _, key := range lookupKeys {
		value := map[bool]string{true: whole, false: "unknown"}[strings.HasPrefix(key, "fingerprint")]
		require.Contains(t, e.noRecord(key, value), key)
	}
	e.bindDecoy("bait", c1test.KindAccessToken)
	require.Contains(t, e.noRecord("decoy_id", e.c1.Decoy(c1test.KindAccessToken)), "bound as bait, and this mount has never rotated it")
}

func TestNoLookupWalksAllTargets(t *testing.T) {
	t.Parallel()
	e := configured(t)
	vended := map[string]any{}
	for i := range 20 {
		id := e.c1.NewDecoy(c1test.KindConnectorClient, "d", nil)
		name := fmt.Sprintf("d%d", i)
		e.must(logical.CreateOperation, "decoys/"+name, fields("decoy_id", id, "rotate_on", "write"))
		vended = e.write("decoy-creds/" + name).Data
	}
	e.b.work.Wait()
	e.b.store.Enable(false)
	e.storage.operations()
	for key, value := range map[string]any{
		"fingerprint_sha256": vended["fingerprint_sha256"], "fingerprint_prefix": vended["fingerprint_sha256"].(string)[:12],
		"decoy_id": vended["decoy_id"], "client_id": vended["client_id"],
	} {
		e.lookUp(key, value)
		cost := e.storage.operations()
		require.LessOrEqual(t, cost.gets, 2, key)
		require.LessOrEqual(t, cost.lists, 1, key)
		require.Zero(t, cost.puts+cost.deletes, key)
	}
}

func TestTheIndexIsWholeAfterADeathBehindTheAnswer(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.storage.failWhen(func(op, key string) bool {
		return op == "put" && strings.HasPrefix(key, idPrefix)
	})
	vended := e.vend("connector-creds/hr").Data
	e.b.work.Wait()
	e.noRecord("client_id", vended["client_id"])
	e.storage.failWhen(nil)
	e.restart()
	e.after(2 * time.Minute)
	for _, key := range []string{"client_id", "credential_id"} {
		require.Equal(t, "hr", e.lookUp(key, vended[key])["binding"])
	}
}

func TestTheIndexForgetsWithTheRecord(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "history_limit", 2)
	e.bindConnector("hr")
	first := e.vend("connector-creds/hr").Data
	for range 3 {
		e.vend("connector-creds/hr")
	}
	e.b.work.Wait()
	for _, key := range []string{"fingerprint_sha256", "client_id", "credential_id"} {
		e.noRecord(key, first[key])
	}
	for prefix, n := range map[string]int{idPrefix: 4, fingerprintPrefix: 2} {
		keys, err := logical.CollectKeysWithPrefix(context.Background(), e.storage.Storage, prefix)
		require.NoError(t, err)
		require.Len(t, keys, n, prefix)
	}
}
