// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "strings"

// seeds is what every tenant starts with.
type seeds struct {
	tenantID      string
	userID        string
	identity      Identity
	plainIdentity Identity
	connector     ConnectorRef
	decoys        map[Kind]string
}

// seed fills a new tenant; t.mu is held. Seeds are not in the journal.
func (t *Tenant) seed() {
	t.seeds.tenantID = newID(t.now())
	t.seeds.userID = newID(t.now())
	t.users[t.seeds.userID] = true
	// No end, unlike C1's service principals: tests play years of fake time.
	t.seeds.identity = t.newIdentity()
	t.seeds.plainIdentity = t.newIdentity(PersonalClient(), PlainSecret())
	t.seeds.connector = t.newConnector(newID(t.now()), "Okta ("+t.name+")")
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

// Seeds is what every tenant starts with, as the seed file and the admin path
// show it. It holds secrets.
type Seeds struct {
	Tenant            string            `json:"tenant"`
	URL               string            `json:"url"`
	ClientID          string            `json:"client_id"`
	ClientSecret      string            `json:"client_secret"`
	PlainClientID     string            `json:"plain_client_id"`
	PlainClientSecret string            `json:"plain_client_secret"`
	UserID            string            `json:"user_id"`
	AppID             string            `json:"app_id"`
	ConnectorID       string            `json:"connector_id"`
	Decoys            map[string]string `json:"decoys"` // IDs by kind: user_client_credential, …
}

// Seeds returns the tenant's seeds, with the secrets of its identities.
func (t *Tenant) Seeds() Seeds {
	s := t.seeds
	out := Seeds{
		Tenant: t.name, URL: t.URL(),
		ClientID: s.identity.ClientID, ClientSecret: s.identity.ClientSecret,
		PlainClientID: s.plainIdentity.ClientID, PlainClientSecret: s.plainIdentity.ClientSecret,
		UserID: s.userID, AppID: s.connector.AppID, ConnectorID: s.connector.ConnectorID,
		Decoys: map[string]string{},
	}
	for kind, id := range s.decoys {
		out.Decoys[shortKind(kind)] = id
	}
	return out
}
