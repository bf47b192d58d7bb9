// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command connector stands in for a baton-* connector: it reads its credential
// from BATON_CLIENT_ID and BATON_CLIENT_SECRET once, when it starts, and calls C1
// once a second. It keeps its access token until C1 takes it no longer, then logs in
// again with the same credential; when C1 refuses that, it fails and goes on
// running. It is a program of the tests, which read in its report what it did.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// callEvery is how often the connector calls C1.
const callEvery = time.Second

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
	report := flag.String("report", "", "`file` to append lines of JSON to")
	flag.Parse()

	c := connector{tenant: *tenant, report: *report, id: os.Getenv("BATON_CLIENT_ID"), secret: os.Getenv("BATON_CLIENT_SECRET")}
	if c.id == "" || c.secret == "" {
		return fmt.Errorf("BATON_CLIENT_ID and BATON_CLIENT_SECRET must be set")
	}
	ca, err := os.ReadFile(*caFile)
	if err != nil {
		return fmt.Errorf("read the CA's certificate: %w", err)
	}
	if c.client, err = c1test.NewHTTPClient(string(ca)); err != nil {
		return err
	}
	ticker := time.NewTicker(callEvery)
	defer ticker.Stop()
	for {
		if err := c.work(ctx); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return c.tell("stopped")
		}
	}
}

// connector is one process's credential and what has come of it.
type connector struct {
	client         *http.Client
	tenant, report string
	id, secret     string
	token          string
	said           string // the last line of the report
}

// work calls C1, and logs in before if it has to. What C1 refuses is reported, and
// no error.
func (c *connector) work(ctx context.Context) error {
	if c.token != "" {
		if taken, err := c.call(ctx); taken || err != nil {
			return err
		}
	}
	if said := outcome(c.login(ctx)); said != c.said && ctx.Err() == nil {
		return c.tell(said)
	}
	return nil
}

// call uses the access token, and reports whether C1 still takes it.
func (c *connector) call(ctx context.Context) (taken bool, err error) {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, c.tenant+"/api/v1/auth/introspect", http.NoBody)
	if err != nil {
		return false, errors.New("-url is no URL")
	}
	rq.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.client.Do(rq)
	if err != nil {
		return true, nil //nolint:nilerr // C1 said nothing, so the token is as good as before
	}
	return answer.StatusCode != http.StatusUnauthorized, answer.Body.Close()
}

// outcome is what the report says of a login.
func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "logged in"
}

// login gets an access token, or leaves none.
func (c *connector) login(ctx context.Context) error {
	root, err := url.Parse(c.tenant)
	if err != nil {
		return errors.New("-url is no URL")
	}
	c.token, err = c1test.Login(ctx, c.client, c1test.LoginRequest{
		URL: c.tenant, Audience: root.Hostname(), ClientID: c.id, ClientSecret: c.secret, Now: time.Now(), Form: c1test.LoginConnector,
	})
	return err
}

// tell appends to the report.
func (c *connector) tell(said string) error {
	c.said = said
	sum := sha256.Sum256([]byte(c.secret))
	line, err := json.Marshal(map[string]any{
		"time": time.Now(), "pid": os.Getpid(), "client_id": c.id, "fingerprint_sha256": hex.EncodeToString(sum[:]), "said": said,
	})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(c.report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}
