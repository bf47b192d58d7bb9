// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Values of rotate_on.
const (
	rotateOnRead     = "read"
	rotateOnWrite    = "write"
	rotateOnSchedule = "schedule"
)

const (
	bindingPrefix = "binding/"

	longestTTL      = 10 * 365 * 24 * time.Hour
	longestCooldown = 365 * 24 * time.Hour
	longestWrapTTL  = 32 * 24 * time.Hour
)

// bindableKinds are the kinds of targets that a binding can point at.
var bindableKinds = []target.Kind{target.Connector, target.Decoy}

// binding is what the operator wrote: a name for a target and how it behaves.
type binding struct {
	Ref      target.Ref        `json:"ref"`
	RotateOn string            `json:"rotate_on"`
	Cooldown time.Duration     `json:"cooldown,omitempty"`
	WrapTTL  time.Duration     `json:"wrap_ttl,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`

	// With leases.
	TTL        time.Duration `json:"ttl,omitempty"`
	MaxTTL     time.Duration `json:"max_ttl,omitempty"`
	OnLeaseEnd string        `json:"on_lease_end,omitempty"`

	// With rotate_on=schedule.
	Schedule    target.Schedule `json:"schedule,omitzero"`
	GracePeriod time.Duration   `json:"grace_period,omitempty"` // 0: C1 decides
	// RefreshInterval bounds how long readers are told to keep what they read; 0: until
	// the next turn.
	RefreshInterval time.Duration `json:"refresh_interval,omitempty"`

	// What the KV API shows, with rotate_on=schedule: fields of the material by names
	// of the owner's own, or by those of a preset.
	Keys       map[string]string `json:"keys,omitempty"`
	KeysPreset string            `json:"keys_preset,omitempty"`

	// Of decoys.
	CheckPeriod time.Duration `json:"check_period,omitempty"` // 0: the mount's
	Annotate    bool          `json:"annotate,omitempty"`
}

func (b *binding) scheduled() bool { return b.RotateOn == rotateOnSchedule }

// wraps reports whether the answer to a request is wrapped. That makes a token, so it
// writes.
func (b *binding) wraps(req *logical.Request) bool { return b.WrapTTL > 0 || req.WrapInfo != nil }

// wrapInfo has Vault wrap an answer, if the binding says so.
func (b *binding) wrapInfo() *wrapping.ResponseWrapInfo {
	if b.WrapTTL == 0 {
		return nil
	}
	return &wrapping.ResponseWrapInfo{TTL: b.WrapTTL}
}

// storedBinding is how a binding is stored.
var storedBinding = store.Type[binding]{
	What: "binding", Format: 1, Copy: (*binding).copied,
	Check: func(b *binding) error { return b.Ref.Check() },
}

// bindingKey is the entry of a binding. The names of both kinds lie together,
// and a single letter of the encrypted name tells them apart, so that neither
// the folder nor the length of a key gives the kind away.
func bindingKey(k target.Kind, name string) store.Key { return store.Listed(bindingLetter(k) + name) }

func bindingLetter(k target.Kind) string { return string(k)[:1] + "." }

// bindingNames lists the names of a kind's bindings, sorted.
func bindingNames(ctx context.Context, s *store.Store, k target.Kind) ([]string, error) {
	all, err := s.ListedNames(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if name, ok := strings.CutPrefix(name, bindingLetter(k)); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// readBinding reads a binding; nil if there is none.
func readBinding(ctx context.Context, s *store.Store, k target.Kind, name string) (*binding, error) {
	bind, err := storedBinding.Read(ctx, s, bindingKey(k, name))
	if store.Unreadable(err) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return bind, err
}

// boundAs reads a binding by name, and returns nil unless it points at this target.
func (b *backend) boundAs(ctx context.Context, ref target.Ref, name string) (*binding, error) {
	if name == "" {
		return nil, nil
	}
	if ref.Kind == target.Identity {
		cfg, err := readConfig(ctx, b.store)
		return cfg.identityBinding(), err
	}
	bind, err := readBinding(ctx, b.store, ref.Kind, name)
	if err != nil || bind == nil || bind.Ref != ref {
		return nil, err
	}
	return bind, nil
}

// scheduledBinding reads a binding by name, and returns nil unless it has
// rotate_on=schedule and points at this target.
func (b *backend) scheduledBinding(ctx context.Context, ref target.Ref, name string) (*binding, error) {
	bind, err := b.boundAs(ctx, ref, name)
	if bind == nil || !bind.scheduled() {
		return nil, err
	}
	return bind, nil
}

// existingBinding reads a binding by name, and refuses a name that is not bound.
func (b *backend) existingBinding(ctx context.Context, k target.Kind, name string) (*binding, error) {
	bind, err := readBinding(ctx, b.store, k, name)
	if err == nil && bind == nil {
		bindings, _ := pathsOf(k)
		err = refuse("no %s is bound as %q: write %s/%s first", k, name, bindings, name)
	}
	return bind, err
}

// boundToClock reads a binding by name, and refuses one without rotate_on=schedule.
func (b *backend) boundToClock(ctx context.Context, k target.Kind, name string) (*binding, error) {
	bind, err := b.existingBinding(ctx, k, name)
	if err != nil {
		return nil, err
	}
	if !bind.scheduled() {
		bindings, _ := pathsOf(k)
		return nil, refuse("%s/%s has rotate_on=%s: this goes with rotate_on=schedule", bindings, name, bind.RotateOn)
	}
	return bind, nil
}

// identityBinding is what the config says of the identity's rotation, in the form of
// a binding; nil if the mount cannot replace its credential.
func (c *config) identityBinding() *binding {
	if c == nil || c.refuseUnlessOwn() != nil {
		return nil
	}
	return &binding{
		Ref: identityRef, RotateOn: rotateOnSchedule, Schedule: c.RootRotation,
		GracePeriod: max(c.RootGracePeriod, time.Second), // the one before always ends
	}
}

// lockBinding holds a binding's name while the binding is written or deleted.
func (b *backend) lockBinding(ctx context.Context, k target.Kind, name string) (unlock func(), err error) {
	return b.locks.Lock(ctx, bindingPrefix+bindingLetter(k)+name)
}

func (b *binding) copied() *binding {
	c := *b
	c.Metadata = maps.Clone(b.Metadata)
	c.Keys = maps.Clone(b.Keys)
	return &c
}
