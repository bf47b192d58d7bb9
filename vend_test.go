// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func TestReadRotatesAndVendsALiveCredential(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	resp := e.vend("connector-creds/hr")
	require.True(t, e.alive(resp))
	require.Equal(t, 1, resp.Data["version"])
	require.Equal(t, ref.ConnectorID, resp.Data["connector_id"])
	require.Equal(t, ref.AppID, resp.Data["app_id"])
	require.Equal(t, target.Fingerprint(resp.Data["client_secret"].(string)), resp.Data["fingerprint_sha256"])
	require.Equal(t, time.Hour, resp.Secret.TTL)
	require.Equal(t, 24*time.Hour, resp.Secret.MaxTTL)
	require.True(t, resp.Secret.Renewable)

	again := e.write("connector-creds/hr")
	require.Equal(t, 2, again.Data["version"])
	require.True(t, e.alive(again))
	require.True(t, e.alive(resp), "the one before lives until its own lease ends")
	require.Equal(t, "ready", e.read("connectors/hr").Data["state"])
	require.Equal(t, 2, e.read("connectors/hr").Data["live_leases"])
}

// The price of one leased rotation, exactly: two rounds of two storage writes,
// one request to C1 once a token is there, and two writes behind the answer.
func TestLeasedRotationCostsFiveWritesInTwoRoundsAndOneRequest(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	e.vend("connector-creds/hr")
	requests := e.c1.Requests("")

	e.b.work.Wait()
	e.storage.written()
	hold := e.c1.Hold("rotateConnector", c1test.BeforeCommit)
	done := make(chan *logical.Response, 1)
	go func() { done <- e.read("connector-creds/hr") }()
	<-hold.Arrived()
	first := e.storage.written()
	hold.Release()
	require.NotNil(t, <-done)
	e.b.work.Wait()
	second := e.storage.written()
	require.Len(t, second, 4)
	second, behind := second[:2], second[2:]

	prefixes := func(keys []string) []string {
		var out []string
		for _, key := range keys {
			head, _, _ := strings.Cut(key, "/")
			out = append(out, head)
		}
		slices.Sort(out)
		return out
	}
	require.Equal(t, []string{"due", "record", "target"}, prefixes(first), "intent, before C1 is asked")
	require.Equal(t, []string{"fingerprint", "target"}, prefixes(second), "outcome")
	require.Equal(t, []string{"id", "id"}, prefixes(behind), "what nobody waits for")
	require.Equal(t, 1, e.c1.Requests("")-requests)
	require.Equal(t, e.keyOf(stateKey(connectorTarget(ref))), second[slices.IndexFunc(second, func(k string) bool { return strings.HasPrefix(k, targetPrefix) })])
}

func TestThousandFirstCallersShareOneToken(t *testing.T) {
	t.Parallel()
	e := configured(t)
	const callers, targets = 1000, 100
	for i := range targets {
		ref := e.c1.NewConnector("c")
		name := "c" + strings.Repeat("x", i)
		e.must(logical.CreateOperation, "connectors/"+name, fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "read", "verify", false))
	}
	e.restart() // no token yet
	mints := e.c1.Requests("token")
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			resp, err := e.do(context.Background(), newRequest(logical.ReadOperation, "connector-creds/c"+strings.Repeat("x", i%targets), nil))
			if err != nil || resp == nil || resp.IsError() {
				t.Errorf("caller %d: %v %v", i, resp, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, e.c1.Requests("token")-mints)
	require.Equal(t, callers, e.c1.Requests("rotateConnector"))
}

func TestHundredReadersRotateStrictlyOneAtATime(t *testing.T) {
	t.Parallel()
	for _, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			e := configured(t, func(o *c1test.Options) { o.Semantics = semantics })
			ref := e.bindConnector("hr")
			const readers = 100
			byVersion := make([]*logical.Response, readers+1)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					resp, err := e.do(context.Background(), newRequest(logical.ReadOperation, "connector-creds/hr", nil))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					byVersion[resp.Data["version"].(int)] = resp
				})
			}
			wg.Wait()
			require.Equal(t, readers, e.c1.Changes("rotateConnector"))
			require.Equal(t, 1, e.c1.MaxConcurrent(ref.ConnectorID))
			require.NotContains(t, byVersion[1:], (*logical.Response)(nil), "each version was vended once")
			require.True(t, e.alive(byVersion[readers]), "the last one is alive")
		})
	}
}

func TestWriteOnlyBindingRefusesReads(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "rotate_on", "write")
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, "write connector-creds/hr to rotate")
	require.Zero(t, e.c1.Requests("rotateConnector"))
	require.True(t, e.alive(e.write("connector-creds/hr")))
}

