// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// refusal is an input that must be refused with 400 and change nothing.
type refusal struct {
	path string
	data object
	says string // part of the message: the field, or what to do
}

// requireNothingChanges sends bad input, and compares all that the engine shows
// and all that C1 was told before and after.
func requireNothingChanges(t *testing.T, e *vaulttest.Engine, cases map[string]refusal) {
	t.Helper()
	before, rotated := snapshot(t, e), rotations(e)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := e.Write(c.path, c.data)
			requireRefused(t, err, http.StatusBadRequest, c.says)
			require.Equal(t, before, snapshot(t, e))
			require.Equal(t, rotated, rotations(e))
		})
	}
}

// snapshot is the configuration and every binding.
func snapshot(t *testing.T, e *vaulttest.Engine) object {
	t.Helper()
	shown := object{}
	read := func(path string) {
		if answer, err := e.Read(path); err == nil && answer != nil {
			shown[path] = answer.Data
		}
	}
	read("config")
	for _, kind := range []string{"connectors", "decoys"} {
		list, err := e.Root.Logical().List(e.Path(kind))
		require.NoError(t, err)
		if list == nil {
			continue
		}
		for _, name := range list.Data["keys"].([]any) {
			read(fmt.Sprintf("%s/%s", kind, name))
		}
	}
	return shown
}

func TestBadConfigurationIsRefusedByFieldAndChangesNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	secret := e.Tenant.Identity().ClientSecret
	secretOf := func(version, key string) object {
		return object{"client_secret": "secret-token:conductorone.com:" + version + ":" + key}
	}
	jwk := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	ownKey := strings.TrimPrefix(secret, "secret-token:conductorone.com:v1:")
	publicKey := func() string {
		raw, err := base64.RawURLEncoding.DecodeString(ownKey)
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(raw), `"x":"`)
		x, _, _ := strings.Cut(rest, `"`)
		require.NotEmpty(t, x)
		return jwk(`{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`)
	}
	withSecret := func(data object) object {
		all := object{"client_secret": secret}
		maps.Copy(all, data)
		return all
	}
	requireNothingChanges(t, e, map[string]refusal{
		"a new client_id without the secret":     {"config", object{"client_id": e.Tenant.PlainIdentity().ClientID}, "client_secret"},
		"a new url without the secret":           {"config", object{"url": "https://127.0.0.1:1"}, "client_secret"},
		"a cleared url without the secret":       {"config", object{"url": ""}, "client_secret"},
		"a new tenant_domain without the secret": {"config", object{"tenant_domain": "evil"}, "client_secret"},
		"a cleared CA without the secret":        {"config", object{"ca_cert": ""}, "client_secret"},
		"an empty secret":                        {"config", object{"url": "https://127.0.0.1:1", "client_secret": ""}, "client_secret"},
		"url and tenant_domain":                  {"config", withSecret(object{"url": e.Tenant.URL(), "tenant_domain": "acme"}), "exclude each other"},
		"client_secret and access_token":         {"config", withSecret(object{"access_token": "x"}), "exclude each other"},
		"a client_id without host":               {"config", withSecret(object{"client_id": "hydra"}), "client_id"},
		"a client_id without use":                {"config", withSecret(object{"client_id": "hydra@acme.conductor.one"}), "client_id"},
		"a secret of another version":            {"config", secretOf("v2", ownKey), "client_secret"},
		"a secret that is no base64url":          {"config", secretOf("v1", "***"), "client_secret"},
		"a secret that is no JWK":                {"config", secretOf("v1", jwk("hello")), "client_secret"},
		"a secret of another curve":              {"config", secretOf("v1", jwk(p256(t))), "client_secret"},
		"a public key":                           {"config", secretOf("v1", publicKey()), "client_secret"},
		"plain http":                             {"config", withSecret(object{"url": "http://127.0.0.1"}), "url"},
		"credentials in the url":                 {"config", withSecret(object{"url": "https://a:b@127.0.0.1"}), "url"},
		"a path in the url":                      {"config", withSecret(object{"url": "https://127.0.0.1/api"}), "url"},
		"a query in the url":                     {"config", withSecret(object{"url": "https://127.0.0.1?a=b"}), "url"},
		"a tenant_domain with a dot":             {"config", withSecret(object{"tenant_domain": "acme.conductor.one", "url": ""}), "tenant_domain"},
		"a CA that is no PEM":                    {"config", withSecret(object{"ca_cert": "hello"}), "CA"},
		"a zero timeout":                         {"config", object{"request_timeout": "0s"}, "request_timeout"},
		"a negative timeout":                     {"config", object{"request_timeout": "-5s"}, "request_timeout"},
		"an absurd timeout":                      {"config", object{"request_timeout": "10h"}, "request_timeout"},
		"a timeout that is none":                 {"config", object{"request_timeout": "soon"}, "request_timeout"},
		"negative retries":                       {"config", object{"max_retries": -1}, "max_retries"},
		"absurd retries":                         {"config", object{"max_retries": 1000}, "max_retries"},
		"no concurrency":                         {"config", object{"max_concurrent_requests": 0}, "max_concurrent_requests"},
		"a negative rate":                        {"config", object{"max_requests_per_second": -1}, "max_requests_per_second"},
		"no history":                             {"config", object{"history_limit": 0}, "history_limit"},
		"absurd history":                         {"config", object{"history_limit": 1_000_000}, "history_limit"},
		"an unknown field":                       {"config", object{"client_secrets": "x"}, `unknown field "client_secrets"`},
		"an identity that C1 does not take":      {"config", object{"client_secret": "wrong"}, "was not stored"},
		"somebody else's key":                    {"config", object{"client_secret": e.Tenant.NewIdentity().ClientSecret}, "was not stored"},
		"another host's certificate":             {"config", withSecret(object{"ca_cert": otherCA(t)}), "was not stored"},
	})
}

