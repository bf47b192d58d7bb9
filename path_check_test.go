// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// findings are what a check says, as "severity about: finding".
func (e *engine) findings(pairs ...any) (found []string, data map[string]any) {
	e.Helper()
	before := e.changes()
	data = e.write("check", pairs...).Data
	require.Equal(e, before, e.changes(), "a check changes nothing at C1")
	for _, f := range data["findings"].([]any) {
		f := f.(map[string]any)
		require.NotEmpty(e, f["cure"])
		found = append(found, fmt.Sprintf("%s %s: %s", f["severity"], f["about"], f["finding"]))
	}
	return found, data
}

func TestACheckOfAHealthyMountFindsNothing(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.write("decoy-creds/bait")
	found, data := e.findings()
	require.Empty(t, found)
	require.Equal(t, true, data["ok"])
	require.Equal(t, 2, data["checked"])
	require.Empty(t, data["next"])
	require.NotEmpty(t, data["roles"])
}

func TestACheckFindsWhatDoesNotWork(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	found, data := e.findings()
	require.Equal(t, []string{"error config: this mount is not configured"}, found)
	require.Equal(t, false, data["ok"])

	id := e.c1.NewIdentity(c1test.ExpiresIn(30 * day))
	e.configureAs(id)
	e.after(time.Second)
	gone := e.c1.NewConnector("gone")
	e.must(logical.CreateOperation, "connectors/gone", fields("app_id", gone.AppID, "connector_id", gone.ConnectorID, "rotate_on", "read"))
	e.c1.DeleteConnector(gone)
	e.bindConnector("long", "max_ttl", "48h")
	bait := e.bindDecoy("bait", c1test.KindAccessToken)
	e.write("decoy-creds/bait")
	e.c1.RotateDecoy(bait)
	found, data = e.findings()
	require.Len(t, found, 4, "%v", found)
	require.Contains(t, found[0], "warning config: the mount's credential expires at")
	require.Contains(t, found[1], "error connectors/gone: ")
	require.Contains(t, found[2], "warning connectors/long: ttl or max_ttl is longer")
	require.Contains(t, found[3], "error decoys/bait: C1 shows a different fingerprint")
	require.Equal(t, false, data["ok"])

	e.clock.advance(20 * day)
	found, _ = e.findings()
	require.Contains(t, found[0], "error config: the mount's credential expires at")

	// A C1 that is away is told once, whatever is bound.
	e.c1.SetDown(true)
	found, data = e.findings()
	require.Len(t, found, 2)
	require.Contains(t, found[0], "error config: ")
	require.Equal(t, 0, data["checked"])
	e.c1.SetDown(false)
}

func TestAnEntryThatCannotBeReadIsFound(t *testing.T) {
	t.Parallel()
	e := configured(t)
	ref := e.bindConnector("hr")
	e.vend("connector-creds/hr")
	require.NoError(t, e.storage.Storage.Put(context.Background(), &logical.StorageEntry{
		Key: e.keyOf(stateKey(connectorTarget(ref))), Value: []byte(`{"format":99}`),
	}))
	e.restart()
	found, _ := e.findings()
	require.Len(t, found, 1)
	require.Contains(t, found[0], "error connectors/hr: ")
	require.Contains(t, found[0], "format")
}

func TestALargeMountIsCheckedPageByPage(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindMany(7)
	e.bindDecoy("bait", c1test.KindAccessToken)
	seen, after := 0, ""
	for range 10 {
		_, data := e.findings("limit", 3, "after", after)
		require.LessOrEqual(t, data["checked"], 3)
		seen += data["checked"].(int)
		if after = data["next"].(string); after == "" {
			break
		}
	}
	require.Equal(t, 8, seen)
	require.Contains(t, e.refused(logical.UpdateOperation, "check", fields("limit", 0)).message, "limit must lie between 1 and 1000")
}

func TestACheckTellsWhatEndsAndWhichClockIsWrong(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.c1.AddFault(c1test.Fault{ClockOffset: 10 * time.Minute})
	found, data := e.findings()
	require.Len(t, found, 1)
	require.Contains(t, found[0], "warning clock: C1's clock and this machine's are 10m")
	require.Equal(t, true, data["ok"], "it works nevertheless")

	cfg, err := readConfig(context.Background(), e.disk())
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(cfg.CACert))
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	for left, want := range map[time.Duration]int{31 * day: 0, 29 * day: 1} {
		e.clock.advance(certificate.NotAfter.Add(-left).Sub(e.clock.now()))
		c := &checkup{backend: e.b}
		c.checkCertificates(cfg)
		require.Len(t, c.found, want)
	}
}
