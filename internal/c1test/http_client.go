// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// userAgent of Login is that of a connector; findings show it.
const userAgent = "baton-c1-credential-provider"

// newHTTPClient returns a client that trusts roots (nil = the system's), keeps
// no connection open and follows no redirect.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NewHTTPClient returns a client that trusts the certificates in caPEM, or the
// system's when it is empty.
func NewHTTPClient(caPEM string) (*http.Client, error) {
	if caPEM == "" {
		return newHTTPClient(nil), nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(caPEM)) {
		return nil, fmt.Errorf("the CA file holds no PEM certificate")
	}
	return newHTTPClient(roots), nil
}

// UseToken makes an API call with a bearer; nil means that C1 took it.
func (t *Tenant) UseToken(ctx context.Context, bearer string) error {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL()+"/api/v1/auth/introspect", nil)
	if err != nil {
		return fmt.Errorf("build the API request: %w", err)
	}
	rq.Header.Set("Authorization", "Bearer "+bearer)
	httpStatus, err := send(t.client(), rq, &introspectAnswer{})
	if err == nil && httpStatus != http.StatusOK {
		return &LoginError{Status: httpStatus}
	}
	return err
}

// send returns the status, with the body read into out when it is JSON.
func send(client *http.Client, rq *http.Request, out any) (int, error) {
	rq.Header.Set("User-Agent", userAgent)
	response, err := client.Do(rq)
	if err != nil {
		return 0, fmt.Errorf("reach C1: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return 0, fmt.Errorf("read C1's answer: %w", err)
	}
	_ = json.Unmarshal(body, out) // a proxy's page leaves it empty
	return response.StatusCode, nil
}
