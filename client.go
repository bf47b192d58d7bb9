// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// session is the stored config with the client that was built from it.
type session struct {
	unprintable
	config *config
	client *c1api.Client
}

// bound limits all of one call to C1, retries and waits for a turn included.
func (s *session) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.config.RequestTimeout)
}

// terms are what this config and a binding, if there is one, ask of a target.
func (s *session) terms(bind *binding) target.Terms {
	t := target.Terms{SettleTime: s.config.settleTime(), CheckEvery: s.config.checkEvery(bind), Revision: s.config.Revision}
	if bind != nil && bind.scheduled() {
		t.Scheduled, t.Schedule, t.GracePeriod = true, bind.Schedule, bind.GracePeriod
	}
	return t
}

// identityCheckPeriod is how often C1 is asked when the mount's credential expires.
const identityCheckPeriod = 24 * time.Hour

// checkEvery is how often C1 is asked what has become of a binding's target; 0 is
// never. Of a leased connector only its leases know what is alive.
func (c *config) checkEvery(bind *binding) time.Duration {
	switch {
	case bind != nil && bind.Ref.Kind == target.Identity:
		return identityCheckPeriod
	case bind == nil || !bind.scheduled() && bind.Ref.Kind != target.Decoy:
		return 0
	case bind.CheckPeriod > 0:
		return bind.CheckPeriod
	default:
		return c.DriftCheckPeriod
	}
}

// serves reports an error unless the session's identity is the tenant's: an
// object that another tenant does not know has not ended.
func (s *session) serves(tenant string) error {
	if tenant == s.config.tenant() {
		return nil
	}
	return fmt.Errorf("it belongs to the tenant %s, which is not the configured one", tenant)
}

// sessionCache keeps the last session. The config's revision decides whether
// it is still good, so that a write on another node cannot leave an old
// identity in use.
type sessionCache struct {
	mu      sync.Mutex
	current *session
}

// use replaces the session by one whose config was just stored.
func (c *sessionCache) use(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.client.Close()
	}
	c.current = s
}

func (c *sessionCache) drop() { c.use(nil) }

// peek returns the session in use, or nil, without reading the config.
func (c *sessionCache) peek() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// session reads the config and returns it with its client, or refuses with the
// way out when there is no config.
func (b *backend) session(ctx context.Context) (*session, error) {
	cfg, err := readConfig(ctx, b.store)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		return nil, refuse("this mount is not configured: write config first")
	}
	b.sessions.mu.Lock()
	defer b.sessions.mu.Unlock()
	if cur := b.sessions.current; cur != nil && cur.config.Revision == cfg.Revision {
		return cur, nil
	}
	client, err := b.newClient(cfg)
	if err != nil {
		return nil, err
	}
	if b.sessions.current != nil {
		b.sessions.current.client.Close()
	}
	b.sessions.current = &session{config: cfg, client: client}
	return b.sessions.current, nil
}

func (b *backend) newClient(cfg *config) (*c1api.Client, error) {
	return c1api.New(c1api.Options{
		URL:                   cfg.tenant(),
		ClientID:              cfg.ClientID,
		ClientSecret:          cfg.ClientSecret,
		AccessToken:           cfg.AccessToken,
		CACertPEM:             cfg.CACert,
		CACertOnly:            cfg.CACertOnly,
		IdentityToken:         b.identityToken(cfg),
		DPoP:                  cfg.RequireDPoP,
		RequestTimeout:        cfg.RequestTimeout,
		MaxRetries:            cfg.MaxRetries,
		MaxRequestsPerSecond:  cfg.MaxRequestsPerSecond,
		MaxConcurrentRequests: cfg.MaxConcurrentRequests,
		UserAgent:             "vault-plugin-c1/" + b.version,
		Logger:                b.Logger().Named("c1api"),
		Observe:               b.tally.exchanged,
		Transport:             b.transport,
		Now:                   b.now,
	})
}

// revokeAtC1 revokes exactly this credential. It may be repeated. Without an error
// C1 has said so, or that the credential is gone.
func (b *backend) revokeAtC1(ctx context.Context, s *session, ref target.Ref, credentialID string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	why, err := b.kindOf(ref).end(ctx, b, s, ref, credentialID)
	if err == nil {
		b.Logger().Debug("a credential has ended", "target", ref.String(), "credential_id", credentialID, "evidence", why)
	}
	return err
}
