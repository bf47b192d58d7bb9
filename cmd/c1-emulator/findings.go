// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// maxFindings bounds what is read from the emulator.
const maxFindings = 64 << 20

// findings prints every use of a decoy as indented JSON.
func findings(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("c1-emulator findings", flag.ContinueOnError)
	tenantURL := flags.String("url", "", "`URL` of the tenant")
	caFile := flags.String("ca-file", "", "CA certificate `file` (default: the system's)")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *tenantURL == "" {
		return errors.New("-url is missing")
	}
	client, err := newClient(*caFile)
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(*tenantURL, "/")+"/_emulator/findings", nil)
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	response, err := client.Do(rq)
	if err != nil {
		return fmt.Errorf("ask for findings: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFindings))
	if err != nil {
		return fmt.Errorf("read the findings: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: is it an emulator?", *tenantURL, response.Status)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, body, "", "  "); err != nil {
		return fmt.Errorf("the findings are not JSON: %w", err)
	}
	_, _ = fmt.Fprintln(stdout, indented.String())
	return nil
}

// newClient returns an HTTP client that trusts the certificates in a file, or
// the system's when there is none.
func newClient(caFile string) (*http.Client, error) {
	if caFile == "" {
		return c1test.NewHTTPClient("")
	}
	content, err := os.ReadFile(caFile) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	return c1test.NewHTTPClient(string(content))
}
