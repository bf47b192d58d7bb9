// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// writeBinding creates or updates a binding. It looks the target up at C1 and
// rotates nothing.
func (b *backend) writeBinding(ctx context.Context, req *logical.Request, d *framework.FieldData, k kind, leaseEnds []string) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := validName(name); err != nil {
		return nil, err
	}
	unlock, err := b.lockBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer unlock()

	stored, err := readBinding(ctx, req.Storage, k, name)
	if err != nil {
		return nil, err
	}
	bind, err := mergeBinding(stored, d, k, leaseEnds)
	if err != nil {
		return nil, err
	}
	session, err := b.session(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{}
	baseline := ""
	if d.Get("verify").(bool) {
		var warning string
		baseline, warning, err = b.verifyTarget(ctx, session, bind.Ref)
		if err != nil {
			return nil, err
		}
		if warning != "" {
			resp.AddWarning(warning)
		}
	}
	unlockTarget, err := b.lockTarget(ctx, bind.Ref)
	if err != nil {
		return nil, err
	}
	defer unlockTarget()
	if err := b.claimTarget(ctx, req.Storage, session, bind.Ref, name, baseline); err != nil {
		return nil, err
	}
	entry, err := logical.StorageEntryJSON(bindingKey(k, name), bind)
	if err != nil {
		return nil, err
	}
	if err := req.Storage.Put(ctx, entry); err != nil {
		return nil, err
	}
	if limit := b.System().MaxLeaseTTL(); max(bind.TTL, bind.MaxTTL) > limit {
		resp.AddWarning(fmt.Sprintf("ttl or max_ttl is longer than the mount's maximum of %s, which applies", limit))
	}
	if len(resp.Warnings) == 0 {
		return nil, nil // the CLI then says that it was written
	}
	return resp, nil
}

// mergeBinding puts the given fields over the stored binding and checks the
// whole.
func mergeBinding(stored *binding, d *framework.FieldData, k kind, leaseEnds []string) (*binding, error) {
	bind := &binding{Ref: targetRef{Kind: k}, OnLeaseEnd: leaseEnds[0]}
	if stored != nil {
		*bind = *stored
	}
	if err := mergeTarget(&bind.Ref, d, stored != nil); err != nil {
		return nil, err
	}
	if v, ok := d.GetOk("rotate_on"); ok {
		bind.RotateOn = v.(string)
	}
	switch bind.RotateOn {
	case rotateOnRead, rotateOnWrite:
	case "":
		return nil, refuse("rotate_on is required: `read` if every read may end the credential of the reader before, `write` if only a write may")
	case rotateOnSchedule:
		return nil, refuse("rotate_on=schedule is not available yet in this version: use `read` or `write`")
	default:
		return nil, refuse("rotate_on must be `read` or `write`, not %q", bind.RotateOn)
	}
	for _, f := range []struct {
		name    string
		value   *time.Duration
		longest time.Duration
	}{
		{"cooldown", &bind.Cooldown, longestCooldown},
		{"wrap_ttl", &bind.WrapTTL, longestWrapTTL},
		{"ttl", &bind.TTL, longestTTL},
		{"max_ttl", &bind.MaxTTL, longestTTL},
	} {
		if err := setDuration(d, f.name, f.value, 0, f.longest); err != nil {
			return nil, err
		}
	}
	if bind.MaxTTL > 0 && bind.TTL > bind.MaxTTL {
		return nil, refuse("ttl (%s) must not be longer than max_ttl (%s)", bind.TTL, bind.MaxTTL)
	}
	if v, ok := d.GetOk("on_lease_end"); ok {
		bind.OnLeaseEnd = v.(string)
	}
	if !slices.Contains(leaseEnds, bind.OnLeaseEnd) {
		return nil, refuse("on_lease_end of a %s must be %s, not %q", k, strings.Join(leaseEnds, " or "), bind.OnLeaseEnd)
	}
	if v, ok := d.GetOk("metadata"); ok {
		bind.Metadata = v.(map[string]string)
		if err := validMetadata(bind.Metadata); err != nil {
			return nil, err
		}
	}
	return bind, nil
}

