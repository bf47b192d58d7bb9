// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "strings"

// seeds is what every tenant starts with.
type seeds struct {
	userID        string
	identity      Identity
	plainIdentity Identity
	connector     ConnectorRef
	decoys        map[Kind]string
}

// seed fills a new tenant; t.mu is held. Seeds are not in the journal.
func (t *Tenant) seed() {
	t.seeds.userID = newID(t.now())
	t.users[t.seeds.userID] = true
	t.seeds.identity = t.newIdentity()
	t.seeds.plainIdentity = t.newIdentity(PersonalClient(), PlainSecret())
	t.seeds.connector = t.newConnector("Okta (" + t.name + ")")
	t.seeds.decoys = map[Kind]string{}
	for _, kind := range Kinds() {
		short := shortKind(kind)
		d := t.newDecoy(kind, "Decoy "+strings.ReplaceAll(short, "_", " "),
			map[string]string{"environment": "production"}, t.now())
		t.seeds.decoys[kind] = d.id
	}
}

// shortKind turns DECOY_KIND_ACCESS_TOKEN into access_token.
func shortKind(kind Kind) string {
	return strings.ToLower(strings.TrimPrefix(string(kind), "DECOY_KIND_"))
}

// User returns the ID of the seeded user, for decoys that need one.
func (t *Tenant) User() string { return t.seeds.userID }
