// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// identity returns a working config write for a tenant, for a case to change.
func (e *engine) identity(tenant *c1test.Tenant, extra ...any) map[string]any {
	id := tenant.Identity()
	return merge(fields("client_id", id.ClientID, "client_secret", id.ClientSecret,
		"url", tenant.URL(), "ca_cert", e.emu.CACertPEM()), extra...)
}

func TestConfigTakesEachWayToAuthenticate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data func(*engine) map[string]any
		want string
	}{
		"signed assertion": {func(e *engine) map[string]any { return e.identity(e.c1) }, authSignedAssertion},
		"plain secret": {func(e *engine) map[string]any {
			id := e.c1.PlainIdentity()
			return e.identity(e.c1, "client_id", id.ClientID, "client_secret", id.ClientSecret)
		}, authClientSecret},
		"static bearer": {func(e *engine) map[string]any {
			return fields("access_token", e.c1.StaticToken(), "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM())
		}, authAccessToken},
		"secret from a file with a newline at its end": {func(e *engine) map[string]any {
			return e.identity(e.c1, "client_secret", e.c1.Identity().ClientSecret+"\n")
		}, authSignedAssertion},
		"url from the client ID": {func(e *engine) map[string]any {
			data := e.identity(e.c1)
			delete(data, "url")
			return data
		}, authSignedAssertion},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			e.must(logical.UpdateOperation, "config", tc.data(e))
			got := e.read("config").Data
			require.Equal(t, tc.want, got["authentication"])
			require.Equal(t, e.c1.URL(), got["url"])
			e.bindConnector("hr")
			require.True(t, e.alive(e.vend("connector-creds/hr")))
		})
	}
}

func TestConfigReadNeverShowsASecret(t *testing.T) {
	t.Parallel()
	e := configured(t)
	data := e.read("config").Data
	require.NotContains(t, data, "client_secret")
	require.NotContains(t, data, "access_token")
	for key, value := range data {
		if text, ok := value.(string); ok {
			e.noSecretsIn("config "+key, text)
		}
	}
	require.EqualValues(t, 30, data["request_timeout"])
	require.EqualValues(t, 20, data["history_limit"])
}

func TestPartialConfigWriteKeepsTheRest(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.write("config", "request_timeout", 7, "max_requests_per_second", 2.5)
	data := e.read("config").Data
	require.EqualValues(t, 7, data["request_timeout"])
	require.InDelta(t, 2.5, data["max_requests_per_second"], 0)
	require.Equal(t, e.c1.Identity().ClientID, data["client_id"])
	e.bindConnector("hr")
	require.True(t, e.alive(e.vend("connector-creds/hr")), "the stored secret was kept")
}

