// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command bare is the least that a secrets engine can do to rotate a connector
// for a reader: each read of creds makes the same call to C1 as the engine
// under test and answers with the same fields under a lease. It records nothing,
// so whatever it loses is lost. What Vault itself takes for a leased read cannot
// be less than this: it is the floor to measure against, and nothing to use.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

const (
	secretType     = "bare_credential"
	requestTimeout = 30 * time.Second
)

func main() {
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory}); err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("the bare plugin stopped", "error", err)
		os.Exit(1)
	}
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := &backend{}
	b.Backend = &framework.Backend{
		Help:        "Rotates a connector per read and records nothing.",
		BackendType: logical.TypeLogical,
		Paths:       []*framework.Path{b.pathConfig(), b.pathCreds()},
		Secrets: []*framework.Secret{{
			Type:  secretType,
			Renew: b.renew,
			Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
				return nil, nil
			},
		}},
	}
	return b, b.Setup(ctx, conf)
}

// backend is one mount; all that it knows is in memory.
type backend struct {
	*framework.Backend

	mu      sync.RWMutex
	c1      *c1 // nil until config is written
	version int
}

// c1 is where to rotate what.
type c1 struct {
	client      *http.Client
	url         string
	token       string
	appID       string
	connectorID string
}

func (b *backend) pathConfig() *framework.Path {
	fields := map[string]*framework.FieldSchema{}
	for _, name := range []string{"url", "ca_cert", "token", "app_id", "connector_id"} {
		fields[name] = &framework.FieldSchema{Type: framework.TypeString}
	}
	return &framework.Path{
		Pattern:    "config$",
		Fields:     fields,
		Operations: map[logical.Operation]framework.OperationHandler{logical.UpdateOperation: &framework.PathOperation{Callback: b.writeConfig}},
	}
}

func (b *backend) pathCreds() *framework.Path {
	return &framework.Path{
		Pattern:    "creds$",
		Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: b.readCreds}},
	}
}

func (b *backend) writeConfig(_ context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(d.Get("ca_cert").(string))) {
		return nil, errors.New("ca_cert holds no certificate")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c1 = &c1{
		client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
		}},
		url:         d.Get("url").(string),
		token:       d.Get("token").(string),
		appID:       d.Get("app_id").(string),
		connectorID: d.Get("connector_id").(string),
	}
	return nil, nil
}

// readCreds leaves the lease's times to Vault, which fills in those of the
// mount, as the engine under test does for a binding without its own.
func (b *backend) readCreds(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	b.mu.RLock()
	c := b.c1
	b.mu.RUnlock()
	if c == nil {
		return nil, errors.New("write config first")
	}
	cred, err := c.rotate(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.version++
	version := b.version
	b.mu.Unlock()
	sum := sha256.Sum256([]byte(cred.ClientSecret))
	return b.Secret(secretType).Response(map[string]any{
		"app_id":             c.appID,
		"connector_id":       c.connectorID,
		"credential_id":      cred.ID,
		"client_id":          cred.ClientID,
		"client_secret":      cred.ClientSecret,
		"display_name":       cred.DisplayName,
		"created_at":         cred.CreatedAt,
		"expires_at":         cred.ExpiresTime,
		"fingerprint_sha256": hex.EncodeToString(sum[:]),
		"version":            version,
	}, map[string]any{"credential_id": cred.ID}), nil
}

func (b *backend) renew(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return &logical.Response{Secret: req.Secret}, nil
}

// credential is what C1 answers.
type credential struct {
	ID           string `json:"id"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	DisplayName  string `json:"displayName"`
	CreatedAt    string `json:"createdAt"`
	ExpiresTime  string `json:"expiresTime"`
}

func (c *c1) rotate(ctx context.Context) (*credential, error) {
	body, err := json.Marshal(map[string]string{"appId": c.appID, "connectorId": c.connectorID})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/v1/apps/connectors/credentials", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // the answer has been read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("C1 answered %s", res.Status)
	}
	var answer struct {
		Credential *credential `json:"credential"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Credential == nil {
		return nil, errors.New("C1's answer holds no credential")
	}
	return answer.Credential, nil
}
