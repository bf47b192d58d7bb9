// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// revokeLease ends what the lease stands for. It works from the lease's own
// IDs. When C1 cannot be reached the retirement in the target's state takes
// over and the lease ends, so that Vault never gives a lease up; only on a
// mount that is being disabled the error goes back, since its storage is about
// to go.
func (b *backend) revokeLease(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	l, err := leaseOf(req)
	if err != nil {
		return nil, err
	}
	if l.OnLeaseEnd == leaseEndKeep {
		return nil, nil
	}
	if !b.work.Enter() {
		return nil, fmt.Errorf("the plugin is stopping")
	}
	defer b.work.Leave()
	ctx = context.WithoutCancel(ctx)
	err = b.endLeased(ctx, l)
	if err == nil {
		return nil, nil
	}
	b.Logger().Warn("could not end a credential with its lease", "target", l.Ref.String(), "version", l.Version, "error", err)
	if b.System().Tainted() {
		return nil, fmt.Errorf("version %d of %s is still alive at C1: %w", l.Version, l.Ref, err)
	}
	return nil, b.planEnd(ctx, l, err)
}

// endLeased ends the lease's credential at C1 and in the state.
func (b *backend) endLeased(ctx context.Context, l *lease) error {
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	if err := s.serves(l.Tenant); err != nil {
		return err
	}
	return b.kindOf(l.Ref).endLeased(ctx, b, s, l)
}

// planEnd leaves the end of a credential to settle, from now on.
func (b *backend) planEnd(ctx context.Context, l *lease, cause error) error {
	t, err := b.takeTurn(ctx, l.Ref)
	if err != nil {
		return err
	}
	defer t.release()
	state := t.state
	if state == nil {
		state = newState(l.Ref).Claimed("", l.Tenant, "")
		state.Version = l.Version
	}
	end := target.Retirement{Version: l.Version, CredentialID: l.CredentialID}
	if l.Tenant != state.Tenant {
		end.Tenant = l.Tenant
	}
	return t.save(ctx, state.EndPlanned(b.now(), end, cause))
}
