// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
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
	maxHistoryLimit        = 200 // keeps a target's entry far below Raft's 1 MiB
	tenantDomainSuffix     = ".conductor.one"
	authSignedAssertion    = "signed_assertion"
	authClientSecret       = "client_secret"
	authAccessToken        = "access_token"
	signedSecretPrefix     = "secret-token:"
	maxCACertBytes         = 1 << 20
	maxSecretBytes         = 16 << 10
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

	RequestTimeout        time.Duration `json:"request_timeout"`
	MaxRetries            int           `json:"max_retries"`
	MaxRequestsPerSecond  float64       `json:"max_requests_per_second"`
	MaxConcurrentRequests int           `json:"max_concurrent_requests"`
	HistoryLimit          int           `json:"history_limit"`
}

// tenant is the URL of the tenant: as written, or from the tenant's domain, or
// from the client ID. A stored config has one.
func (c *config) tenant() string {
	switch {
	case c.URL != "":
		return c.URL
	case c.TenantDomain != "":
		return "https://" + c.TenantDomain + tenantDomainSuffix
	default:
		u, err := c1api.URLFromClientID(c.ClientID)
		if err != nil {
			return ""
		}
		return u
	}
}

func (c *config) authentication() string {
	switch {
	case c.AccessToken != "":
		return authAccessToken
	case strings.HasPrefix(c.ClientSecret, signedSecretPrefix):
		return authSignedAssertion
	default:
		return authClientSecret
	}
}

func readConfig(ctx context.Context, s logical.Storage) (*config, error) {
	entry, err := s.Get(ctx, configKey)
	if err != nil || entry == nil {
		return nil, err
	}
	var cfg config
	if err := entry.DecodeJSON(&cfg); err != nil {
		return nil, fmt.Errorf("stored config: %w", err)
	}
	return &cfg, nil
}

func (b *backend) pathsConfig() []*framework.Path {
	secret := &framework.DisplayAttributes{Sensitive: true}
	return []*framework.Path{{
		Pattern: "config$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "configuration", Navigation: true,
		},
		Fields: map[string]*framework.FieldSchema{
			"client_id":               {Type: framework.TypeString, Description: "C1 client ID, `<name>@<host>/<use>`. Changing it takes the client_secret with it."},
			"client_secret":           {Type: framework.TypeString, DisplayAttrs: secret, Description: "Its secret. A `secret-token:` secret signs assertions, anything else is sent in the token request's body. Never shown again."},
			"access_token":            {Type: framework.TypeString, DisplayAttrs: secret, Description: "A static bearer token instead of client_id and client_secret; needs url or tenant_domain. Never shown again."},
			"tenant_domain":           {Type: framework.TypeString, Description: "First label of `<tenant_domain>.conductor.one`. Default: from the client ID. Excludes url."},
			"url":                     {Type: framework.TypeString, Description: "The tenant's https URL, for other hosts. Default: from the client ID. Excludes tenant_domain."},
			"ca_cert":                 {Type: framework.TypeString, Description: "PEM certificates to trust beside the system's."},
			"request_timeout":         {Type: framework.TypeDurationSecond, Description: "Longest time for one call to C1, 1s to 40s. Default: 30s."},
			"max_retries":             {Type: framework.TypeInt, Description: "Retries of a call that cannot have rotated, 0 to 10. Default: 3."},
			"max_requests_per_second": {Type: framework.TypeFloat, Description: "Most requests per second to C1; 0 is no limit. Default: 0."},
			"max_concurrent_requests": {Type: framework.TypeInt, Description: "Most requests to C1 at the same time, 1 to 1000. Default: 32."},
			"history_limit":           {Type: framework.TypeInt, Description: "Rotation records kept per target, 1 to 200. Default: 20."},
			"verify_connection":       {Type: framework.TypeBool, Default: true, Description: "Get a token and introspect before storing. Not stored."},
		},
		ExistenceCheck: func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (bool, error) {
			cfg, err := readConfig(ctx, req.Storage)
			return cfg != nil, err
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Summary:   "Read the configuration, without its secrets.",
				Callback:  b.handle(b.readConfig),
				Responses: configResponse(),
			},
			logical.CreateOperation: b.writeConfigOperation("Configure the C1 identity of this mount."),
			logical.UpdateOperation: b.writeConfigOperation("Change the configuration; fields not given stay."),
			logical.DeleteOperation: &framework.PathOperation{
				Summary:                     "Delete the configuration, once no binding and no pending retirement needs it.",
				Callback:                    b.handle(b.deleteConfig),
				Responses:                   map[int][]framework.Response{http.StatusNoContent: {{Description: "Deleted."}}},
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis:    "Configure the C1 tenant and identity of this mount.",
		HelpDescription: configHelp,
	}}
}

