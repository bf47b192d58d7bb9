// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// Over the plugin's gRPC an error keeps its status only if it is sent bare, so
// each row of the error table is looked at from Vault's API.
func TestEachFailureOfC1ArrivesWithItsStatus(t *testing.T) {
	t.Parallel()
	const unknown = "outcome unknown"
	for name, c := range map[string]struct {
		fault   c1test.Fault
		status  int
		says    string
		outcome string // of the newest record; "" when the attempt stays open
	}{
		"400":                            {c1test.Fault{Status: 400}, 400, "400", "failed"},
		"404 in C1's own form":           {c1test.Fault{Status: 404}, 400, "404", "failed"},
		"409":                            {c1test.Fault{Status: 409}, 400, "409", "failed"},
		"403":                            {c1test.Fault{Status: 403}, 502, "give it the right at C1", "failed"},
		"503 with Retry-After":           {c1test.Fault{Status: 503, RetryAfter: "2"}, 502, "try again in 2s", "failed"},
		"429 with Retry-After":           {c1test.Fault{Status: 429, RetryAfter: "2"}, 429, "try again in 2s", "failed"},
		"500":                            {c1test.Fault{Status: 500}, 409, unknown, ""},
		"503 without Retry-After":        {c1test.Fault{Status: 503}, 409, unknown, ""},
		"500 of a proxy, after it acted": {c1test.Fault{StatusAfter: 502}, 409, unknown, ""},
		"the connection closed":          {c1test.Fault{DropBefore: true}, 409, unknown, ""},
		"the answer lost":                {c1test.Fault{DropAfter: true}, 409, unknown, ""},
		"the answer cut short":           {c1test.Fault{Truncate: true}, 409, unknown, ""},
		"an answer that is no JSON":      {c1test.Fault{Garbage: true}, 409, unknown, ""},
		"an answer without end":          {c1test.Fault{Endless: true}, 409, unknown, ""},
		"an empty answer":                {c1test.Fault{EmptyAnswer: true}, 409, unknown, ""},
		"no material":                    {c1test.Fault{OmitMaterial: true}, 409, unknown, ""},
		"no secret in the material":      {c1test.Fault{OmitSecret: true}, 409, unknown, ""},
		"no answer in time":              {c1test.Fault{Delay: 3 * time.Second}, 409, unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			e.Configure(e.Mount, e.Tenant, object{"max_retries": 0})
			e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
			c.fault.Op, c.fault.Times = c1test.OpRotateConnector, 1
			e.Tenant.AddFault(c.fault)

			_, err := e.Read("connector-creds/github")
			requireRefused(t, err, c.status, c.says)
			require.Equal(t, 1, rotations(e), "nothing is sent twice")
			if c.outcome != "" {
				require.Equal(t, c.outcome, e.Records("connectors/github")[0]["outcome"])
				requireHealthy(t, e)
			} else {
				require.Equal(t, "ambiguous", e.MustRead("connectors/github").Data["state"])
				require.EqualValues(t, 1, integer(t, e.MustRead("status").Data["ambiguous"]))
			}

			vaulttest.Eventually(t, 10*time.Second, func() error { // C1 may have asked to wait
				healed, err := e.Read("connector-creds/github")
				if err == nil {
					err = e.Login(healed)
				}
				return err
			})
			require.EqualValues(t, 0, integer(t, e.MustRead("status").Data["ambiguous"]))
		})
	}
}

func TestC1RefusingTheMountsIdentityIsABadGateway(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	id := e.Tenant.NewIdentity(c1test.Denied(c1test.OpRotateConnector))
	e.Configure(e.Mount, e.Tenant, object{"client_id": id.ClientID, "client_secret": id.ClientSecret})
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, http.StatusBadGateway, "give it the right at C1")

	// Unverified, so that the read is the first to log in.
	e.Configure(e.Mount, e.Tenant, object{"max_retries": 0, "verify_connection": false})
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpToken, Times: 1, Status: 401})
	_, err = e.Read("connector-creds/github")
	requireRefused(t, err, http.StatusBadGateway, "C1 refuses this mount's identity")
	require.Len(t, alive(e), 0)
	requireHealthy(t, e)
}

func TestC1OutOfReachIsABadGatewayAndChangesNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.Configure(e.Mount, e.Tenant, object{"max_retries": 0})
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	first := e.MustRead("connector-creds/github")
	e.Tenant.SetDown(true)
	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, http.StatusBadGateway, "nothing was sent to C1")
	e.Tenant.SetDown(false)
	require.NoError(t, e.Login(first))
	require.Equal(t, "failed", e.Records("connectors/github")[0]["outcome"])
	requireHealthy(t, e)
	vaulttest.Eventually(t, 30*time.Second, func() error { // as soon as C1 is tried again
		vended, err := e.Read("connector-creds/github")
		if err == nil {
			err = e.Login(vended)
		}
		return err
	})
}

func TestATargetThatIsGoneAtC1SaysSo(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	e.Tenant.DeleteDecoy(e.Tenant.Decoy(c1test.KindConnectorClient))
	_, err := e.Write("decoy-creds/bait", nil)
	requireRefused(t, err, 400, "404")

	e.Tenant.DeleteConnector(e.Tenant.Connector())
	_, err = e.Read("connector-creds/github")
	requireRefused(t, err, 400, "404")
	requireHealthy(t, e)
}

func TestATenantWithoutDecoysSaysSo(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	e.Tenant.SetDecoyFeature(false)
	_, err := e.Write("decoy-creds/bait", nil)
	requireRefused(t, err, 400, "early access")
	_, err = e.Write("decoys/other", object{"decoy_id": e.Tenant.Decoy(c1test.KindAccessToken), "rotate_on": "write"})
	requireRefused(t, err, 400, "early access")
}

func TestCooldownSaysWhenTheNextRotationIsAllowed(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), object{"cooldown": "1h"})
	first := e.MustRead("connector-creds/github")
	records := len(e.Records("connectors/github"))
	_, err := e.Read("connector-creds/github")
	requireRefused(t, err, http.StatusTooManyRequests, "cooling down")
	require.Contains(t, err.Error(), time.Now().UTC().Add(time.Hour).Format("2006-01-02T"))
	require.Equal(t, 1, rotations(e))
	require.Len(t, e.Records("connectors/github"), records, "nothing is stored")

	e.MustWrite("connectors/github", object{"cooldown": "0s"})
	require.NoError(t, e.Login(first))
	require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
}

func TestAWrongFingerprintIsReportedNotSwallowed(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, Times: 1, WrongFingerprint: true})
	vended := e.MustWrite("decoy-creds/bait", nil)
	require.Contains(t, strings.Join(vended.Warnings, "\n"), "fingerprint")
	require.NotEmpty(t, e.Records("decoys/bait")[0]["warning"])
	require.Equal(t, false, e.MustRead("status").Data["healthy"])

	require.Empty(t, e.MustWrite("decoy-creds/bait", nil).Warnings)
	requireHealthy(t, e)
}
