// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathConfig() *framework.Path {
	secret := &framework.DisplayAttributes{Sensitive: true}
	return &framework.Path{
		Pattern: "config$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "configuration", Navigation: true,
		},
		Fields: map[string]*framework.FieldSchema{
			"client_id":               {Type: framework.TypeString, Description: "C1 client ID, `<name>@<host>/<use>`. A write that changes it must include client_secret."},
			"client_secret":           {Type: framework.TypeString, DisplayAttrs: secret, Description: "Its secret. A `secret-token:` secret signs assertions, anything else is sent in the token request's body. Never shown again."},
			"access_token":            {Type: framework.TypeString, DisplayAttrs: secret, Description: "A static bearer token instead of client_id and client_secret; needs url or tenant_domain. Never shown again."},
			"tenant_domain":           {Type: framework.TypeString, Description: "First label of `<tenant_domain>.conductor.one`. Default: from the client ID. Excludes url."},
			"url":                     {Type: framework.TypeString, Description: "The tenant's https URL, for other hosts. Default: from the client ID. Excludes tenant_domain."},
			"ca_cert":                 {Type: framework.TypeString, Description: "PEM certificates to trust in addition to the system's."},
			"ca_cert_only":            {Type: framework.TypeBool, Description: "Trust ca_cert alone. Default: no."},
			"identity_token_audience": {Type: framework.TypeString, Description: "With a client_id of workload federation (/wfe): have Vault Enterprise issue the token, with this audience, which must contain the tenant's host. Default: the file that C1_IDENTITY_TOKEN_FILE names in the plugin's environment."},
			"identity_token_ttl":      {Type: framework.TypeDurationSecond, Default: seconds(defaultIdentityTokenTTL), Description: "Life of those tokens, 1m to 24h. Default: 1h."},
			"request_timeout":         {Type: framework.TypeDurationSecond, Default: seconds(defaultRequestTimeout), Description: "Longest time for one call to C1, 1s to 40s. Default: 30s."},
			"max_retries":             {Type: framework.TypeInt, Default: defaultMaxRetries, Description: "Retries of a call that cannot have rotated, 0 to 10. Default: 3."},
			"max_requests_per_second": {Type: framework.TypeFloat, Description: "Maximum number of requests to C1 in any one second; 0 is no limit. Default: 0."},
			"max_concurrent_requests": {Type: framework.TypeInt, Default: defaultMaxConcurrent, Description: "Maximum number of requests to C1 at the same time, 1 to 1000. Default: 32."},
			"history_limit":           {Type: framework.TypeInt, Default: defaultHistoryLimit, Description: "How many records of what was handed out to keep per target, 1 to 10,000. Default: 20."},
			"rotation_workers":        {Type: framework.TypeInt, Default: defaultRotationWorkers, Description: "Maximum number of scheduled rotations at the same time, 1 to 256, and at most three quarters of max_concurrent_requests. Default: 8."},
			"drift_check_period":      {Type: framework.TypeDurationSecond, Default: seconds(defaultDriftCheck), Description: "How often the engine asks C1 whether a scheduled credential is still the one that Vault holds, 1m to a year; 0 is never. Default: 24h."},
			"root_rotation_period":    {Type: framework.TypeDurationSecond, Description: "Replace the mount's own credential this long after it was made, 1d to a year, and at least 14d less than its lifetime; 0 is never. Excludes root_rotation_schedule. Default: never."},
			"root_rotation_schedule":  {Type: framework.TypeString, Description: "Replace it at the times of a standard cron line of five fields, in UTC unless it begins with `CRON_TZ=<zone>`. Excludes root_rotation_period."},
			"root_grace_period":       {Type: framework.TypeDurationSecond, Default: seconds(defaultRootGrace), Description: "How long after replacing a credential the engine ends it at C1, 0 to 30d. Default: 1h."},
			"verify_connection":       {Type: framework.TypeBool, Default: true, Description: "Get a token and introspect before storing. Not stored."},
		},
		ExistenceCheck: func(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (bool, error) {
			cfg, err := readConfig(ctx, mountOf(ctx).store)
			return cfg != nil, err
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Summary:   "Read the configuration, without its secrets.",
				Callback:  handle((*backend).readConfig),
				Responses: configResponse(),
			},
			logical.CreateOperation: writeConfigOperation("Configure the C1 identity of this mount."),
			logical.PatchOperation:  writeConfigOperation("Change the existing configuration; null sets a field to its default."),
			logical.UpdateOperation: writeConfigOperation("Change the configuration; fields not given are kept."),
			logical.DeleteOperation: forwarded(&framework.PathOperation{
				Summary:   "Delete the configuration, once no binding and no pending retirement needs it.",
				Callback:  handle((*backend).deleteConfig),
				Responses: done("Deleted."),
			}),
		},
		HelpSynopsis:    "Configure the C1 tenant and identity of this mount.",
		HelpDescription: configHelp,
	}
}