func p256(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	d, err := key.Bytes()
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"d":%q}`, b64(point[1:33]), b64(point[33:]), b64(d))
}

func otherCA(t *testing.T) string {
	t.Helper()
	return c1test.StartT(t, c1test.Options{TLS: true}).CACertPEM()
}

func TestTheTenantCannotChangeWhileBindingsExist(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	other := e.Server.Emulator(c1test.Options{})
	id := other.Default().Identity()
	elsewhere := object{
		"client_id": id.ClientID, "client_secret": id.ClientSecret,
		"url": other.Default().URL(), "ca_cert": other.CACertPEM(),
	}
	requireNothingChanges(t, e, map[string]refusal{"while bound": {"config", elsewhere, "tenant cannot be changed"}})
	_, err := e.Root.Logical().Delete(e.Path("config"))
	requireRefused(t, err, 400, "cannot be deleted")

	vended := e.MustRead("connector-creds/github")
	for _, binding := range []string{"connectors/github", "decoys/bait"} {
		_, err := e.Root.Logical().Delete(e.Path(binding))
		require.NoError(t, err)
	}
	requireNothingChanges(t, e, map[string]refusal{"while a lease lives": {"config", elsewhere, "tenant cannot be changed"}})

	revoke(t, e, vended)
	e.MustWrite("config", elsewhere)
	require.Equal(t, other.Default().URL(), e.MustRead("config").Data["url"])
	e.Configure(e.Mount, e.Tenant, nil) // so that the mount can be disabled
}

func TestBadBindingsAreRefusedByFieldAndChangeNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	free := e.Tenant.NewConnector("Free")
	freeDecoy := e.Tenant.Decoy(c1test.KindAccessToken)
	connector := func(change object) object {
		data := object{"app_id": free.AppID, "connector_id": free.ConnectorID, "rotate_on": "read"}
		maps.Copy(data, change)
		return data
	}
	decoy := func(change object) object {
		data := object{"decoy_id": freeDecoy, "rotate_on": "write"}
		maps.Copy(data, change)
		return data
	}
	without := func(data object, field string) object {
		delete(data, field)
		return data
	}
	cases := map[string]refusal{
		"no rotate_on":                    {"connectors/new", without(connector(nil), "rotate_on"), "rotate_on is required"},
		"an unknown rotate_on":            {"connectors/new", connector(object{"rotate_on": "reading"}), "rotate_on"},
		"a schedule's field":              {"connectors/new", connector(object{"rotation_period": "1h"}), "rotation_period"},
		"a lease's field":                 {"connectors/new", connector(object{"rotate_on": "schedule", "ttl": "1h"}), "ttl"},
		"a schedule of both kinds":        {"connectors/new", connector(object{"rotate_on": "schedule", "rotation_period": "1h", "rotation_schedule": "0 3 * * *"}), "rotation_period"},
		"a cron line that is none":        {"connectors/new", connector(object{"rotate_on": "schedule", "rotation_schedule": "at night"}), "rotation_schedule"},
		"no app_id":                       {"connectors/new", without(connector(nil), "app_id"), "app_id is required"},
		"no connector_id":                 {"connectors/new", without(connector(nil), "connector_id"), "connector_id is required"},
		"no decoy_id":                     {"decoys/new", without(decoy(nil), "decoy_id"), "decoy_id is required"},
		"an ID with a slash":              {"connectors/new", connector(object{"connector_id": "a/b"}), "connector_id"},
		"an ID with dots":                 {"connectors/new", connector(object{"app_id": ".."}), "app_id"},
		"an ID with a control character":  {"decoys/new", decoy(object{"decoy_id": "a\x00b"}), "decoy_id"},
		"an ID of 10 kB":                  {"decoys/new", decoy(object{"decoy_id": strings.Repeat("a", 10<<10)}), "decoy_id"},
		"a connector that is not there":   {"connectors/new", connector(object{"connector_id": "nowhere"}), "was not stored"},
		"a decoy that is not there":       {"decoys/new", decoy(object{"decoy_id": "nowhere"}), "was not stored"},
		"a ttl above max_ttl":             {"connectors/new", connector(object{"ttl": "2h", "max_ttl": "1h"}), "ttl"},
		"a negative ttl":                  {"connectors/new", connector(object{"ttl": "-1s"}), "ttl"},
		"an absurd max_ttl":               {"connectors/new", connector(object{"max_ttl": "1000000h"}), "max_ttl"},
		"a negative cooldown":             {"connectors/new", connector(object{"cooldown": "-1s"}), "cooldown"},
		"an absurd wrap_ttl":              {"connectors/new", connector(object{"wrap_ttl": "100000h"}), "wrap_ttl"},
		"a decoy's on_lease_end":          {"connectors/new", connector(object{"on_lease_end": "rotate"}), "on_lease_end"},
		"a connector's on_lease_end":      {"decoys/new", decoy(object{"on_lease_end": "revoke"}), "on_lease_end"},
		"metadata of 10 kB":               {"connectors/new", connector(object{"metadata": object{"a": strings.Repeat("b", 10<<10)}}), "metadata"},
		"an unknown field":                {"connectors/new", connector(object{"app": "x"}), `unknown field "app"`},
		"a decoy's field":                 {"connectors/new", connector(object{"decoy_id": freeDecoy}), `unknown field "decoy_id"`},
		"a second binding of a connector": {"connectors/new", object{"app_id": e.Tenant.Connector().AppID, "connector_id": e.Tenant.Connector().ConnectorID, "rotate_on": "read"}, "connectors/github"},
		"a second binding of a decoy":     {"decoys/new", object{"decoy_id": e.Tenant.Decoy(c1test.KindConnectorClient), "rotate_on": "write"}, "decoys/bait"},
		"another target":                  {"connectors/github", connector(nil), "fixed for a binding's life"},
		"another decoy":                   {"decoys/bait", decoy(nil), "fixed for a binding's life"},
		"a change to a bad value":         {"connectors/github", object{"cooldown": "-1s"}, "cooldown"},
	}
	for _, name := range []string{"-x", ".x", "a b", "a%b", "ü", "a:b", strings.Repeat("a", 129)} {
		cases[fmt.Sprintf("the name %.10q", name)] = refusal{"connectors/" + name, connector(nil), "name"}
	}
	requireNothingChanges(t, e, cases)
}

func TestBadRequestsToVendAreRefusedAndRotateNothing(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	bindExamples(e)
	requireNothingChanges(t, e, map[string]refusal{
		"an unknown binding":             {"connector-creds/nobody", nil, "connectors/nobody"},
		"an unknown decoy binding":       {"decoy-creds/nobody", nil, "decoys/nobody"},
		"a bad name":                     {"connector-creds/-x", nil, "name"},
		"an unknown field":               {"decoy-creds/bait", object{"place": "web-1"}, `unknown field "place"`},
		"a placement of 10 kB":           {"decoy-creds/bait", object{"placement": strings.Repeat("a", 10<<10)}, "placement"},
		"a placement over several lines": {"decoy-creds/bait", object{"placement": "a\nb"}, "placement"},
		"half a fingerprint":             {"lookup", object{"fingerprint_sha256": "ab12"}, "fingerprint_sha256"},
		"no fingerprint":                 {"lookup", nil, "fingerprint_sha256"},
	})
	_, err := e.Root.Logical().ReadWithData(e.Path("connector-creds/github"), map[string][]string{"placement": {"x"}})
	requireRefused(t, err, 400, "placement")
	require.Zero(t, rotations(e))
}

func TestWithoutConfigurationEveryPathSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	s := vaulttest.Shared(t)
	s.Mount("unconfigured")
	_, err := s.Root.Logical().Write("unconfigured/connectors/github", object{"app_id": "a", "connector_id": "b", "rotate_on": "read"})
	requireRefused(t, err, 400, "config")
	_, err = s.Root.Logical().Write("unconfigured/decoys/bait", object{"decoy_id": "a", "rotate_on": "write"})
	requireRefused(t, err, 400, "config")
	_, err = s.Root.Logical().Read("unconfigured/connector-creds/github")
	requireRefused(t, err, 400, "connectors/github")
	status, err := s.Root.Logical().Read("unconfigured/status")
	require.NoError(t, err)
	require.Equal(t, false, status.Data["configured"])
	require.Equal(t, false, status.Data["healthy"])
}
