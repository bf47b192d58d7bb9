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
	return t.useToken(ctx, nil, bearer)
}

// UseTokenProved makes an API call with an access token that is bound to the
// prover's key; nil means that C1 took it.
func (t *Tenant) UseTokenProved(ctx context.Context, prover *Prover, accessToken string) error {
	return t.useToken(ctx, prover, accessToken)
}

func (t *Tenant) useToken(ctx context.Context, prover *Prover, accessToken string) error {
	introspect := t.URL() + "/api/v1/auth/introspect"
	received, err := sendProved(prover, accessToken, t.now(), func() (*http.Request, error) {
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, introspect, http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("build the API request: %w", err)
		}
		rq.Header.Set("Authorization", "Bearer "+accessToken)
		if prover != nil {
			rq.Header.Set("Authorization", schemeDPoP+" "+accessToken)
		}
		return rq, nil
	}, t.client(), &introspectAnswer{})
	if err == nil && received.status != http.StatusOK {
		return &LoginError{Status: received.status}
	}
	return err
}

// received is what came back besides the body.
type received struct {
	status int
	nonce  string // for DPoP proofs, "" = none
}

// sendProved sends a request with a proof, without one when there is no prover.
// Who is given a nonce tries once more with it, as C1's DPoP client does.
func sendProved(prover *Prover, accessToken string, now time.Time, build func() (*http.Request, error),
	client *http.Client, out any,
) (received, error) {
	nonce := ""
	for {
		rq, err := build()
		if err != nil {
			return received{}, err
		}
		if prover != nil {
			proof, err := prover.Prove(rq.Method, rq.URL.String(), accessToken, nonce, now)
			if err != nil {
				return received{}, err
			}
			rq.Header.Set(proofHeader, proof)
		}
		answer, err := send(client, rq, out)
		if err != nil || prover == nil || answer.nonce == "" || nonce != "" || answer.status == http.StatusOK {
			return answer, err
		}
		nonce = answer.nonce
	}
}

// send reads the body into out when it is JSON.
func send(client *http.Client, rq *http.Request, out any) (received, error) {
	rq.Header.Set("User-Agent", userAgent)
	response, err := client.Do(rq)
	if err != nil {
		return received{}, fmt.Errorf("reach C1: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return received{}, fmt.Errorf("read C1's answer: %w", err)
	}
	_ = json.Unmarshal(body, out) // a proxy's page leaves it empty
	return received{status: response.StatusCode, nonce: response.Header.Get(nonceHeader)}, nil
}