func (b *backend) writeConfigOperation(summary string) *framework.PathOperation {
	return &framework.PathOperation{
		Summary:                     summary,
		Callback:                    b.handle(b.writeConfig),
		Responses:                   map[int][]framework.Response{http.StatusNoContent: {{Description: "Stored."}}},
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

func configResponse() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{
		Description: "The configuration, without its secrets.",
		Fields: map[string]*framework.FieldSchema{
			"authentication":          {Type: framework.TypeString, Required: true, Description: "signed_assertion, client_secret or access_token."},
			"client_id":               {Type: framework.TypeString, Required: true, Description: "C1 client ID; empty with access_token."},
			"tenant_domain":           {Type: framework.TypeString, Required: true, Description: "As written."},
			"url":                     {Type: framework.TypeString, Required: true, Description: "The tenant's URL in use."},
			"ca_cert":                 {Type: framework.TypeString, Required: true, Description: "As written."},
			"request_timeout":         {Type: framework.TypeInt64, Required: true, Description: "In seconds."},
			"max_retries":             {Type: framework.TypeInt, Required: true, Description: "Retries of a call that cannot have rotated."},
			"max_requests_per_second": {Type: framework.TypeFloat, Required: true, Description: "0 is no limit."},
			"max_concurrent_requests": {Type: framework.TypeInt, Required: true, Description: "Most requests at the same time."},
			"history_limit":           {Type: framework.TypeInt, Required: true, Description: "Records kept per target."},
		},
	}}}
}

func (b *backend) readConfig(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	cfg, err := readConfig(ctx, req.Storage)
	if err != nil || cfg == nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"authentication":          cfg.authentication(),
		"client_id":               cfg.ClientID,
		"tenant_domain":           cfg.TenantDomain,
		"url":                     cfg.tenant(),
		"ca_cert":                 cfg.CACert,
		"request_timeout":         seconds(cfg.RequestTimeout),
		"max_retries":             cfg.MaxRetries,
		"max_requests_per_second": cfg.MaxRequestsPerSecond,
		"max_concurrent_requests": cfg.MaxConcurrentRequests,
		"history_limit":           cfg.HistoryLimit,
	}}, nil
}

