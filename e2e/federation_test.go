// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// replaceFile puts another file into a file's place, as a kubelet does.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// TestAMountWithoutASecretLogsInWithATokenFile: the file that whoever registers the
// plugin names is read for each access token, and replaced while those expire.
func TestAMountWithoutASecretLogsInWithATokenFile(t *testing.T) {
	t.Parallel()
	const subject, tokenLife = "system:serviceaccount:vault:c1", time.Second
	server := vaulttest.Start(t, vaulttest.Options{})
	file := filepath.Join(t.TempDir(), "token")
	server.RegisterPlugin("C1_IDENTITY_TOKEN_FILE=" + file)
	emulator := server.Emulator(c1test.Options{TokenTTL: tokenLife})
	tenant, issuer := emulator.Default(), c1test.NewIssuer("https://kubernetes.example")
	id := tenant.NewFederatedIdentity(issuer.Trust(subject))
	e := &vaulttest.Engine{Server: server, Mount: "c1", Emulator: emulator, Tenant: tenant}
	server.Mount(e.Mount)
	config := object{"client_id": id.ClientID, "url": tenant.URL(), "ca_cert": emulator.CACertPEM()}
	token := func(subject, audience string, at time.Time) string { return issuer.Token(subject, audience, at) }

	for _, bad := range []struct{ name, text, want string }{
		{"missing", "-", "no such file"},
		{"empty", " \n", "is empty"},
		{"too large", strings.Repeat("x", 64<<10+1), "is larger than"},
		{"no JWT", "not a token", "is not a signed JWT"},
		{"of another audience", token(subject, "globex.example", time.Now()), "is not meant for this tenant"},
		{"expired", token(subject, tenant.Audience(), time.Now().Add(-24*time.Hour)), "expired at"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			if bad.text == "-" {
				_ = os.Remove(file)
			} else {
				replaceFile(t, file, bad.text)
			}
			_, err := e.Write("config", config)
			requireRefused(t, err, 400, bad.want)
			cfg, err := e.Read("config")
			require.NoError(t, err)
			require.Nil(t, cfg, "nothing is stored")
		})
	}
	replaceFile(t, file, token("system:serviceaccount:default:other", tenant.Audience(), time.Now()))
	_, err := e.Write("config", config)
	requireRefused(t, err, 400, "condition")

	replaceFile(t, file, token(subject, tenant.Audience(), time.Now())+"\n")
	_, err = e.Write("config", object{"client_id": id.ClientID, "client_secret": tenant.Identity().ClientSecret, "url": tenant.URL(), "ca_cert": emulator.CACertPEM()})
	requireRefused(t, err, 400, "client_secret does not go with")
	e.MustWrite("config", config)
	require.Equal(t, "workload_federation", e.MustRead("config").Data["authentication"])
	_, err = e.Write("config/rotate-root", nil)
	requireRefused(t, err, 400, "workload federation")

	e.BindConnector(e.Mount, "github", tenant.Connector(), nil)
	minted := tenant.Requests(c1test.OpToken)
	for began := time.Now(); time.Since(began) < 10*tokenLife; {
		replaceFile(t, file, token(subject, tenant.Audience(), time.Now()))
		require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
	}
	require.Greater(t, tenant.Requests(c1test.OpToken)-minted, 5, "each token lives for %s", tokenLife)

	// A token that nobody replaces is told, and nothing else goes wrong.
	replaceFile(t, file, token(subject, tenant.Audience(), time.Now().Add(-24*time.Hour)))
	vaulttest.Eventually(t, time.Minute, func() error {
		_, err := e.Read("connector-creds/github")
		if err == nil {
			return errors.New("it still works")
		}
		require.ErrorContains(t, err, "expired at")
		return nil
	})
	replaceFile(t, file, token(subject, tenant.Audience(), time.Now()))
	require.NoError(t, e.Login(e.MustRead("connector-creds/github")))
	requireHealthy(t, e)
}

// TestAServerThatIssuesNoIdentityTokensSaysSo: only Vault Enterprise does.
func TestAServerThatIssuesNoIdentityTokensSaysSo(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	id := e.Tenant.NewFederatedIdentity(c1test.NewIssuer("https://vault.example").Trust(""))
	config := object{"client_id": id.ClientID, "client_secret": "", "identity_token_audience": e.Tenant.Audience()}
	_, err := e.Write("config", config)
	requireRefused(t, err, 400, "issues no plugin identity tokens", "C1_IDENTITY_TOKEN_FILE")
	delete(config, "identity_token_audience")
	_, err = e.Write("config", config)
	requireRefused(t, err, 400, "-env C1_IDENTITY_TOKEN_FILE")
	require.Equal(t, "signed_assertion", e.MustRead("config").Data["authentication"])
}

// TestEachCallCarriesAProofWhereC1WantsOne plays what a mount does with a credential
// that requires DPoP, while C1 asks for nonces and changes them.
func TestEachCallCarriesAProofWhereC1WantsOne(t *testing.T) {
	t.Parallel()
	server := startServer(t, vaulttest.Options{})
	for name, nonces := range map[string][2]bool{
		"without nonces": {}, "with nonces of both": {true, true}, "of the token endpoint": {true, false}, "of the API": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := server.With(t)
			emulator := s.Emulator(c1test.Options{TokenTTL: 2 * time.Second})
			tenant := emulator.Default()
			tenant.SetDPoPNonces(nonces[0], nonces[1])
			m := newOwnMount(s, "dpop-"+strings.ReplaceAll(name, " ", "-"), tenant, object{"root_grace_period": 0}, c1test.RequireDPoP())
			e := &vaulttest.Engine{Server: s, Mount: m.mount, Emulator: emulator, Tenant: tenant}
			require.Equal(t, true, e.MustRead("config").Data["requires_dpop"])
			e.BindConnector(e.Mount, "github", tenant.Connector(), nil)
			e.BindConnector(e.Mount, "okta", tenant.NewConnector("Okta"), object{"rotate_on": "schedule", "rotation_period": "1h"})
			e.BindDecoy(e.Mount, "bait", tenant.Decoy(c1test.KindConnectorClient), object{"annotate": true, "on_lease_end": "rotate"})
			for range 3 {
				vended := e.MustRead("connector-creds/github")
				require.NoError(t, e.Login(vended))
				tenant.RotateDPoPNonces()
				revoke(t, e, vended)
				bait := e.MustWrite("decoy-creds/bait", object{"placement": "web-1"})
				tenant.RotateDPoPNonces()
				revoke(t, e, bait)
				e.MustWrite("connectors/okta/rotate", nil)
				tenant.RevokeTokens()
				answer, err := m.root()
				require.NoError(t, err)
				require.Contains(t, m.alive(), answer.Data["client_id"])
			}
			vaulttest.Eventually(t, 2*time.Minute, m.rest)
			for _, c := range tenant.LiveCredentials() {
				if c.ServicePrincipalID == m.principal {
					require.True(t, c.RequireDPoP)
				}
			}
		})
	}
}
