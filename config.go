// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/pluginidentityutil"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	configKey = "config"

	defaultRequestTimeout = 30 * time.Second
	// longestRequestTimeout, after the longest wait for a turn, still answers
	// within the 90 s that Vault gives a request.
	longestRequestTimeout  = 40 * time.Second
	defaultMaxRetries      = 3
	defaultMaxConcurrent   = 32
	defaultHistoryLimit    = 20
	defaultRotationWorkers = 8
	maxRotationWorkers     = 256
	defaultDriftCheck      = 24 * time.Hour
	shortestDriftCheck     = time.Minute
	longestDriftCheck      = 365 * 24 * time.Hour
	shortestRootPeriod     = 24 * time.Hour
	longestRootPeriod      = 365 * 24 * time.Hour
	defaultRootGrace       = time.Hour
	longestRootGrace       = 30 * 24 * time.Hour
	maxHistoryLimit        = target.MaxRecords
	tenantDomainSuffix     = ".conductor.one"
	authSignedAssertion    = "signed_assertion"
	authClientSecret       = "client_secret"
	authAccessToken        = "access_token"
	authFederation         = "workload_federation"
	maxCACertBytes         = 1 << 20
	maxRequestsPerSecondOK = 10_000
)

// config is the mount's one C1 identity and its limits.
type config struct {
	Revision     string `json:"revision"` // new on each write
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	AccessToken  string `json:"access_token,omitempty"`
	URL          string `json:"url,omitempty"`
	TenantDomain string `json:"tenant_domain,omitempty"`
	CACert       string `json:"ca_cert,omitempty"`
	CACertOnly   bool   `json:"ca_cert_only,omitempty"`
	RequireDPoP  bool   `json:"require_dpop,omitempty"` // as C1 said when the credential last logged in for a write

	pluginidentityutil.PluginIdentityTokenParams // with workload federation

	RequestTimeout        time.Duration `json:"request_timeout"`
	MaxRetries            int           `json:"max_retries"`
	MaxRequestsPerSecond  float64       `json:"max_requests_per_second"`
	MaxConcurrentRequests int           `json:"max_concurrent_requests"`
	HistoryLimit          int           `json:"history_limit"`
	RotationWorkers       int           `json:"rotation_workers"`
	DriftCheckPeriod      time.Duration `json:"drift_check_period"` // 0 is never

	// Of the mount's own credential.
	RootRotation    target.Schedule `json:"root_rotation,omitzero"`
	RootGracePeriod time.Duration   `json:"root_grace_period"`
}

// configDefaults are what a config has that names no limits.
func configDefaults() *config {
	return &config{
		RequestTimeout: defaultRequestTimeout, MaxRetries: defaultMaxRetries,
		MaxConcurrentRequests: defaultMaxConcurrent, HistoryLimit: defaultHistoryLimit,
		RotationWorkers: defaultRotationWorkers, DriftCheckPeriod: defaultDriftCheck,
		RootGracePeriod: defaultRootGrace,

		PluginIdentityTokenParams: pluginidentityutil.PluginIdentityTokenParams{IdentityTokenTTL: defaultIdentityTokenTTL},
	}
}

// Format implements fmt.Formatter: a config is known by its identity and tenant, and
// prints no secret, whatever the verb.
func (c config) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "config{%s at %s}", c.ClientID, c.tenant()) // as fmt itself, there is nobody to tell
}

// settleTime is how long after its start C1 may still commit a request.
func (c *config) settleTime() time.Duration { return 2 * c.RequestTimeout }

// tenant is the URL of the tenant: as written, or from the tenant's domain, or
// from the client ID. A stored config has one.
func (c *config) tenant() string {
	switch {
	case c.URL != "":
		return c.URL
	case c.TenantDomain != "":
		return "https://" + c.TenantDomain + tenantDomainSuffix
	default:
		u, _ := c1api.URLFromClientID(c.ClientID) // "" if it is none
		return u
	}
}

func (c *config) authentication() string {
	switch {
	case c.AccessToken != "":
		return authAccessToken
	case c.federated():
		return authFederation
	case c1api.IsSigningSecret(c.ClientSecret):
		return authSignedAssertion
	default:
		return authClientSecret
	}
}

// storedConfig is how the config is stored.
var storedConfig = store.Type[config]{
	What: "config", Format: 1, Copy: (*config).copied,
	New: configDefaults, // for what an older version did not store
}

// readConfig reads the mount's config; nil if there is none.
func readConfig(ctx context.Context, s *store.Store) (*config, error) {
	return storedConfig.Read(ctx, s, store.Fixed(configKey))
}