func (b *backend) writeConfig(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	unlock, err := b.locks.lock(ctx, configKey)
	if err != nil {
		return nil, err
	}
	defer unlock()
	stored, err := readConfig(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	cfg, err := mergeConfig(stored, d)
	if err != nil {
		return nil, err
	}
	if stored != nil && stored.tenant() != cfg.tenant() {
		if err := b.refuseWhileInUse(ctx, req.Storage, "the tenant cannot be changed"); err != nil {
			return nil, err
		}
	}
	if cfg.Revision, err = uuid.GenerateUUID(); err != nil {
		return nil, err
	}
	client, err := b.newClient(cfg)
	if err != nil {
		return nil, refuse("%s", err)
	}
	defer client.Close()
	if d.Get("verify_connection").(bool) {
		check, cancel := context.WithTimeout(ctx, cfg.RequestTimeout)
		defer cancel()
		if _, err := client.Introspect(check); err != nil {
			return nil, refuse("the configuration was not stored, it does not work: %s (verify_connection=false stores it unchecked)", err)
		}
	}
	if err := b.due.start(ctx); err != nil {
		return nil, err
	}
	entry, err := logical.StorageEntryJSON(configKey, cfg)
	if err != nil {
		return nil, err
	}
	if err := req.Storage.Put(ctx, entry); err != nil {
		return nil, err
	}
	b.sessions.drop()
	b.retryRetirements(ctx)
	return nil, nil
}

func (b *backend) deleteConfig(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	unlock, err := b.locks.lock(ctx, configKey)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := b.refuseWhileInUse(ctx, req.Storage, "the configuration cannot be deleted"); err != nil {
		return nil, err
	}
	if err := req.Storage.Delete(ctx, configKey); err != nil {
		return nil, err
	}
	b.sessions.drop()
	return nil, nil
}

// refuseWhileInUse keeps the tenant as long as something at C1 is still to be
// done with its identity. It reads every target, which is rare enough.
func (b *backend) refuseWhileInUse(ctx context.Context, s logical.Storage, what string) error {
	for _, k := range []kind{kindConnector, kindDecoy} {
		names, err := s.List(ctx, bindingKey(k, ""))
		if err != nil {
			return err
		}
		if len(names) > 0 {
			bindings, _ := k.paths()
			return refuse("%s while bindings exist: %d under %s/, such as %s", what, len(names), bindings, names[0])
		}
		ids, err := s.List(ctx, targetPrefix+string(k)+"/")
		if err != nil {
			return err
		}
		for _, id := range ids {
			ref, ok := parseTargetKey(string(k), id)
			if !ok {
				continue
			}
			t, err := readTarget(ctx, s, ref)
			if err != nil {
				return err
			}
			if t != nil && (len(t.Retire) > 0 || t.Attempt != nil) {
				return refuse("%s while %s has credentials whose end is pending: revoke their leases and see status", what, ref)
			}
		}
	}
	return nil
}

// retryRetirements lets everything that could not be ended try again now, since
// a rewritten config may be what it waited for.
func (b *backend) retryRetirements(ctx context.Context) {
	refs, err := attentionRefs(ctx, b.storage, attentionRetiring)
	for _, ref := range refs {
		err = errors.Join(err, b.hasten(ctx, ref))
	}
	if err != nil {
		b.Logger().Warn("some credentials wait for their next try as planned", "error", err)
	}
}

func (b *backend) hasten(ctx context.Context, ref targetRef) error {
	return b.change(ctx, ref, func(t *target) (bool, error) {
		for i := range t.Retire {
			if t.Retire[i].Failures > 0 {
				t.Retire[i].At = b.now()
			}
		}
		return true, nil
	})
}

// mergeConfig puts the given fields over the stored config and checks the
// whole.
func mergeConfig(stored *config, d *framework.FieldData) (*config, error) {
	cfg := &config{
		RequestTimeout: defaultRequestTimeout, MaxRetries: defaultMaxRetries,
		MaxConcurrentRequests: defaultMaxConcurrent, HistoryLimit: defaultHistoryLimit,
	}
	if stored != nil {
		*cfg = *stored
	}
	for field, value := range map[string]*string{
		"client_id": &cfg.ClientID, "client_secret": &cfg.ClientSecret, "access_token": &cfg.AccessToken,
		"tenant_domain": &cfg.TenantDomain, "url": &cfg.URL, "ca_cert": &cfg.CACert,
	} {
		if v, ok := d.GetOk(field); ok {
			*value = v.(string)
		}
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
	return cfg, mergeLimits(cfg, d)
}

// mergeIdentity settles which of the ways to authenticate is meant.
func mergeIdentity(cfg, stored *config, d *framework.FieldData) error {
	_, secretGiven := d.GetOk("client_secret")
	_, tokenGiven := d.GetOk("access_token")
	switch {
	case secretGiven && tokenGiven && cfg.ClientSecret != "" && cfg.AccessToken != "":
		return refuse("access_token and client_secret exclude each other: write one")
	case tokenGiven && cfg.AccessToken != "":
		if v, ok := d.GetOk("client_id"); ok && v.(string) != "" {
			return refuse("access_token and client_id exclude each other: write one")
		}
		cfg.ClientID, cfg.ClientSecret = "", ""
	case secretGiven && cfg.ClientSecret != "":
		cfg.AccessToken = ""
	}
	if stored != nil {
		// Whoever may write the config but does not know the secret must not
		// be able to have it sent to a host of his own.
		changed := ""
		for _, f := range []struct{ name, before, now string }{
			{"client_id", stored.ClientID, cfg.ClientID},
			{"url", stored.URL, cfg.URL},
			{"tenant_domain", stored.TenantDomain, cfg.TenantDomain},
			{"ca_cert", stored.CACert, cfg.CACert},
		} {
			if f.before != f.now {
				changed = f.name
			}
		}
		carried := (secretGiven && cfg.ClientSecret != "") || (tokenGiven && cfg.AccessToken != "")
		if changed != "" && !carried {
			return refuse("%s changes where the stored secret is sent: write client_secret (or access_token) in the same call", changed)
		}
	}
	switch {
	case cfg.AccessToken != "":
		if len(cfg.AccessToken) > maxSecretBytes || strings.ContainsFunc(cfg.AccessToken, notTokenChar) {
			return refuse("access_token: must be a bearer token without spaces, at most %d bytes", maxSecretBytes)
		}
		if cfg.URL == "" && cfg.TenantDomain == "" {
			return refuse("url or tenant_domain is required with access_token")
		}
		return nil
	case cfg.ClientID == "":
		return refuse("client_id is required (or access_token with url or tenant_domain)")
	case cfg.ClientSecret == "":
		return refuse("client_secret is required with client_id")
	}
	if _, _, _, err := c1api.ParseClientID(cfg.ClientID); err != nil {
		return refuse("client_id: %s", err)
	}
	if err := c1api.CheckClientSecret(cfg.ClientSecret); err != nil {
		return refuse("client_secret: %s", err)
	}
	return nil
}

// notTokenChar says what cannot stand in an Authorization header's token.
func notTokenChar(r rune) bool { return r <= ' ' || r >= 0x7f }

var domainLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

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
	if cfg.TenantDomain != "" && !domainLabel.MatchString(cfg.TenantDomain) {
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
	if err := setDuration(d, "request_timeout", &cfg.RequestTimeout, time.Second, longestRequestTimeout); err != nil {
		return err
	}
	if err := setInt(d, "max_retries", &cfg.MaxRetries, 0, 10); err != nil {
		return err
	}
	if err := setInt(d, "max_concurrent_requests", &cfg.MaxConcurrentRequests, 1, 1000); err != nil {
		return err
	}
	if err := setInt(d, "history_limit", &cfg.HistoryLimit, 1, maxHistoryLimit); err != nil {
		return err
	}
	if v, ok := d.GetOk("max_requests_per_second"); ok {
		cfg.MaxRequestsPerSecond = v.(float64)
		if !(cfg.MaxRequestsPerSecond >= 0 && cfg.MaxRequestsPerSecond <= maxRequestsPerSecondOK) {
			return refuse("max_requests_per_second must lie between 0 and %d", maxRequestsPerSecondOK)
		}
	}
	return nil
}

const configHelp = `
The mount logs in to C1 with client_id and client_secret, or with a static
access_token. A write is checked by logging in (verify_connection=false skips
that) and keeps the fields it does not name, with one exception: a write that
changes or clears client_id, url, tenant_domain or ca_cert must carry the
secret.

While bindings or pending retirements exist the tenant cannot be changed and
the configuration cannot be deleted.

Give secrets from a file or standard input, never on the command line:
  vault write c1/config client_id=... client_secret=@secret.txt
`
