// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "slices"

// Names of roles. C1 has more, and lets people define their own.
const (
	RoleSuperAdministrator = "Super Administrator"
	RoleBasicUser          = "Basic User"
)

// principal is the user whom a credential speaks for. One user may have several
// credentials.
type principal struct {
	userID  string
	id      string // C1's principleId
	service bool   // a service principal, otherwise a person
	roles   []string
}

// newPrincipal adds a user; t.mu is held.
func (t *Tenant) newPrincipal(service bool) *principal {
	p := &principal{userID: newID(t.now()), id: newID(t.now()), service: service, roles: []string{RoleSuperAdministrator}}
	t.users[p.userID] = true
	t.principals[p.userID] = p
	return p
}

// lacks returns a role of the list that the principal does not have, or "".
func (p *principal) lacks(roles []string) string {
	for _, role := range roles {
		if !slices.Contains(p.roles, role) {
			return role
		}
	}
	return ""
}

// use returns the last part of the principal's client IDs.
func (p *principal) use() string {
	if p.service {
		return useServicePrincipal
	}
	return usePersonal
}
