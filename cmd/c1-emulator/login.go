// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// errRefused is a login that C1 refused; the command has said so by then.
var errRefused = errors.New("login refused")

// maxSecret bounds what is read as a secret.
const maxSecret = 64 << 10

// login asks for an access token as one of C1's clients does, and says whether
// C1 gave one.
func login(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("c1-emulator login", flag.ContinueOnError)
	tenantURL := flags.String("url", "", "`URL` of the tenant (default: from the client ID)")
	caFile := flags.String("ca-file", "", "CA certificate `file` (default: the system's)")
	audience := flags.String("audience", "", "aud of the assertion (default: the URL's host without port)")
	clientID := flags.String("client-id", "", "client `ID`")
	secretFile := flags.String("secret-file", "-", "`file` with the client secret, - for standard input")
	form := flags.String("form", string(c1test.LoginConnector),
		"as which of C1's clients: sdk, connector, dpop (with a proof of a new key) or plain (the whole secret in the body)")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if !slices.Contains(c1test.LoginForms(), c1test.LoginForm(*form)) {
		return fmt.Errorf("-form: %q is none of sdk, connector, dpop and plain", *form)
	}
	if *clientID == "" {
		return errors.New("-client-id is missing")
	}
	if *tenantURL == "" {
		_, after, _ := strings.Cut(*clientID, "@")
		host, _, found := strings.Cut(after, "/")
		if !found || host == "" {
			return errors.New("-url is missing, and the client ID names no host")
		}
		*tenantURL = "https://" + host
	}
	parsed, err := url.Parse(*tenantURL)
	if err != nil || parsed.Hostname() == "" {
		return errors.New("-url is not a URL")
	}
	if *audience == "" {
		*audience = parsed.Hostname()
	}
	secret, err := readSecret(*secretFile, stdin)
	if err != nil {
		return err
	}
	client, err := newClient(*caFile)
	if err != nil {
		return err
	}

	_, err = c1test.Login(ctx, client, c1test.LoginRequest{
		URL: strings.TrimSuffix(*tenantURL, "/"), Audience: *audience,
		ClientID: *clientID, ClientSecret: secret, Now: time.Now(),
		Form: c1test.LoginForm(*form),
	})
	if refusal := (*c1test.LoginError)(nil); errors.As(err, &refusal) {
		_, _ = fmt.Fprintln(stdout, "login failed:", refusal)
		return errRefused
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(stdout, "login succeeded")
	return nil
}

func readSecret(path string, stdin io.Reader) (string, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the file that the user names
		if err != nil {
			return "", fmt.Errorf("read the client secret: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	content, err := io.ReadAll(io.LimitReader(in, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read the client secret: %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", errors.New("the client secret is empty")
	}
	return secret, nil
}
