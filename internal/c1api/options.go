// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"
)

// settings are Options after checking.
type settings struct {
	unprintable

	tenant  *url.URL
	key     *jose.JSONWebKey // nil: no assertions
	roots   *x509.CertPool
	timeout time.Duration
	log     hclog.Logger
	now     func() time.Time
}

// check refuses options that contradict each other or cannot work.
func (o Options) check() (*settings, error) {
	s := &settings{timeout: o.RequestTimeout, log: o.Logger, now: o.Now}
	if s.timeout <= 0 {
		s.timeout = defaultRequestTimeout
	}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.tenant, err = parseTenantURL(o.URL); err != nil {
		return nil, err
	}
	if s.roots, err = parseRoots(o.CACertPEM, o.CACertOnly); err != nil {
		return nil, err
	}
	if r := o.MaxRequestsPerSecond; math.IsNaN(r) || math.IsInf(r, 0) || r < 0 {
		return nil, errors.New("the request rate must be a positive number, or 0 for no limit")
	}
	if s.key, err = o.checkIdentity(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkIdentity returns the key that signs assertions, or nil when the identity is
// proven otherwise.
func (o Options) checkIdentity() (*jose.JSONWebKey, error) {
	if o.AccessToken != "" {
		switch {
		case o.ClientID != "" || o.ClientSecret != "":
			return nil, errors.New("an access token excludes a client ID and secret: give one or the other")
		case o.IdentityToken != nil:
			return nil, errors.New("an access token excludes identity tokens: give one or the other")
		case o.DPoP:
			return nil, errors.New("an access token excludes DPoP: it is bound to nothing, or to a key that is not ours")
		}
		return nil, CheckAccessToken(o.AccessToken)
	}
	if o.ClientID == "" {
		return nil, errors.New("no identity: give a client ID with its secret, or an access token")
	}
	_, _, use, err := ParseClientID(o.ClientID)
	switch {
	case err != nil:
		return nil, err
	case o.IdentityToken == nil && use == UseFederation:
		return nil, errors.New("the client ID is a federation trust's (its use is wfe), which has no secret: give it identity tokens")
	case o.IdentityToken == nil:
		return parseClientSecret(o.ClientSecret)
	case use != UseFederation:
		return nil, errors.New("identity tokens are for the client ID of a federation trust only, which ends in /wfe")
	case o.ClientSecret != "":
		return nil, errors.New("identity tokens exclude a client secret: give one or the other")
	}
	return nil, nil
}

// parseTenantURL takes https://host[:port] and nothing else.
func parseTenantURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("no URL of a C1 tenant")
	}
	// The parser's own error repeats the URL, which may hold a password.
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be parsed")
	case u.Scheme != "https":
		return nil, errors.New("the URL must begin with https://")
	case u.User != nil:
		return nil, errors.New("the URL must not hold credentials")
	case u.Opaque != "" || u.Host == "":
		return nil, errors.New("the URL has no host")
	case u.Path != "" && u.Path != "/":
		return nil, errors.New("the URL must not have a path")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("the URL must not have a query")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("the URL must not have a fragment")
	}
	if err := checkHost(u.Host); err != nil {
		return nil, fmt.Errorf("the URL's %w", err)
	}
	return &url.URL{Scheme: "https", Host: strings.ToLower(u.Host)}, nil
}