// mergeTarget takes the IDs of the target, which a stored binding keeps.
func mergeTarget(ref *targetRef, d *framework.FieldData, stored bool) error {
	for _, f := range []struct {
		name string
		id   *string
	}{{"app_id", &ref.AppID}, {"connector_id", &ref.ConnectorID}, {"decoy_id", &ref.DecoyID}} {
		if d.Schema[f.name] == nil {
			continue
		}
		v, given := d.GetOk(f.name)
		switch {
		case !given && stored:
			continue
		case !given || v.(string) == "":
			return refuse("%s is required: C1's ID of the %s", f.name, strings.TrimSuffix(f.name, "_id"))
		case stored && *f.id != v.(string):
			return refuse("%s is fixed for a binding's life: to point elsewhere, delete the binding and create it again", f.name)
		}
		if err := validID(f.name, v.(string)); err != nil {
			return err
		}
		*f.id = v.(string)
	}
	return nil
}

// verifyTarget looks the target up at C1 and returns a decoy's fingerprint. A
// refusal of this read alone is only a warning: the right to rotate is another.
func (b *backend) verifyTarget(ctx context.Context, s *session, ref targetRef) (fingerprint, warning string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if ref.Kind == kindDecoy {
		var decoy *c1api.Decoy
		if decoy, err = s.client.GetDecoy(ctx, ref.DecoyID); err == nil {
			fingerprint = decoy.FingerprintSHA256
			if decoy.Disabled {
				warning = "the decoy is disabled at C1: nobody who uses it raises a finding"
			}
		}
	} else {
		_, err = s.client.GetConnector(ctx, ref.AppID, ref.ConnectorID)
	}
	if c1api.IsReason(err, c1api.ReasonForbidden) {
		return "", fmt.Sprintf("could not check that the %s exists: %s", ref, err), nil
	}
	if err != nil {
		e := fromC1(err)
		return "", "", failWith(e.status, "the binding was not stored: %s (verify=false stores it unchecked)", e.message)
	}
	return fingerprint, warning, nil
}

// claimTarget makes the binding the target's only one in this mount. The
// caller holds the target's lock.
func (b *backend) claimTarget(ctx context.Context, s logical.Storage, session *session, ref targetRef, name, baseline string) error {
	t, err := readTarget(ctx, s, ref)
	if err != nil {
		return err
	}
	if t == nil {
		t = &target{Ref: ref}
	}
	if t.Binding == name && t.Tenant == session.config.tenant() {
		return nil
	}
	if t.Binding != "" && t.Binding != name {
		// A crash may have left a claim without its binding.
		other, err := readBinding(ctx, s, ref.Kind, t.Binding)
		if err != nil {
			return err
		}
		if other != nil && other.Ref == ref {
			bindings, _ := ref.Kind.paths()
			return refuse("%s is bound already, as %s/%s: two bindings would end each other's credentials", ref, bindings, t.Binding)
		}
	}
	t.Binding, t.Tenant = name, session.config.tenant()
	if t.Current == nil {
		t.Baseline = baseline
	}
	return writeTarget(ctx, s, t, "")
}

// deleteBinding removes a binding. Credentials that were vended stay as they
// are, and so do the target's records: they answer whose copy it was.
func (b *backend) deleteBinding(ctx context.Context, s logical.Storage, k kind, name string) (*logical.Response, error) {
	unlock, err := b.lockBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bind, err := readBinding(ctx, s, k, name)
	if err != nil || bind == nil {
		return nil, err
	}
	unlockTarget, err := b.lockTarget(ctx, bind.Ref)
	if err != nil {
		return nil, err
	}
	defer unlockTarget()
	t, err := readTarget(ctx, s, bind.Ref)
	if err != nil {
		return nil, err
	}
	if err := s.Delete(ctx, bindingKey(k, name)); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, nil
	}
	t.Binding = ""
	if err := writeTarget(ctx, s, t, ""); err != nil {
		return nil, err
	}
	resp := &logical.Response{}
	switch {
	case t.Version == 0:
		return nil, nil
	case len(t.Retire) > 0:
		resp.AddWarning(fmt.Sprintf("%d vended credential(s) of %s stay alive until their leases end; `vault lease revoke -prefix` ends them now", len(t.Retire), bind.Ref))
	default:
		resp.AddWarning(fmt.Sprintf("version %d of %s stays at C1 as it is", t.Version, bind.Ref))
	}
	return resp, nil
}
