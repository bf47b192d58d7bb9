// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"errors"
	"net/http"
)

// adminIdentity is what an order that creates an identity answers: a secret too.
type adminIdentity struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"`
}

func adminNewIdentity(t *Tenant, r *http.Request) (any, error) {
	var in struct {
		DisplayName string   `json:"display_name"`
		Personal    bool     `json:"personal"`
		Plain       bool     `json:"plain"`
		RequireDPoP bool     `json:"require_dpop"`
		ExpiresIn   string   `json:"expires_in"`
		ScopedRoles []string `json:"scoped_roles"`
		SourceCIDRs []string `json:"source_cidrs"`
		Beside      string   `json:"beside"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	lifetime, err := readDuration("expires_in", in.ExpiresIn)
	if err = errors.Join(err, checkCIDRs(in.SourceCIDRs)); err != nil {
		return nil, err
	}
	options := []IdentityOption{ExpiresIn(lifetime), ScopedRoles(in.ScopedRoles...), SourceCIDRs(in.SourceCIDRs...)}
	if in.DisplayName != "" {
		options = append(options, DisplayName(in.DisplayName))
	}
	for _, wanted := range []struct {
		is     bool
		option IdentityOption
	}{{in.Personal, PersonalClient()}, {in.Plain, PlainSecret()}, {in.RequireDPoP, RequireDPoP()}} {
		if wanted.is {
			options = append(options, wanted.option)
		}
	}
	if in.Beside != "" {
		if !t.hasIdentity(in.Beside) {
			return nil, errNoSuch
		}
		options = append(options, Beside(Identity{ClientID: in.Beside}))
	}
	return adminIdentity(t.NewIdentity(options...)), nil
}

func adminNewFederatedIdentity(t *Tenant, r *http.Request) (any, error) {
	var in Trust
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if in.Issuer == "" || len(in.Keys.Keys) == 0 {
		return nil, errors.New("issuer and keys are needed")
	}
	return adminIdentity(t.NewFederatedIdentity(in)), nil
}

// adminEndIdentity ends the identity that the order names.
func adminEndIdentity(r *http.Request, end func(clientID string) bool) (any, error) {
	var in struct {
		ClientID string `json:"client_id"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if !end(in.ClientID) {
		return nil, errNoSuch
	}
	return done, nil
}

func adminRotateDPoPNonces(t *Tenant, _ *http.Request) (any, error) {
	t.RotateDPoPNonces()
	return done, nil
}

func (t *Tenant) hasIdentity(clientID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.identities[clientID]
	return i != nil && i.credential == nil
}