func TestBadConfigIsRefusedByNameAndStoresNothing(t *testing.T) {
	t.Parallel()
	key := func(jwk string) string {
		return "secret-token:conductorone.com:v1:" + jwk
	}
	for name, tc := range map[string]struct {
		change []any
		names  string
	}{
		"client ID without host":        {[]any{"client_id", "strange-hydra-1/pcc", "url", ""}, "client_id"},
		"client ID without use":         {[]any{"client_id", "strange-hydra-1@acme.conductor.one"}, "client_id"},
		"client ID missing":             {[]any{"client_id", ""}, "client_id"},
		"secret missing":                {[]any{"client_secret", ""}, "client_secret"},
		"secret of another version":     {[]any{"client_secret", "secret-token:conductorone.com:v2:e30"}, "client_secret"},
		"secret not base64url":          {[]any{"client_secret", key("%%%")}, "client_secret"},
		"secret not a JWK":              {[]any{"client_secret", key("bm90IGpzb24")}, "client_secret"},
		"secret not Ed25519":            {[]any{"client_secret", key("eyJrdHkiOiJvY3QiLCJrIjoiQUFBQSJ9")}, "client_secret"},
		"secret a public key":           {[]any{"client_secret", key("eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5IiwieCI6IjExcVlBWUt4Q3JmVlNfN1R5V1FIT2c3aGN2UGFwaU1scndJYWFQY0hVUm8ifQ")}, "client_secret"},
		"url and tenant_domain":         {[]any{"tenant_domain", "acme"}, "url and tenant_domain"},
		"url with credentials":          {[]any{"url", "https://user:pw@acme.conductor.one"}, "url"},
		"url with a path":               {[]any{"url", "https://acme.conductor.one/api"}, "url"},
		"url with a query":              {[]any{"url", "https://acme.conductor.one?x=1"}, "url"},
		"url with plain http":           {[]any{"url", "http://acme.conductor.one"}, "url"},
		"url without host":              {[]any{"url", "https://"}, "url"},
		"url that is none":              {[]any{"url", "https://%zz"}, "url"},
		"tenant_domain with dots":       {[]any{"url", "", "tenant_domain", "acme.conductor.one"}, "tenant_domain"},
		"CA that is no PEM":             {[]any{"ca_cert", "not a certificate"}, "CA"},
		"negative timeout":              {[]any{"request_timeout", -5}, "request_timeout"},
		"zero timeout":                  {[]any{"request_timeout", 0}, "request_timeout"},
		"absurd timeout":                {[]any{"request_timeout", "1h"}, "request_timeout"},
		"timeout that is no duration":   {[]any{"request_timeout", "soon"}, "request_timeout"},
		"negative retries":              {[]any{"max_retries", -1}, "max_retries"},
		"absurd retries":                {[]any{"max_retries", 1000}, "max_retries"},
		"negative rate":                 {[]any{"max_requests_per_second", -1}, "max_requests_per_second"},
		"rate that is no number":        {[]any{"max_requests_per_second", "NaN"}, "max_requests_per_second"},
		"no concurrency":                {[]any{"max_concurrent_requests", 0}, "max_concurrent_requests"},
		"no history":                    {[]any{"history_limit", 0}, "history_limit"},
		"absurd history":                {[]any{"history_limit", 1_000_000}, "history_limit"},
		"unknown field":                 {[]any{"client_sceret", "x"}, "client_sceret"},
		"both secrets":                  {[]any{"access_token", "token"}, "access_token"},
		"token with a space":            {[]any{"client_id", "", "client_secret", "", "access_token", "a b"}, "access_token"},
		"token without tenant":          {[]any{"client_id", "", "client_secret", "", "url", "", "access_token", "abc"}, "url or tenant_domain"},
		"identity that C1 refuses":      {[]any{"client_secret", "wrong"}, "does not work"},
		"verify flag that is no bool":   {[]any{"verify_connection", "maybe"}, "verify_connection"},
		"secret with control character": {[]any{"client_secret", "a\nb"}, "client_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			f := e.refused(logical.UpdateOperation, "config", e.identity(e.c1, tc.change...))
			require.Equal(t, http.StatusBadRequest, f.status, f.message)
			require.Contains(t, f.message, tc.names)
			e.noSecretsIn("the error", f.message)
			require.Nil(t, e.read("config"))
		})
	}
}

func TestConfigWriteThatMovesTheSecretMustCarryIt(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][]any{
		"client_id":         {"client_id", "other-newt-1@evil.example/pcc"},
		"url":               {"url", "https://evil.example"},
		"cleared url":       {"url", ""},
		"tenant_domain":     {"url", "", "tenant_domain", "evil"},
		"ca_cert":           {"ca_cert", ""},
		"cleared client_id": {"client_id", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := configured(t)
			before := e.read("config").Data
			f := e.refused(logical.UpdateOperation, "config", fields(change...))
			require.Equal(t, http.StatusBadRequest, f.status)
			require.Contains(t, f.message, "client_secret")
			require.Equal(t, before, e.read("config").Data)
		})
	}
}

