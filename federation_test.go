// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/pluginidentityutil"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// federated returns a mount without a config, an identity that a trust of an issuer
// lets in, and the file of its token.
func federated(t *testing.T) (e *engine, issuer *c1test.Issuer, id c1test.Identity, file string) {
	t.Helper()
	e = newEngine(t)
	issuer = c1test.NewIssuer("https://issuer.example")
	file = filepath.Join(t.TempDir(), "token")
	e.b.identityTokenFile = file
	return e, issuer, e.c1.NewFederatedIdentity(issuer.Trust("vault")), file
}

func (e *engine) federatedConfig(id c1test.Identity, extra ...any) map[string]any {
	return merge(fields("client_id", id.ClientID, "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM()), extra...)
}

func TestAFederatedMountHasNoSecretAndReadsItsTokenAnew(t *testing.T) {
	t.Parallel()
	e, issuer, id, file := federated(t)
	write := func(mode os.FileMode, text string) {
		require.NoError(t, os.RemoveAll(file))
		require.NoError(t, os.WriteFile(file, []byte(text), mode))
		require.NoError(t, os.Chmod(file, mode))
	}
	token := func() string { return issuer.Token("vault", e.c1.Audience(), e.clock.now()) }
	write(0o644, token()+"\n")
	resp := e.must(logical.UpdateOperation, "config", e.federatedConfig(id))
	require.Contains(t, resp.Warnings[0], "everybody on the host may read")
	write(0o640, token())
	require.Nil(t, e.must(logical.UpdateOperation, "config", e.federatedConfig(id)))
	cfg := e.read("config").Data
	require.Equal(t, "workload_federation", cfg["authentication"])
	require.Equal(t, id.ClientID, cfg["client_id"])
	require.Empty(t, cfg["identity_expires_at"])
	require.True(t, e.read("status").Data["healthy"].(bool))

	e.bindConnector("hr")
	for range 3 {
		e.after(time.Hour) // the access token has expired, and so has the file's
		f := e.refused(logical.ReadOperation, "connector-creds/hr", nil)
		require.Equal(t, http.StatusBadGateway, f.status)
		require.Contains(t, f.message, "expired at")
		write(0o600, token())
		require.True(t, e.alive(e.vend("connector-creds/hr")))
	}
	require.NotContains(t, e.logs.String(), strings.Split(token(), ".")[1])

	// Back to a secret, and nothing of it is left.
	e.must(logical.DeleteOperation, "connectors/hr", nil)
	e.configure(e.c1)
	require.Equal(t, "signed_assertion", e.read("config").Data["authentication"])
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("client_id", id.ClientID, "client_secret", "some-secret")).message,
		"does not go with a client_id of workload federation")
	e.must(logical.UpdateOperation, "config", fields("client_id", id.ClientID))
	stored, err := readConfig(context.Background(), e.disk())
	require.NoError(t, err)
	require.Empty(t, stored.ClientSecret)
}

func TestATokenFileThatWillNotDoIsRefused(t *testing.T) {
	t.Parallel()
	e, issuer, id, file := federated(t)
	for _, c := range []struct {
		name string
		make func()
		want string
	}{
		{"missing", func() {}, "no such file"},
		{"a directory", func() { require.NoError(t, os.Mkdir(file, 0o700)) }, "not a regular file"},
		{"a pipe", func() { require.NoError(t, syscall.Mkfifo(file, 0o600)) }, "not a regular file"},
		{"empty", func() { require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600)) }, "is empty"},
		{"too large", func() { require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("x", 64<<10+1)), 0o600)) }, "larger than"},
		{"no JWT", func() { require.NoError(t, os.WriteFile(file, []byte("hush-hush"), 0o600)) }, "is not a signed JWT"},
		{"unsigned", func() {
			require.NoError(t, os.WriteFile(file, []byte("eyJhbGciOiJub25lIn0.eyJhdWQiOiJhIn0."), 0o600))
		}, "is not a signed JWT"},
		{"for another tenant", func() {
			require.NoError(t, os.WriteFile(file, []byte(issuer.Token("vault", "globex.conductor.one", e.clock.now())), 0o600))
		}, "its aud does not contain"},
	} {
		require.NoError(t, os.RemoveAll(file))
		c.make()
		for _, verify := range []bool{true, false} {
			f := e.refused(logical.UpdateOperation, "config", e.federatedConfig(id, "verify_connection", verify))
			require.Contains(t, f.message, c.want, c.name)
			require.NotContains(t, f.message, "hush-hush")
		}
		require.Nil(t, e.read("config"), c.name)
	}
	require.Zero(t, e.c1.Requests(""), "nothing of it was shown to C1")
	e.b.identityTokenFile = ""
	require.Contains(t, e.refused(logical.UpdateOperation, "config", e.federatedConfig(id)).message, "-env C1_IDENTITY_TOKEN_FILE")
}

// issuing is a Vault that issues identity tokens, as Vault Enterprise does.
type issuing struct {
	*system
	token func(audience string, ttl time.Duration) string
}

func (s *issuing) GenerateIdentityToken(_ context.Context, r *pluginutil.IdentityTokenRequest) (*pluginutil.IdentityTokenResponse, error) {
	return &pluginutil.IdentityTokenResponse{Token: pluginutil.IdentityToken(s.token(r.Audience, r.TTL)), TTL: r.TTL}, nil
}

// issuingNone is a server that issues no identity tokens, by its error.
type issuingNone struct {
	*system
	err error
}

func (s issuingNone) GenerateIdentityToken(context.Context, *pluginutil.IdentityTokenRequest) (*pluginutil.IdentityTokenResponse, error) {
	return nil, s.err
}

func TestAServerThatIssuesNoTokenIsToldFromOneThatFails(t *testing.T) {
	t.Parallel()
	e, _, id, _ := federated(t)
	refusedBy := func(err error) string {
		e.b.node.SystemView = issuingNone{e.system, err}
		return e.refused(logical.UpdateOperation, "config", e.federatedConfig(id, "identity_token_audience", e.c1.Audience())).message
	}
	for _, err := range []error{
		pluginidentityutil.ErrPluginWorkloadIdentityUnsupported,
		errors.New("rpc error: code = Internal desc = plugin workload identity not supported in Vault community edition"),
		errors.New("rpc error: code = Unimplemented desc = unknown method GenerateIdentityToken for service pb.SystemView"), // OpenBao
	} {
		require.Contains(t, refusedBy(err), "-env C1_IDENTITY_TOKEN_FILE", "%v", err)
	}
	require.NotContains(t, refusedBy(errors.New("the key is gone")), "-env")
}

func TestVaultEnterpriseIssuesTheToken(t *testing.T) {
	t.Parallel()
	e, issuer, id, _ := federated(t)
	var ttl time.Duration
	e.b.node.SystemView = &issuing{e.system, func(audience string, life time.Duration) string {
		ttl = life
		return issuer.Token("vault", audience, e.clock.now())
	}}
	e.must(logical.UpdateOperation, "config", e.federatedConfig(id, "identity_token_audience", e.c1.Audience(), "identity_token_ttl", "20m"))
	require.Equal(t, 20*time.Minute, ttl)
	require.Equal(t, int64(1200), e.read("config").Data["identity_token_ttl"])
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("identity_token_audience", "globex.example")).message, "its aud does not contain")
	require.Contains(t, e.refused(logical.UpdateOperation, "config", fields("identity_token_ttl", "25h")).message, "identity_token_ttl must lie between")
	require.Equal(t, e.c1.Audience(), e.read("config").Data["identity_token_audience"])
}
