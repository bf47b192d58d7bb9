// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	longestIdentityTokenTTL  = 24 * time.Hour
	defaultIdentityTokenTTL  = time.Hour
	shortestIdentityTokenTTL = time.Minute
)

// use is the last part of the client ID, "" without one and of what is none.
func (c *config) use() string {
	_, _, use, _ := c1api.ParseClientID(c.ClientID)
	return use
}

// refuseUnlessOwn says why the mount cannot replace its credential, if it cannot.
func (c *config) refuseUnlessOwn() error {
	switch use := c.use(); {
	case c.AccessToken != "":
		return refuse("the mount logs in with an access_token, which whoever issued it must replace: only client_id and client_secret can be rotated")
	case use == c1api.UseFederation:
		return refuse("the mount logs in by workload federation and has no secret that could be rotated")
	case use != c1api.UseServicePrincipal && use != c1api.UsePersonal:
		return refuse("the credential %s is neither a service principal's (/spc) nor a personal one (/pcc): C1 lets no client replace it", clip(c.ClientID, 80))
	default:
		return nil
	}
}

// sameCredential reports whether a state's current credential is the config's.
func (c *config) sameCredential(t *target.State) bool {
	return t != nil && t.Current != nil && t.Tenant == c.tenant() &&
		t.Current.ClientID == c.ClientID && t.Current.Fingerprint == target.Fingerprint(c.ClientSecret)
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
	if _, idGiven := d.GetOk("client_id"); idGiven && cfg.use() == c1api.UseFederation {
		if secretGiven && cfg.ClientSecret != "" {
			return refuse("client_secret does not go with a client_id of workload federation (/wfe), which has none")
		}
		cfg.ClientSecret, cfg.AccessToken = "", ""
	}
	carried := (secretGiven && cfg.ClientSecret != "") || (tokenGiven && cfg.AccessToken != "")
	if moved := movedSecret(stored, cfg); moved != "" && !carried && !cfg.federated() {
		return refuse("%s changes where the stored secret is sent: write client_secret (or access_token) in the same call", moved)
	}
	return checkIdentity(cfg)
}

// movedSecret names the field that changes where the stored secret is sent, "" if none
// does. Whoever may write the config but does not know the secret must not be able to
// have it sent to a host of his own.
func movedSecret(stored, cfg *config) (moved string) {
	if stored == nil {
		return ""
	}
	for _, f := range []struct{ name, before, now string }{
		{"client_id", stored.ClientID, cfg.ClientID},
		{"url", stored.URL, cfg.URL},
		{"tenant_domain", stored.TenantDomain, cfg.TenantDomain},
		{"ca_cert", stored.CACert, cfg.CACert},
		{"ca_cert_only", fmt.Sprint(stored.CACertOnly), fmt.Sprint(cfg.CACertOnly)},
	} {
		if f.before != f.now {
			moved = f.name
		}
	}
	return moved
}

// checkIdentity says what the identity lacks, or what is wrong with it.
func checkIdentity(cfg *config) error {
	switch {
	case cfg.AccessToken != "":
		if err := c1api.CheckAccessToken(cfg.AccessToken); err != nil {
			return refuse("access_token: %s", err)
		}
		if cfg.URL == "" && cfg.TenantDomain == "" {
			return refuse("url or tenant_domain is required with access_token")
		}
		return nil
	case cfg.ClientID == "":
		return refuse("client_id is required (or access_token with url or tenant_domain)")
	}
	if _, _, _, err := c1api.ParseClientID(cfg.ClientID); err != nil {
		return refuse("client_id: %s", err)
	}
	switch {
	case cfg.federated():
		return nil // its token is checked before it is sent
	case cfg.ClientSecret == "":
		return refuse("client_secret is required with client_id")
	}
	if err := c1api.CheckClientSecret(cfg.ClientSecret); err != nil {
		return refuse("client_secret: %s", err)
	}
	return nil
}

// mergeRootRotation takes what says when the mount's own credential is replaced.
func mergeRootRotation(cfg *config, d *framework.FieldData) error {
	err := setSchedule(d, &cfg.RootRotation, scheduleFields{
		period: "root_rotation_period", cron: "root_rotation_schedule", shortest: shortestRootPeriod, longest: longestRootPeriod,
	})
	if err != nil {
		return err
	}
	if err := setDuration(d, "root_grace_period", &cfg.RootGracePeriod, 0, longestRootGrace); err != nil {
		return err
	}
	if cfg.RootRotation == (target.Schedule{}) {
		return nil
	}
	if shortest := cfg.RootRotation.ShortestGap(); shortest < shortestRootPeriod {
		return refuse("root_rotation_schedule %q has times that are %s apart: they must be at least %s apart", clip(cfg.RootRotation.Cron, 80), shortest, shortestRootPeriod)
	}
	if err := cfg.refuseUnlessOwn(); err != nil {
		return refuse("root_rotation_period and root_rotation_schedule: %s", err)
	}
	return nil
}

func (c *config) federated() bool { return c.AccessToken == "" && c.use() == c1api.UseFederation }

// mergeFederation takes what goes with workload federation, and drops it where the
// mount logs in by other means.
func mergeFederation(cfg *config, d *framework.FieldData) error {
	audience, audienceGiven := d.GetOk("identity_token_audience")
	if audienceGiven {
		cfg.IdentityTokenAudience = strings.TrimSpace(audience.(string))
	}
	if err := setDuration(d, "identity_token_ttl", &cfg.IdentityTokenTTL, shortestIdentityTokenTTL, longestIdentityTokenTTL); err != nil {
		return err
	}
	if cfg.federated() {
		return validLabel("identity_token_audience", cfg.IdentityTokenAudience)
	}
	_, ttlGiven := d.Raw["identity_token_ttl"]
	if audienceGiven && cfg.IdentityTokenAudience != "" || ttlGiven {
		return refuse("identity_token_audience and identity_token_ttl go with a client_id of workload federation (/wfe)")
	}
	cfg.PluginIdentityTokenParams = configDefaults().PluginIdentityTokenParams
	return nil
}
