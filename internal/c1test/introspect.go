// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

type introspectAnswer struct {
	TenantID        string   `json:"tenantId"`
	UserID          string   `json:"userId"`
	PrincipleID     string   `json:"principleId"` // C1's spelling
	Roles           []string `json:"roles"`
	Permissions     []string `json:"permissions"`
	Features        []string `json:"features"`
	DisabledModules []string `json:"disabledModules"`
	DeviceClientID  string   `json:"deviceClientId"`
}

// handleIntrospect is GET /api/v1/auth/introspect.
func (t *Tenant) handleIntrospect(rq *request) answer {
	out := introspectAnswer{
		TenantID:        t.seeds.tenantID,
		UserID:          rq.caller.principal.userID,
		PrincipleID:     rq.caller.principal.id,
		Roles:           orEmpty(rq.caller.roles()),
		Permissions:     []string{},
		Features:        []string{},
		DisabledModules: []string{},
	}
	if !rq.caller.mayNothing {
		for _, op := range Operations() {
			if op != OpToken && rq.caller.may(op) {
				out.Permissions = append(out.Permissions, op)
			}
		}
	}
	for _, f := range Features() {
		if t.has(f) {
			out.Features = append(out.Features, string(f))
		}
	}
	return ok200(out)
}
