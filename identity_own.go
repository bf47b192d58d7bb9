// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// ownCredentials is what C1 shows of the mount's identity.
type ownCredentials struct {
	owner c1api.Owner
	who   *c1api.Introspection
	list  []c1api.OwnCredential
	held  *c1api.OwnCredential // the one that the mount logs in with; nil if C1 does not show it
	// orphan is the ID of what a rotation has made in vain, and could not end.
	orphan string
}

// lookUpOwn asks C1 whose credential the mount logs in with, and for all of that
// owner's.
func (s *session) lookUpOwn(ctx context.Context) (*ownCredentials, error) {
	who, err := s.client.Introspect(ctx)
	if err != nil {
		return nil, err
	}
	own := &ownCredentials{who: who}
	if own.owner, err = c1api.OwnerOf(s.config.ClientID, who); err != nil {
		return nil, refuse("%s", err)
	}
	own.list, err = s.client.OwnCredentials(ctx, own.owner)
	for i, c := range own.list {
		if c.ClientID == s.config.ClientID && c.DeletedAt.IsZero() {
			own.held = &own.list[i]
		}
	}
	return own, err
}

// attemptTag ends the display name of a credential that the mount made, so that C1's
// list tells which attempt it belongs to.
var attemptTag = regexp.MustCompile(` \[vault [0-9a-f-]{36}\]$`)

func tagOf(attemptID string) string { return " [vault " + attemptID + "]" }

// longestOwnName keeps a display name that has a tag within what C1 shows in a line.
const longestOwnName = 200

// How long C1 lets a service principal's credential live, and how long the new one does
// if C1 does not say how long the one before did.
const (
	shortestOwnLife = 30 * 24 * time.Hour
	ordinaryOwnLife = 90 * 24 * time.Hour
	longestOwnLife  = 180 * 24 * time.Hour
)

// successor is what makes a credential like the one held, for an attempt.
func (o *ownCredentials) successor(attemptID string) c1api.NewCredential {
	c := o.held
	name := attemptTag.ReplaceAllString(c.DisplayName, "")
	if runes := []rune(name); len(runes) > longestOwnName {
		name = string(runes[:longestOwnName])
	}
	made := c1api.NewCredential{
		DisplayName: strings.TrimSpace(name + tagOf(attemptID)),
		ScopedRoles: c.ScopedRoles, AllowSourceCIDRs: c.AllowSourceCIDRs, RequireDPoP: c.RequireDPoP,
	}
	if !c.ExpiresAt.IsZero() && !c.CreatedAt.IsZero() {
		made.Lifetime = c.ExpiresAt.Sub(c.CreatedAt).Round(time.Minute) // C1 may stamp both at other moments
	}
	if o.owner.ServicePrincipalID == "" {
		return made
	}
	if made.Lifetime <= 0 {
		made.Lifetime = ordinaryOwnLife
	}
	made.Lifetime = min(max(made.Lifetime, shortestOwnLife), longestOwnLife)
	return made
}

// endOwn ends a credential of the mount's identity at C1, but never the one that the
// config holds.
func (b *backend) endOwn(ctx context.Context, s *session, credentialID string) (why string, err error) {
	release, err := b.locks.Lock(ctx, configKey) // nobody changes the config meanwhile
	if err != nil {
		return "", fmt.Errorf("the config is being changed: %w", err)
	}
	defer release()
	cfg, err := readConfig(ctx, b.store)
	if err != nil {
		return "", err
	}
	if cfg == nil {
		return "", errors.New("the config was deleted") // so nobody knows whether it has ended
	}
	who, err := s.client.Introspect(ctx)
	if err != nil {
		return "", err
	}
	owner, err := c1api.OwnerOf(cfg.ClientID, who)
	if err != nil {
		return "", err
	}
	shown, err := s.client.OwnCredential(ctx, owner, credentialID)
	switch {
	case err == nil && shown.ClientID == cfg.ClientID, credentialID == c1api.CredentialIDOf(cfg.ClientID):
		return "", fmt.Errorf("the credential %s is the one in config", credentialID)
	case err != nil && !c1api.IsReason(err, c1api.ReasonNotFound):
		return "", err
	default:
		return s.client.EndOwnCredential(ctx, owner, credentialID)
	}
}
