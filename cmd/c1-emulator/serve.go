// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// seedFile is what -seed-file holds: the first tenant's seeds, then all.
type seedFile struct {
	c1test.Seeds
	Tenants []c1test.Seeds `json:"tenants"`
}

// runningFile is what -running-file holds: a connector, and what it logs in with.
type runningFile struct {
	AppID        string `json:"app_id"`
	ConnectorID  string `json:"connector_id"`
	CredentialID string `json:"credential_id"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// serve runs the emulator until ctx ends.
func serve(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("c1-emulator", flag.ContinueOnError)
	var o c1test.Options
	flags.StringVar(&o.Addr, "addr", "127.0.0.1:0", "listen `address` of the first tenant; others take any free port")
	flags.BoolVar(&o.TLS, "tls", false, "serve HTTPS with a certificate for 127.0.0.1, ::1 and localhost")
	flags.DurationVar(&o.TokenTTL, "token-ttl", 0, "lifetime of access tokens (default 10m)")
	flags.StringVar(&o.Audience, "audience", "", "aud that client assertions must contain (default the host without port)")
	tenants := flags.String("tenants", "acme", "comma-separated `names`, one port each")
	semantics := flags.String("semantics", string(c1test.Overlapping),
		"what a rotation does to the previous connector credential: exclusive ends it, overlapping leaves it")
	revoked := flags.String("revoked", string(c1test.RevokedNotFound),
		"how a revoked connector credential is shown: not_found answers 404, shown answers 200 with deletedAt")
	tokenErrors := flags.String("token-errors", string(c1test.TokenErrorsOAuth),
		"form of the token endpoint's refusals: oauth (error, error_description) or grpc (code, message, details)")
	caFile := flags.String("ca-file", "", "write the CA certificate to this `file`")
	seedPath := flags.String("seed-file", "", "write URLs, identities and seeded IDs to this `file` (mode 0600, holds secrets)")
	runningPath := flags.String("running-file", "", "make a connector that runs already, and write its IDs and its credential to this `file` (mode 0600)")
	showVersion := flags.Bool("version", false, "print the version and exit")
	flags.Usage = func() {
		_, _ = fmt.Fprint(stderr, "Usage: c1-emulator [flags]\n       c1-emulator login -help\n       c1-emulator findings -help\n\n")
		flags.PrintDefaults()
		_, _ = fmt.Fprint(stderr, "\n"+c1test.AdminHelp)
	}
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *showVersion {
		_, err := fmt.Fprintf(stdout, "c1-emulator %s (%s)\n", version, commit)
		return err
	}
	if *caFile != "" && !o.TLS {
		return errors.New("-ca-file needs -tls")
	}

	o.Tenants = strings.Split(*tenants, ",")
	o.Semantics = c1test.Semantics(*semantics)
	o.RevokedAnswer = c1test.RevokedAnswer(*revoked)
	o.TokenErrors = c1test.TokenErrors(*tokenErrors)
	emulator, err := c1test.Start(o)
	if err != nil {
		return err
	}
	if *runningPath != "" {
		err = startConnector(emulator.Default(), *runningPath)
	}
	if err == nil {
		err = announce(emulator, *caFile, *seedPath, stdout)
	}
	if err != nil {
		return errors.Join(err, emulator.Close())
	}
	<-ctx.Done()
	return emulator.Close()
}

// startConnector gives a new connector a credential, as somebody does who sets it up
// without Vault.
func startConnector(t *c1test.Tenant, path string) error {
	ref := t.NewConnector("Okta")
	cred := t.RotateConnector(ref)
	encoded, err := json.MarshalIndent(runningFile{ //nolint:gosec // the secret is what the file is for
		AppID: ref.AppID, ConnectorID: ref.ConnectorID,
		CredentialID: cred.ID, ClientID: cred.ClientID, ClientSecret: cred.ClientSecret,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the connector: %w", err)
	}
	return writeFile(path, append(encoded, '\n'), 0o600)
}

// announce writes the files that were asked for, and then says where each
// tenant listens: who sees the line can read the files.
func announce(e *c1test.Emulator, caFile, seedPath string, stdout io.Writer) error {
	if caFile != "" {
		if err := writeFile(caFile, []byte(e.CACertPEM()), 0o644); err != nil {
			return err
		}
	}
	if seedPath != "" {
		seeds := seedFile{Seeds: e.Default().Seeds()}
		for _, t := range e.Tenants() {
			seeds.Tenants = append(seeds.Tenants, t.Seeds())
		}
		encoded, err := json.MarshalIndent(seeds, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the seeds: %w", err)
		}
		if err := writeFile(seedPath, append(encoded, '\n'), 0o600); err != nil {
			return err
		}
	}
	for _, t := range e.Tenants() {
		if _, err := fmt.Fprintf(stdout, "tenant %s listens on %s\n", t.Name(), t.URL()); err != nil {
			return fmt.Errorf("announce the tenants: %w", err)
		}
	}
	return nil
}

// writeFile replaces path in one step, so that neither a reader sees half a
// file nor an older file's mode survives.
func writeFile(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".c1-emulator-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(temporary.Name()))
	}
	return nil
}
