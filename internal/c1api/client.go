// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package c1api is a client for the part of C1's API that this project uses.
// It knows nothing of Vault.
package c1api

import (
	"context"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options is everything a Client is built from.
type Options struct {
	URL                   string // tenant, e.g. https://acme.conductor.one; https only
	ClientID              string
	ClientSecret          string // secret-token:… signs assertions, anything else goes in the body
	AccessToken           string // a static bearer; excludes ClientID and ClientSecret
	CACertPEM             string // additional roots; empty means the system's
	RequestTimeout        time.Duration
	MaxRetries            int
	MaxRequestsPerSecond  float64 // 0 = unlimited
	MaxConcurrentRequests int     // 0 = unlimited
	UserAgent             string
	Logger                hclog.Logger
	Transport             http.RoundTripper // tests; nil builds one
	Now                   func() time.Time  // tests; nil is time.Now
}

// Client is one identity's access to one tenant; safe for concurrent use.
type Client struct{}

// Health is what a Client knows about its connection.
type Health struct {
	TokenExpiresAt time.Time     // zero: no token yet, or a static one
	LastSuccess    time.Time     // last answer below 500
	LastLatency    time.Duration // of that answer
	Breaker        string        // closed, half-open, open
	ClockOffset    time.Duration // C1's clock minus ours, as learned from Date
	TokenMints     int64
}

func New(o Options) (*Client, error) { panic("stub") }

// Close ends idle connections. Calls under way go on.
func (c *Client) Close()         {}
func (c *Client) Health() Health { panic("stub") }

// Introspect checks that the identity works.
func (c *Client) Introspect(ctx context.Context) (*Introspection, error) { panic("stub") }

func (c *Client) GetConnector(ctx context.Context, appID, connectorID string) (*Connector, error) {
	panic("stub")
}

func (c *Client) RotateConnectorCredential(ctx context.Context, appID, connectorID string) (*ConnectorCredential, error) {
	panic("stub")
}

func (c *Client) GetConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) (*ConnectorCredential, error) {
	panic("stub")
}

func (c *Client) RevokeConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) error {
	panic("stub")
}

func (c *Client) GetDecoy(ctx context.Context, id string) (*Decoy, error) { panic("stub") }

func (c *Client) RotateDecoy(ctx context.Context, id string) (*Decoy, *DecoyMaterial, error) {
	panic("stub")
}

// ParseClientID splits "<name>@<host>/<use>"; host may carry a port.
func ParseClientID(id string) (name, host, use string, err error) { panic("stub") }

// CheckClientSecret says whether New would take the secret, in words that never repeat it.
func CheckClientSecret(secret string) error { panic("stub") }

// TokenTenantURL derives https://host from a client ID.
func URLFromClientID(clientID string) (string, error) { panic("stub") }