func TestTenantStaysWhileItIsNeeded(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	other := e.emu.Tenant("globex")
	change := func() failure { return e.refused(logical.UpdateOperation, "config", e.identity(other)) }
	require.Contains(t, change().message, "1 under connectors/, such as hr")
	require.Contains(t, e.refused(logical.DeleteOperation, "config", nil).message, "such as hr")

	lease := e.vend("connector-creds/hr").Secret
	e.must(logical.DeleteOperation, "connectors/hr", nil)
	require.Contains(t, change().message, "pending", "a live lease still needs the tenant")
	require.Contains(t, e.refused(logical.DeleteOperation, "config", nil).message, "pending")

	_, err := e.revoke(lease)
	require.NoError(t, err)
	e.must(logical.UpdateOperation, "config", e.identity(other))
	require.Equal(t, other.URL(), e.read("config").Data["url"])
	e.must(logical.DeleteOperation, "config", nil)
	require.Nil(t, e.read("config"))
}

func TestConfigWithoutVerificationIsStoredUnchecked(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.must(logical.UpdateOperation, "config", e.identity(e.c1, "client_secret", "wrong", "verify_connection", false))
	require.Zero(t, e.c1.Requests(""))
	f := e.refused(logical.CreateOperation, "connectors/hr", e.connectorData())
	require.Equal(t, http.StatusBadGateway, f.status)
	require.Contains(t, f.message, "identity")
}

func TestConfigWriteTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	denied := e.c1.NewIdentity(c1test.Denied("rotateConnector"))
	e.write("config", "client_id", denied.ClientID, "client_secret", denied.ClientSecret)
	f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
	require.Equal(t, http.StatusBadGateway, f.status, f.message)
	require.Contains(t, f.message, "right")
}

func TestConfigWrittenByAnotherNodeTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindConnector("hr")
	e.vend("connector-creds/hr")
	here := e.b
	e.b = nil
	e.restart() // another process on the same storage
	denied := e.c1.NewIdentity(c1test.Denied("rotateConnector"))
	e.write("config", "client_id", denied.ClientID, "client_secret", denied.ClientSecret)
	e.b = here
	e.b.InvalidateKey(context.Background(), configKey) // as Vault does
	require.Equal(t, http.StatusBadGateway, e.refused(logical.ReadOperation, "connector-creds/hr", nil).status)
}

func TestConfigIdentityIsReplacedWithItsSecret(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.must(logical.UpdateOperation, "config", fields("access_token", e.c1.StaticToken()))
	require.Equal(t, authAccessToken, e.read("config").Data["authentication"])
	require.Empty(t, e.read("config").Data["client_id"])
	id := e.c1.PlainIdentity()
	e.write("config", "client_id", id.ClientID, "client_secret", id.ClientSecret)
	require.Equal(t, authClientSecret, e.read("config").Data["authentication"])
	cfg, err := readConfig(context.Background(), e.disk())
	require.NoError(t, err)
	require.Empty(t, cfg.AccessToken)
}

func TestTenantDomainNamesTheHost(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.must(logical.UpdateOperation, "config",
		fields("access_token", "abc", "tenant_domain", "acme", "verify_connection", false))
	require.Equal(t, "https://acme.conductor.one", e.read("config").Data["url"])
	e.write("config", "access_token", "abc", "url", "https://C1.Example:8443/", "verify_connection", false)
	require.Equal(t, "https://c1.example:8443", e.read("config").Data["url"])
	require.Empty(t, e.read("config").Data["tenant_domain"])
}

func TestFailingStorageNeverStoresHalfAConfig(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, broken := range []string{"get config", "get names/salt", "put names/salt", "put names/policy", "put watermark", "put config"} {
		op, key, _ := strings.Cut(broken, " ")
		e.storage.failWhen(func(o, k string) bool { return o == op && k == key })
		f := e.refused(logical.UpdateOperation, "config", e.identity(e.c1))
		require.Equal(t, http.StatusInternalServerError, f.status, broken)
		e.storage.failWhen(nil)
		require.Nil(t, e.read("config"), broken)
	}
}