func writeConfigOperation(summary string) *framework.PathOperation {
	return forwarded(&framework.PathOperation{
		Summary:   summary,
		Callback:  handle((*backend).writeConfig),
		Responses: done("Stored."),
	})
}

func configResponse() map[int][]framework.Response {
	return answer("The configuration, without its secrets.", map[string]*framework.FieldSchema{
		"authentication":          {Type: framework.TypeString, Required: true, Description: "signed_assertion, client_secret, access_token or workload_federation."},
		"client_id":               {Type: framework.TypeString, Required: true, Description: "C1 client ID; empty with access_token."},
		"tenant_domain":           {Type: framework.TypeString, Required: true, Description: "As written."},
		"url":                     {Type: framework.TypeString, Required: true, Description: "The tenant's URL in use."},
		"ca_cert":                 {Type: framework.TypeString, Required: true, Description: "As written."},
		"ca_cert_only":            {Type: framework.TypeBool, Required: true, Description: "Whether ca_cert alone is trusted."},
		"identity_token_audience": {Type: framework.TypeString, Required: true, Description: "As written; empty unless Vault issues the mount's token."},
		"identity_token_ttl":      {Type: framework.TypeInt64, Required: true, Description: "In seconds."},
		"requires_dpop":           {Type: framework.TypeBool, Required: true, Description: "Whether C1 accepts the credential only with DPoP proofs (RFC 9449), as far as is known."},
		"request_timeout":         {Type: framework.TypeInt64, Required: true, Description: "In seconds."},
		"max_retries":             {Type: framework.TypeInt, Required: true, Description: "Retries of a call that cannot have rotated."},
		"max_requests_per_second": {Type: framework.TypeFloat, Required: true, Description: "0 is no limit."},
		"max_concurrent_requests": {Type: framework.TypeInt, Required: true, Description: "Maximum number of requests at the same time."},
		"history_limit":           {Type: framework.TypeInt, Required: true, Description: "Records kept per target."},
		"rotation_workers":        {Type: framework.TypeInt, Required: true, Description: "Maximum number of scheduled rotations at the same time."},
		"drift_check_period":      {Type: framework.TypeInt64, Required: true, Description: "In seconds; 0 is never."},
		"root_rotation_period":    {Type: framework.TypeInt64, Required: true, Description: "In seconds; 0 is never."},
		"root_rotation_schedule":  {Type: framework.TypeString, Required: true, Description: "The cron line."},
		"root_grace_period":       {Type: framework.TypeInt64, Required: true, Description: "In seconds."},
		"identity_expires_at":     {Type: framework.TypeString, Required: true, Description: "When the mount's credential expires at C1, RFC 3339; empty if it does not, or if that is not known."},
		"next_root_rotation":      {Type: framework.TypeString, Required: true, Description: "When the engine next replaces the mount's credential, RFC 3339; empty if it does not do so on a schedule."},
	})
}

func (b *backend) readConfig(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	cfg, err := readConfig(ctx, b.store)
	if err != nil || cfg == nil {
		return nil, err
	}
	id, err := b.identity(ctx, cfg)
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{Data: map[string]any{
		"authentication":          cfg.authentication(),
		"client_id":               cfg.ClientID,
		"tenant_domain":           cfg.TenantDomain,
		"url":                     cfg.tenant(),
		"ca_cert":                 cfg.CACert,
		"ca_cert_only":            cfg.CACertOnly,
		"identity_token_audience": cfg.IdentityTokenAudience,
		"identity_token_ttl":      seconds(cfg.IdentityTokenTTL),
		"requires_dpop":           id.dpop,
		"request_timeout":         seconds(cfg.RequestTimeout),
		"max_retries":             cfg.MaxRetries,
		"max_requests_per_second": cfg.MaxRequestsPerSecond,
		"max_concurrent_requests": cfg.MaxConcurrentRequests,
		"history_limit":           cfg.HistoryLimit,
		"rotation_workers":        cfg.RotationWorkers,
		"drift_check_period":      seconds(cfg.DriftCheckPeriod),
		"root_rotation_period":    seconds(cfg.RootRotation.Period),
		"root_rotation_schedule":  cfg.RootRotation.Cron,
		"root_grace_period":       seconds(cfg.RootGracePeriod),
		"identity_expires_at":     rfc3339(id.expires),
		"next_root_rotation":      rfc3339(id.next),
	}}
	if id.warning != "" {
		resp.AddWarning(id.warning)
	}
	return resp, nil
}

