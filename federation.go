// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/vault/sdk/helper/pluginidentityutil"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// Workload federation: the mount has no secret at C1, and exchanges a JWT of somebody
// whom C1 trusts for an access token (RFC 8693).

// identityTokenFileEnv names the file that holds the JWT. Whoever registers the plugin
// sets it; whoever writes config cannot, or he could have any file sent to C1.
const identityTokenFileEnv = "C1_IDENTITY_TOKEN_FILE"

const maxIdentityToken = 64 << 10 // bytes

// identityToken returns where a federated mount gets its JWT from; nil for other
// mounts. It is asked anew for each exchange.
func (b *backend) identityToken(cfg *config) func(context.Context) (string, error) {
	if !cfg.federated() {
		return nil
	}
	return func(ctx context.Context) (string, error) {
		token, _, err := b.readIdentityToken(ctx, cfg)
		return token, err
	}
}

// readIdentityToken returns the JWT that C1 is to be shown, checked as far as it can
// be without the issuer's key, and a warning about where it comes from. No error
// repeats any of it.
func (b *backend) readIdentityToken(ctx context.Context, cfg *config) (token, warning string, err error) {
	from := "the token in the file of " + identityTokenFileEnv
	switch {
	case cfg.IdentityTokenAudience != "":
		from = "Vault's identity token for this plugin"
		token, err = b.pluginIdentityToken(ctx, cfg)
	case b.identityTokenFile == "":
		err = errors.New("a client_id of workload federation needs a token: register the plugin with -env " + identityTokenFileEnv +
			"=<path>, or set identity_token_audience on a server that issues plugin identity tokens (Vault Enterprise)")
	default:
		token, warning, err = readTokenFile(b.identityTokenFile)
	}
	if err != nil {
		return "", "", err
	}
	if err := c1api.IdentityTokenFits(token, cfg.tenant(), b.now()); err != nil {
		return "", "", fmt.Errorf("%s %w", from, err)
	}
	return token, warning, nil
}

// pluginIdentityToken has Vault issue a token that says which mount this is.
func (b *backend) pluginIdentityToken(ctx context.Context, cfg *config) (string, error) {
	answer, err := b.System().GenerateIdentityToken(ctx, &pluginutil.IdentityTokenRequest{
		Audience: cfg.IdentityTokenAudience, TTL: cfg.IdentityTokenTTL,
	})
	switch {
	case issuesNone(err):
		return "", errors.New("identity_token_audience: this server issues no plugin identity tokens, which only Vault Enterprise does: register the plugin with -env " +
			identityTokenFileEnv + "=<path> instead")
	case err != nil:
		return "", fmt.Errorf("identity_token_audience: Vault issued no identity token: %w", err)
	default:
		return answer.Token.Token(), nil
	}
}

// issuesNone reports whether an error says that the server issues no identity tokens at
// all. Over gRPC only its text is left: Vault's, or that OpenBao knows no such call.
func issuesNone(err error) bool {
	if err == nil {
		return false
	}
	says := func(text string) bool { return strings.Contains(err.Error(), text) }
	return errors.Is(err, pluginidentityutil.ErrPluginWorkloadIdentityUnsupported) ||
		says("not supported") || says("not implemented") || says("unknown method GenerateIdentityToken")
}

// readTokenFile reads the file that another program keeps up to date. Its path is the
// operator's own, so errors may name it.
func readTokenFile(path string) (token, warning string, err error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return "", "", fmt.Errorf("%s: %s is not a regular file", identityTokenFileEnv, path)
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(path) //nolint:gosec // whoever registers the plugin names it
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", identityTokenFileEnv, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	raw, err := io.ReadAll(io.LimitReader(file, maxIdentityToken+1))
	token = strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%s: %w", identityTokenFileEnv, err)
	case len(raw) > maxIdentityToken:
		return "", "", fmt.Errorf("%s: %s is larger than %d bytes", identityTokenFileEnv, path, maxIdentityToken)
	case token == "":
		return "", "", fmt.Errorf("%s: %s is empty", identityTokenFileEnv, path)
	}
	if info.Mode().Perm()&0o007 != 0 {
		warning = fmt.Sprintf("%s: everybody on the host may read %s: run chmod o= on it", identityTokenFileEnv, path)
	}
	return token, warning, nil
}
