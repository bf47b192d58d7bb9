// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command connector stands in for a baton-* connector: it reads its credential
// from BATON_CLIENT_ID and BATON_CLIENT_SECRET once, when it starts, logs in to C1
// with it and runs until it is told to stop. It is a program of the tests, which
// read in its report what it did.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "connector:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	tenant := flag.String("url", "", "`URL` of the tenant")
	caFile := flag.String("ca-file", "", "`file` with the CA's certificate")
	report := flag.String("report", "", "`file` to append a line of JSON to")
	flag.Parse()

	id, secret := os.Getenv("BATON_CLIENT_ID"), os.Getenv("BATON_CLIENT_SECRET")
	if id == "" || secret == "" {
		return fmt.Errorf("BATON_CLIENT_ID and BATON_CLIENT_SECRET must be set")
	}
	said := "logged in"
	if err := login(ctx, *tenant, *caFile, id, secret); err != nil {
		said = err.Error()
	}
	if err := tell(*report, id, said); err != nil {
		return err
	}
	<-ctx.Done()
	return tell(*report, id, "stopped")
}

func login(ctx context.Context, tenant, caFile, id, secret string) error {
	root, err := url.Parse(tenant)
	if err != nil {
		return fmt.Errorf("-url is no URL")
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("read the CA's certificate: %w", err)
	}
	client, err := c1test.NewHTTPClient(string(ca))
	if err != nil {
		return err
	}
	_, err = c1test.Login(ctx, client, c1test.LoginRequest{
		URL: tenant, Audience: root.Hostname(), ClientID: id, ClientSecret: secret, Now: time.Now(),
	})
	return err
}

// tell appends to the report.
func tell(report, id, said string) error {
	line, err := json.Marshal(map[string]any{"pid": os.Getpid(), "client_id": id, "said": said})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}