func (b *backend) writeConfig(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	unlock, err := b.locks.Lock(ctx, configKey)
	if err != nil {
		return nil, err
	}
	defer unlock()
	stored, err := readConfig(ctx, b.store)
	if err != nil {
		return nil, err
	}
	if req.Operation == logical.PatchOperation && stored == nil {
		return nil, failWith(http.StatusNotFound, "this mount is not configured: a patch does not create a configuration")
	}
	cfg, err := mergeConfig(stored, d)
	if err != nil {
		return nil, err
	}
	if stored != nil && stored.tenant() != cfg.tenant() {
		if err := b.refuseWhileInUse(ctx, "the tenant cannot be changed"); err != nil {
			return nil, err
		}
	}
	if cfg.Revision, err = uuid.GenerateUUID(); err != nil {
		return nil, err
	}
	client, warnings, err := b.tryConfig(ctx, cfg, d.Get("verify_connection").(bool))
	if err != nil {
		return nil, err
	}
	left, err := b.storeConfig(ctx, stored, &session{config: cfg, client: client}, originOf(req))
	if err != nil {
		client.Close()
		return nil, err
	}
	return warned(append(warnings, left...)), nil
}

// tryConfig refuses a config that cannot work; if it is to be verified, by logging in. It
// returns the client that has tried it.
func (b *backend) tryConfig(ctx context.Context, cfg *config, verify bool) (client *c1api.Client, warnings []string, err error) {
	if cfg.federated() {
		_, warning, err := b.readIdentityToken(ctx, cfg)
		if err != nil {
			return nil, nil, refuse("%s", err)
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	if expires, ok := c1api.TokenExpiry(cfg.AccessToken); ok && !b.now().Before(expires) {
		return nil, nil, refuse("access_token: it expired at %s", rfc3339(expires))
	}
	cfg.RequireDPoP = false // until C1 says so
	if client, err = b.newClient(cfg); err != nil {
		return nil, nil, refuse("%s", err)
	}
	if !verify {
		return client, warnings, nil
	}
	if err := b.verifyConfig(ctx, &session{config: cfg, client: client}); err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, warnings, nil
}

// verifyConfig logs in, and puts into the config what that tells of it.
func (b *backend) verifyConfig(ctx context.Context, s *session) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.client.Introspect(ctx)
	s.config.RequireDPoP = s.client.Health().DPoP
	if err != nil {
		return refuse("the configuration was not stored, since it does not work: %s (verify_connection=false stores it unchecked)", err)
	}
	return s.checkRootRotation(ctx)
}

// checkRootRotation refuses what the clock could not do in time, or not at all.
func (s *session) checkRootRotation(ctx context.Context) error {
	if s.config.RootRotation == (target.Schedule{}) {
		return nil
	}
	own, err := s.lookUpOwn(ctx)
	if err != nil {
		return refuse("root_rotation_period and root_rotation_schedule: %s (verify_connection=false stores it unchecked)", notRotated(err))
	}
	held, period := own.held, s.config.RootRotation.Period
	if held == nil || held.ExpiresAt.IsZero() || held.CreatedAt.IsZero() {
		return nil
	}
	if life := held.ExpiresAt.Sub(held.CreatedAt); period > life-expiryWarning {
		return refuse("root_rotation_period (%s) must not be longer than the credential's lifetime (%s) less %s, when status begins to warn of its expiry",
			period, life.Round(time.Hour), expiryWarning)
	}
	return nil
}

// storeConfig stores the config of a session, uses the session from then on, and has all
// that depends on it follow. It returns what to tell whoever wrote it.
func (b *backend) storeConfig(ctx context.Context, stored *config, s *session, o target.Origin) (warnings []string, err error) {
	cfg := s.config
	if err := b.store.Prepare(ctx); err != nil {
		return nil, err
	}
	if err := b.agenda.Start(ctx); err != nil {
		return nil, err
	}
	replan := stored != nil && stored.DriftCheckPeriod != cfg.DriftCheckPeriod
	if replan {
		if err := b.store.Put(ctx, &logical.StorageEntry{Key: replanKey, Value: []byte(cfg.Revision)}); err != nil {
			return nil, err
		}
	}
	if err := b.identityExpected(ctx, cfg); err != nil {
		return nil, err
	}
	if err := storedConfig.Write(ctx, b.store, store.Fixed(configKey), cfg); err != nil {
		return nil, err
	}
	b.sessions.use(s)
	warnings = b.identityWritten(ctx, stored, cfg, o)
	b.retryRetirements(ctx)
	b.retryRotations(ctx)
	if replan {
		b.replan.wanted.Store(true)
		b.replanInBackground()
	}
	return warnings, nil
}

func (b *backend) deleteConfig(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	unlock, err := b.locks.Lock(ctx, configKey)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := readConfig(ctx, b.store); err != nil {
		return nil, err // a newer version's is not ours to delete
	}
	if err := b.refuseWhileInUse(ctx, "the configuration cannot be deleted"); err != nil {
		return nil, err
	}
	if err := b.store.Delete(ctx, configKey); err != nil {
		return nil, err
	}
	b.sessions.drop()
	warnings, err := b.identityForgotten(ctx)
	if err != nil {
		return nil, err
	}
	return warned(warnings), nil
}

// refuseWhileInUse keeps the tenant as long as something at C1 is still to be
// done with its identity. It reads every target, which is rare enough.
func (b *backend) refuseWhileInUse(ctx context.Context, what string) error {
	for _, k := range bindableKinds {
		names, err := bindingNames(ctx, b.store, k)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			bindings, _ := pathsOf(k)
			return refuse("%s while bindings exist: %d under %s/, such as %s", what, len(names), bindings, names[0])
		}
	}
	return walkStates(ctx, b.store, func(t *target.State) error {
		if t.Ref != identityRef && (len(t.Retire) > 0 || t.Attempt != nil) {
			return refuse("%s while %s has credentials whose end is pending: revoke their leases and see status", what, t.Ref)
		}
		return nil
	})
}