func TestVendingWithoutWhatItNeedsIsRefusedAndAsksC1Nothing(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	require.Contains(t, e.refused(logical.ReadOperation, "connector-creds/hr", nil).message, "write connectors/hr first")
	e.configure(e.c1)
	require.Contains(t, e.refused(logical.UpdateOperation, "decoy-creds/bait", nil).message, "write decoys/bait first")
	e.bindConnector("hr")
	require.Contains(t, e.refused(logical.ReadOperation, "connector-creds/.hr", nil).message, "name")
	require.Contains(t, e.refused(logical.ReadOperation, "connector-creds/hr", fields("placement", "x")).message, "placement goes with a write")
	require.Contains(t, e.refused(logical.UpdateOperation, "connector-creds/hr", fields("placement", "a\tb")).message, "placement")
	require.Contains(t, e.refused(logical.UpdateOperation, "connector-creds/hr", fields("placement", strings.Repeat("x", 513))).message, "placement")
	require.Contains(t, e.refused(logical.UpdateOperation, "connector-creds/hr", fields("place", "x")).message, `"place"`)
	require.NoError(t, e.b.store.Delete(context.Background(), configKey))
	require.Contains(t, e.refused(logical.ReadOperation, "connector-creds/hr", nil).message, "write config first")
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

func TestCooldownNamesWhenTheNextRotationIsAllowed(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "cooldown", "10m")
	e.vend("connector-creds/hr")
	e.clock.advance(4 * time.Minute)
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusTooManyRequests, f.status)
	require.Contains(t, f.message, "allowed in 6m0s")
	require.Equal(t, 1, e.c1.Requests("rotateConnector"))
	e.clock.advance(6 * time.Minute)
	require.Equal(t, 2, e.vend("connector-creds/hr").Data["version"])
}

func TestCooldownSparesACallerThatNeverGotItsCredential(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "cooldown", "10m")
	req := newRequest(logical.ReadOperation, "connector-creds/hr", nil)
	_, err := e.do(context.Background(), req)
	require.NoError(t, err)
	e.refusedRequest(context.Background(), req) // Vault re-sent it: the first answer was lost
	require.Equal(t, 2, e.vend("connector-creds/hr").Data["version"])
}

func TestCooldownDoesNotDelayTheHealingOfAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "cooldown", "10m")
	e.vend("connector-creds/hr")
	e.clock.advance(10 * time.Minute)
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", DropAfter: true, Times: 1})
	require.Equal(t, statusOutcomeUnknown, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
	e.clock.advance(-9 * time.Minute)
	require.Equal(t, 2, e.vend("connector-creds/hr").Data["version"])
}

func TestForcedWrappingAsksVaultToWrap(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "wrap_ttl", "90s")
	require.Equal(t, 90*time.Second, e.vend("connector-creds/hr").WrapInfo.TTL)
}

func TestLeaseEndsNoLaterThanTheCredential(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.SetCredentialTTL(30 * time.Minute)
	ref := e.bindConnector("hr", "ttl", "1h", "max_ttl", "2h")
	resp := e.vend("connector-creds/hr")
	require.LessOrEqual(t, resp.Secret.TTL, 30*time.Minute)
	require.Greater(t, resp.Secret.TTL, 29*time.Minute)
	require.Equal(t, resp.Secret.TTL, resp.Secret.MaxTTL)
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], "ends with the credential")
	require.NotEmpty(t, resp.Data["expires_at"])
	require.WithinDuration(t, e.clock.now().Add(31*time.Minute), e.state(connectorTarget(ref)).Retire[0].At, 5*time.Second)
}

func TestLongTTLIsCappedWithAWarning(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr", "ttl", "100h", "max_ttl", "100h")
	resp := e.vend("connector-creds/hr")
	require.Equal(t, 24*time.Hour, resp.Secret.TTL)
	require.Len(t, resp.Warnings, 1)
}