func (c *config) copied() *config { return new(*c) }

// mergeConfig puts the given fields over the stored config and checks the
// whole.
func mergeConfig(stored *config, d *framework.FieldData) (*config, error) {
	cfg := configDefaults()
	if stored != nil {
		*cfg = *stored
	}
	for field, value := range map[string]*string{
		"client_id": &cfg.ClientID, "client_secret": &cfg.ClientSecret, "access_token": &cfg.AccessToken,
		"tenant_domain": &cfg.TenantDomain, "url": &cfg.URL, "ca_cert": &cfg.CACert,
	} {
		set(d, field, value)
	}
	// A file given as client_secret=@file ends with a newline, as editors leave it.
	cfg.ClientSecret, cfg.AccessToken = strings.TrimRight(cfg.ClientSecret, "\r\n"), strings.TrimRight(cfg.AccessToken, "\r\n")
	if err := mergeIdentity(cfg, stored, d); err != nil {
		return nil, err
	}
	if err := checkTenant(cfg, d); err != nil {
		return nil, err
	}
	if len(cfg.CACert) > maxCACertBytes {
		return nil, refuse("ca_cert: more than %d bytes", maxCACertBytes)
	}
	set(d, "ca_cert_only", &cfg.CACertOnly)
	if cfg.CACertOnly && cfg.CACert == "" {
		return nil, refuse("ca_cert_only needs a ca_cert: without it nothing would be trusted")
	}
	if err := mergeFederation(cfg, d); err != nil {
		return nil, err
	}
	if err := mergeRootRotation(cfg, d); err != nil {
		return nil, err
	}
	return cfg, mergeLimits(cfg, d)
}

var domainLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

const maxDomainLabel = 63 // RFC 1035, 2.3.4

func checkTenant(cfg *config, d *framework.FieldData) error {
	if cfg.URL != "" && cfg.TenantDomain != "" {
		// Naming one replaces the other, unless both were named.
		_, urlGiven := d.GetOk("url")
		_, domainGiven := d.GetOk("tenant_domain")
		switch {
		case urlGiven == domainGiven:
			return refuse("url and tenant_domain exclude each other: write one")
		case urlGiven:
			cfg.TenantDomain = ""
		default:
			cfg.URL = ""
		}
	}
	if cfg.TenantDomain != "" && (len(cfg.TenantDomain) > maxDomainLabel || !domainLabel.MatchString(cfg.TenantDomain)) {
		return refuse("tenant_domain %q: must be the one label before %s, in lower case; use url for other hosts", clip(cfg.TenantDomain, 40), tenantDomainSuffix)
	}
	if cfg.URL == "" {
		return nil
	}
	clean, err := cleanURL(cfg.URL)
	if err != nil {
		return refuse("url: %s", err)
	}
	cfg.URL = clean
	return nil
}

// cleanURL takes https://host[:port] with at most a slash behind it.
func cleanURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", errors.New("is not a URL")
	case u.Scheme != "https":
		return "", errors.New("must begin with https://")
	case u.User != nil:
		return "", errors.New("must not hold credentials")
	case u.Hostname() == "":
		return "", errors.New("names no host")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("must be only https://host[:port], without path, query or fragment")
	}
	return "https://" + strings.ToLower(u.Host), nil
}

func mergeLimits(cfg *config, d *framework.FieldData) error {
	if v, ok := d.GetOk("max_requests_per_second"); ok {
		cfg.MaxRequestsPerSecond = v.(float64)
		if !(cfg.MaxRequestsPerSecond >= 0 && cfg.MaxRequestsPerSecond <= maxRequestsPerSecondOK) {
			return refuse("max_requests_per_second must lie between 0 and %d", maxRequestsPerSecondOK)
		}
	}
	return cmp.Or(
		setDuration(d, "request_timeout", &cfg.RequestTimeout, time.Second, longestRequestTimeout),
		setInt(d, "max_retries", &cfg.MaxRetries, 0, 10),
		setInt(d, "max_concurrent_requests", &cfg.MaxConcurrentRequests, 1, 1000),
		setInt(d, "history_limit", &cfg.HistoryLimit, 1, maxHistoryLimit),
		setInt(d, "rotation_workers", &cfg.RotationWorkers, 1, maxRotationWorkers),
		setDurationOrOff(d, "drift_check_period", &cfg.DriftCheckPeriod, shortestDriftCheck, longestDriftCheck),
	)
}
