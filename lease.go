// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// secretTypes are the types of a lease's secret, which Vault stores beside the lease.
var secretTypes = map[target.Kind]string{
	target.Connector: "connector_credential",
	target.Decoy:     "decoy_material",
}

// What the end of a lease does to the vended credential.
const (
	leaseEndRevoke = "revoke" // connectors: revoke exactly this credential
	leaseEndKeep   = "keep"   // leave it alive
	leaseEndRotate = "rotate" // decoys: the vended copy goes dead
)

// leaseEnds are the values of on_lease_end for each kind, the default first.
var leaseEnds = map[target.Kind][]string{
	target.Connector: {leaseEndRevoke, leaseEndKeep},
	target.Decoy:     {leaseEndKeep, leaseEndRotate},
}

// retireSlack is how long after a lease's maximum end its credential is ended
// by the engine itself. An ordinary lease was revoked by then; this ends what
// Vault never made a lease for.
const retireSlack = time.Minute

// lease is what Vault keeps beside a lease and gives back on renewal and
// revocation: enough for both when the binding is gone and the config was
// rewritten, and no secret.
type lease struct {
	Ref          target.Ref `json:"ref"`
	Tenant       string     `json:"tenant"`
	Version      int        `json:"version"`
	CredentialID string     `json:"credential_id,omitempty"`
	OnLeaseEnd   string     `json:"on_lease_end"`
	TTL          int64      `json:"ttl"`     // seconds, for a renewal that names no increment
	MaxTTL       int64      `json:"max_ttl"` // seconds from the start of the lease
	ExpiresAt    time.Time  `json:"expires_at"`
}

// leaseTimes are a lease's times, worked out before C1 is asked.
type leaseTimes struct {
	ttl, maxTTL time.Duration
	warnings    []string
}

// leaseTimes applies the binding's ttl and max_ttl within the mount's.
func (b *backend) leaseTimes(bind *binding) (leaseTimes, error) {
	var mount logical.StaticSystemView // as tuned now, asked at the same time
	_ = parallel(
		func() error { mount.DefaultLeaseTTLVal = b.System().DefaultLeaseTTL(); return nil },
		func() error { mount.MaxLeaseTTLVal = b.System().MaxLeaseTTL(); return nil },
	)
	ttl, warnings, err := framework.CalculateTTL(mount, 0, bind.TTL, 0, bind.MaxTTL, 0, time.Time{})
	if err != nil {
		return leaseTimes{}, refuse("ttl and max_ttl: %s", err)
	}
	maxTTL := mount.MaxLeaseTTL()
	if bind.MaxTTL > 0 {
		maxTTL = min(maxTTL, bind.MaxTTL)
	}
	return leaseTimes{ttl: ttl, maxTTL: maxTTL, warnings: warnings}, nil
}

// capped shortens a lease that would outlive its credential.
func (l leaseTimes) capped(now, credentialExpires time.Time) leaseTimes {
	if credentialExpires.IsZero() {
		return l
	}
	life := credentialExpires.Sub(now).Truncate(time.Second)
	life = max(life, time.Second)
	if life < l.ttl {
		l.warnings = append(l.warnings, fmt.Sprintf("the lease ends with the credential, in %s instead of %s", life, l.ttl))
	}
	l.ttl, l.maxTTL = min(l.ttl, life), min(l.maxTTL, life)
	return l
}

func (l *lease) internalData() (map[string]any, error) {
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	return data, json.Unmarshal(raw, &data)
}

func leaseOf(req *logical.Request) (*lease, error) {
	if req.Secret == nil {
		return nil, fmt.Errorf("the request carries no lease")
	}
	raw, err := json.Marshal(req.Secret.InternalData)
	if err != nil {
		return nil, err
	}
	var l lease
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("the lease's data: %w", err)
	}
	if err := l.Ref.Check(); err != nil {
		return nil, fmt.Errorf("the lease's data: %w", err)
	}
	return &l, nil
}

// renewLease extends a lease within the maximum that it was issued with. The
// lease of a superseded credential keeps its end: somebody else owns the
// target's newest credential now.
func (b *backend) renewLease(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	l, err := leaseOf(req)
	if err != nil {
		return nil, err
	}
	t, err := readState(ctx, b.store, l.Ref)
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{Secret: req.Secret}
	maxTTL := time.Duration(l.MaxTTL) * time.Second
	increment := req.Secret.Increment
	if t != nil && t.Version > l.Version {
		// Vault works out the new end from the increment and this maximum.
		now := b.now()
		maxTTL = max(l.ExpiresAt.Sub(req.Secret.IssueTime), now.Sub(req.Secret.IssueTime)+time.Second).Truncate(time.Second)
		increment = max(l.ExpiresAt.Sub(now), time.Second)
		resp.AddWarning(fmt.Sprintf("not extended: version %d of %s was superseded by version %d", l.Version, l.Ref, t.Version))
	}
	ttl, warnings, err := framework.CalculateTTL(b.System(), increment, time.Duration(l.TTL)*time.Second, 0, maxTTL, 0, req.Secret.IssueTime)
	if err != nil {
		return nil, err
	}
	resp.Warnings = append(resp.Warnings, warnings...)
	l.ExpiresAt = b.now().Add(ttl)
	internal, err := l.internalData()
	if err != nil {
		return nil, err
	}
	internal["secret_type"] = req.Secret.InternalData["secret_type"]
	resp.Secret.InternalData = internal
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, maxTTL
	return resp, nil
}