func TestEveryKindOfDecoyVendsItsMaterial(t *testing.T) {
	t.Parallel()
	for k, tc := range map[c1test.Kind]struct {
		material string
		secret   string
	}{
		c1test.KindUserClientCredential: {materialClientCredential, "client_secret"},
		c1test.KindConnectorClient:      {materialClientCredential, "client_secret"},
		c1test.KindAccessToken:          {materialAccessToken, "access_token"},
		c1test.KindWorkloadFederation:   {materialWorkloadFederation, ""},
	} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			id := e.bindDecoy("bait", k)
			resp := e.write("decoy-creds/bait", "placement", "host db-7")
			require.Equal(t, id, resp.Data["decoy_id"])
			require.Equal(t, tc.material, resp.Data["material_type"])
			require.Equal(t, 1, resp.Data["version"])
			require.NotNil(t, resp.Secret)
			if tc.secret == "" {
				require.NotEmpty(t, resp.Data["workload_federation_trust_id"])
				require.Empty(t, resp.Data["fingerprint_sha256"])
				return
			}
			require.Equal(t, target.Fingerprint(resp.Data[tc.secret].(string)), resp.Data["fingerprint_sha256"])
			require.Equal(t, e.c1.DecoyFingerprint(id), resp.Data["fingerprint_sha256"])
			found := e.write("lookup", "fingerprint_sha256", strings.ToUpper(resp.Data["fingerprint_sha256"].(string)))
			require.Equal(t, "host db-7", found.Data["placement"])
			require.Equal(t, true, found.Data["current"])
		})
	}
}

func TestFingerprintThatDiffersIsReportedNotSwallowed(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.c1.AddFault(c1test.Fault{Op: "rotateDecoy", WrongFingerprint: true, Times: 1})
	resp := e.write("decoy-creds/bait")
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], "fingerprint")
	require.Equal(t, "drifted", e.read("decoys/bait").Data["state"])
	status := e.read("status").Data
	require.Equal(t, 1, status["drifted"])
	require.Equal(t, false, status["healthy"])

	require.Empty(t, e.write("decoy-creds/bait").Warnings)
	require.Equal(t, true, e.read("status").Data["healthy"], "the next rotation heals it")
}

func TestVendForDeletedTargetsIsAClearError(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	id := e.bindDecoy("bait", c1test.KindAccessToken)
	e.c1.DeleteConnector(ref)
	e.c1.DeleteDecoy(id)
	require.Equal(t, http.StatusBadRequest, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
	f := e.refused(logical.UpdateOperation, "decoy-creds/bait", nil)
	require.Equal(t, http.StatusBadRequest, f.status)
	require.Contains(t, f.message, "rotate decoy")
	require.Equal(t, "failed", e.history("decoys/bait")[0]["outcome"])
}

func TestStandbySendsAVendOnToTheActiveNode(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.onStandby()
	for _, op := range []logical.Operation{logical.ReadOperation, logical.UpdateOperation} {
		e.system.questions()
		_, err := e.do(context.Background(), newRequest(op, "connector-creds/hr", nil))
		require.Equal(t, logical.ErrReadOnly, err, "bare, so that Vault recognises it")
		require.LessOrEqual(t, e.system.questions(), 3, "the SDK's and ours, each once")
	}
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

// readOnlyStorage is a standby's, as a plugin sees it: of an error only the text
// comes through.
type readOnlyStorage struct{ logical.Storage }

func (readOnlyStorage) Put(context.Context, *logical.StorageEntry) error {
	return errors.New(logical.ErrReadOnly.Error())
}

func (readOnlyStorage) Delete(context.Context, string) error {
	return errors.New(logical.ErrReadOnly.Error())
}

// The node lost the right to write since Vault was asked last.
func TestWriteThatStorageRefusesToANewStandbyIsSentOn(t *testing.T) {
	t.Parallel()
	for path, op := range map[string]logical.Operation{
		"connector-creds/own":      logical.ReadOperation,
		"connector-creds/shared":   logical.UpdateOperation,
		"connectors/shared/rotate": logical.UpdateOperation,
		"connectors/own":           logical.DeleteOperation,
	} {
		t.Run(string(op)+" "+path, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			own := e.c1.NewConnector("own")
			e.must(logical.CreateOperation, "connectors/own", fields("app_id", own.AppID, "connector_id", own.ConnectorID, "rotate_on", "read"))
			e.scheduled("shared")
			e.vend("connector-creds/own")
			rotations := e.c1.Requests(c1test.OpRotateConnector)
			e.system.become(consts.ReplicationPerformanceStandby)
			e.b.work.Wait() // for what is written behind the answer
			e.storage.swap(readOnlyStorage{e.storage.under()})
			require.True(t, e.b.WriteSafeReplicationState(), "Vault's last word")
			_, err := e.do(context.Background(), newRequest(op, path, nil))
			require.Equal(t, logical.ErrReadOnly, err, "bare, so that Vault recognises it")
			require.Equal(t, rotations, e.c1.Requests(c1test.OpRotateConnector))
			require.False(t, e.b.WriteSafeReplicationState())
			require.Nil(t, storedBinding.Recall(e.b.store, bindingKey(target.Connector, "shared")))
			require.Equal(t, 1, e.read("connector-creds/shared").Data["version"])
		})
	}
}

func TestTargetOfAnotherTenantIsNotRotated(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	state := e.state(connectorTarget(ref))
	state.Tenant = "https://elsewhere.conductor.one"
	require.NoError(t, writeState(context.Background(), e.b.store, state))
	require.Contains(t, e.refused(logical.ReadOperation, "connector-creds/hr", nil).message, "elsewhere")
}

func TestLiveLeasesOfOneTargetAreBounded(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	state := e.state(connectorTarget(ref))
	for i := range target.MaxPendingRetirements {
		state.Retire = append(state.Retire, target.Retirement{Version: -i - 1, At: e.clock.now().Add(time.Hour)})
	}
	require.NoError(t, writeState(context.Background(), e.b.store, state))
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusTooManyRequests, f.status)
	require.Contains(t, f.message, "max_ttl")
	require.Zero(t, e.c1.Requests("rotateConnector"))
}