// retryRetirements lets everything that could not be ended try again now, since
// a rewritten config may be what it waited for.
func (b *backend) retryRetirements(ctx context.Context) {
	names, err := markedFor(ctx, b.store, target.AttentionRetiring)
	for _, name := range names {
		t, unread := readStateNamed(ctx, b.store, name)
		err = errors.Join(err, unread)
		if t != nil {
			err = errors.Join(err, b.change(ctx, t.Ref, func(t *turn) (*target.State, error) {
				return t.state.Hastened(b.now(), func(r target.Retirement) bool { return r.Failures > 0 }), nil
			}))
		}
	}
	if err != nil {
		b.Logger().Warn("some credentials wait for their next try as planned", "error", err)
	}
}

// retryRotations has everything that fails looked at now: trouble under another
// config is due at once. It writes nothing; what is not reached waits for its
// next try.
func (b *backend) retryRotations(ctx context.Context) {
	b.agenda.Reached()
	names, err := markedFor(ctx, b.store, target.AttentionFailing)
	if err != nil {
		b.Logger().Warn("failing rotations wait for their next try as planned", "error", err)
	}
	for _, name := range names {
		b.agenda.Hurry(name, b.now())
	}
	b.agenda.Refresh() // rotation_workers may be another
}

const configHelp = `
The mount logs in to C1 with client_id and client_secret, or with a static
access_token. A write is checked by logging in (verify_connection=false skips
that) and keeps the fields it does not name, with one exception: a write that
changes or clears client_id, url, tenant_domain or ca_cert must include the
secret.

With root_rotation_period or root_rotation_schedule the mount replaces its own
credential at C1, as config/rotate-root does at once. A client_id that ends with
/wfe logs in by workload federation, without a client_secret.

While bindings or pending retirements exist the tenant cannot be changed and
the configuration cannot be deleted.

Give secrets from a file or standard input, never on the command line:
  vault write c1/config client_id=... client_secret=@secret.txt
`