// history returns a binding's records, newest first.
func (e *engine) history(binding string) []map[string]any {
	e.Helper()
	var records []map[string]any
	for _, r := range e.read(binding + "/history").Data["records"].([]any) {
		records = append(records, r.(map[string]any))
	}
	return records
}

func TestRecordSaysWhoWhenAndWhyButNeverTheSecret(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	req := newRequest(logical.UpdateOperation, "connector-creds/hr", fields("placement", "payroll host"))
	resp, err := e.do(context.Background(), req)
	require.NoError(t, err)
	records := e.history("connectors/hr")
	require.Len(t, records, 1)
	r := records[0]
	require.Equal(t, "issued", r["outcome"])
	require.Equal(t, "write", r["reason"])
	require.Equal(t, "entity-1", r["entity_id"])
	require.Equal(t, "approle-billing", r["display_name"])
	require.Equal(t, "192.0.2.7", r["remote_address"])
	require.Equal(t, req.ID, r["request_id"])
	require.Equal(t, "payroll host", r["placement"])
	require.Equal(t, resp.Data["credential_id"], r["credential_id"])
	require.Equal(t, resp.Data["client_id"], r["client_id"])
	require.NotEmpty(t, r["started_at"])
	require.NotEmpty(t, r["ends_at"])

	for _, key := range []string{e.keyOf(stateKey(connectorTarget(e.c1.Connector()))), e.keyOf(bindingKey(target.Connector, "hr"))} {
		entry, err := e.storage.Get(context.Background(), key)
		require.NoError(t, err)
		for _, secret := range []string{resp.Data["client_secret"].(string)} {
			require.NotContains(t, string(entry.Value), secret)
		}
	}
	e.noSecretsIn("the log", e.logs.String())
}

func TestHistoryKeepsTheNewestAndCountsRepeatedFailures(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "history_limit", 3)
	e.bindConnector("hr")
	first := e.vend("connector-creds/hr")
	fault := e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: http.StatusConflict})
	for range 5 {
		e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	}
	fault.Clear()
	records := e.history("connectors/hr")
	require.Len(t, records, 2, "a retry loop does not push out who was issued what")
	require.Equal(t, 4, records[0]["repeats"])

	for range 3 {
		e.vend("connector-creds/hr")
	}
	records = e.history("connectors/hr")
	require.Len(t, records, 4, "three that were issued, and what failed before them")
	require.Equal(t, target.OutcomeFailed, records[3]["outcome"])
	require.Len(t, e.must(logical.ReadOperation, "connectors/hr/history", fields("limit", 1)).Data["records"], 1)
	require.Equal(t, http.StatusNotFound, e.refused(logical.UpdateOperation, "lookup",
		fields("fingerprint_sha256", first.Data["fingerprint_sha256"])).status, "pruned with its record")
}

func TestRotationsAreAnnouncedAsEvents(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	e.b.work.Wait() // nobody else waits for an event
	e.c1.AddFault(c1test.Fault{Op: "rotateConnector", Status: http.StatusConflict, Times: 1})
	e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	e.b.work.Wait()
	require.Len(t, e.events.Events, 2)
	good, bad := e.events.Events[0], e.events.Events[1]
	require.EqualValues(t, "c1/connector-rotate", good.Type)
	require.EqualValues(t, "c1/connector-rotate-fail", bad.Type)
	meta := good.Event.Metadata.AsMap()
	require.Equal(t, "true", meta[logical.EventMetadataModified])
	require.Equal(t, "connector-creds/hr", meta[logical.EventMetadataPath])
	require.Equal(t, "connectors/hr/history", meta[logical.EventMetadataDataPath])
	require.Equal(t, "false", bad.Event.Metadata.AsMap()[logical.EventMetadataModified])
}
