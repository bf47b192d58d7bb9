// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

func pathAdopt() *framework.Path {
	return &framework.Path{
		Pattern:      "connectors/" + anyName + "/adopt$",
		DisplayAttrs: display("adopt", "connector-credential"),
		Fields: map[string]*framework.FieldSchema{
			"name":          nameField(),
			"client_id":     {Type: framework.TypeString, Required: true, Description: "Client ID that the connector logs in with."},
			"client_secret": {Type: framework.TypeString, Required: true, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true}, Description: "Its secret. Give it from a file (`client_secret=@file`) or standard input."},
			"credential_id": {Type: framework.TypeString, Required: true, Description: "C1's ID for that credential, as C1 shows it with the connector."},
			"login":         {Type: framework.TypeBool, Description: "Also ask C1 for an access token with it, which proves the secret. Default: no."},
		},
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:  "Give Vault the running credential of a scheduled connector, without rotating it.",
			Callback: handle((*backend).adopt),
			Responses: answer("What was adopted, without the material.", map[string]*framework.FieldSchema{
				"version":            {Type: framework.TypeInt, Required: true, Description: "Its version: 1."},
				"credential_id":      {Type: framework.TypeString, Required: true, Description: "C1's ID for the credential."},
				"fingerprint_sha256": {Type: framework.TypeString, Required: true, Description: "Hex SHA-256 of the secret."},
				"expires_at":         {Type: framework.TypeString, Required: true, Description: "When it expires at C1, RFC 3339; empty when C1 sets no end."},
				"next_rotation":      {Type: framework.TypeString, Required: true, Description: "Time of the first rotation, RFC 3339; empty when only callers rotate."},
			}),
		})),
		HelpSynopsis: "Give Vault a connector's running credential, without rotating it.",
		HelpDescription: `
Write the binding with rotate_on=schedule and skip_initial_rotation=true first.
Then this makes the connector's running credential version 1: readers get it at
once, nothing changes at C1, and the first rotation comes on schedule, counted
from now. C1 must show that the credential is this connector's, alive, and has
this client_id; login=true also tries the secret.

It is refused, and changes nothing, if the binding already has a version. Only
Vault should hold the credential afterwards: point its readers at
connector-creds/:name and delete it wherever else it is kept.
`,
	}
}

// adopt takes a connector's running credential over. C1 is only asked.
func (b *backend) adopt(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	given, err := givenCredential(d)
	if err != nil {
		return nil, err
	}
	name, asked := d.Get("name").(string), originOf(req)
	if !b.work.Enter() {
		return nil, errStopping()
	}
	defer b.work.Leave()
	t, bind, s, err := b.takeScheduled(ctx, target.Connector, name)
	if err != nil {
		return nil, err
	}
	defer t.release()
	rec, err := t.recordOfRequest(ctx, asked.RequestID)
	if err != nil {
		return nil, err
	}
	if rec != nil && rec.Reason == target.ReasonAdopt && rec.Version == t.state.Version {
		return adopted(t.state), nil // Vault sent it again after a plugin died: this is its answer
	}
	if err := t.refuseToAdopt(name); err != nil {
		return nil, err
	}
	m, err := t.provedAtC1(ctx, s, given, d.Get("login").(bool))
	if err != nil {
		return nil, err
	}
	now := t.now()
	asked.Reason, asked.Binding, asked.StartedAt = target.ReasonAdopt, name, now
	next := t.state.TakenOver(now, s.terms(bind), asked, target.Result{
		CredentialID: m.CredentialID, ClientID: m.ClientID, Fingerprint: m.Fingerprint, ExpiresAt: m.ExpiresAt, Material: m.Data,
		Warning: clip(strings.Join(m.Warnings, "; "), maxLabelLength),
	})
	stored, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if _, err := t.storeReadable(stored, next); err != nil {
		return nil, err
	}
	t.announce(ctx, next.Newest)
	resp := adopted(next)
	resp.Warnings = m.Warnings
	return resp, nil
}

// adopted is the answer to an adoption.
func adopted(t *target.State) *logical.Response {
	return &logical.Response{Data: map[string]any{
		"version": t.Version, "credential_id": t.Current.CredentialID, "fingerprint_sha256": t.Current.Fingerprint,
		"expires_at": rfc3339(t.Current.ExpiresAt), "next_rotation": rfc3339(t.RotationAt()),
	}}
}

// givenCredential checks the fields of an adoption, before anything is asked.
func givenCredential(d *framework.FieldData) (*c1api.ConnectorCredential, error) {
	given := &c1api.ConnectorCredential{}
	for _, f := range []struct {
		name  string
		value *string
	}{{"client_id", &given.ClientID}, {"client_secret", &given.ClientSecret}, {"credential_id", &given.ID}} {
		// A file given as client_secret=@file ends with a newline, as editors leave it.
		*f.value = strings.TrimRight(d.Get(f.name).(string), "\r\n")
		if *f.value == "" {
			return nil, refuse("%s is required: the credential that the connector runs with", f.name)
		}
	}
	if _, _, _, err := c1api.ParseClientID(given.ClientID); err != nil {
		return nil, refuse("client_id: %s", err)
	}
	if err := c1api.CheckClientSecret(given.ClientSecret); err != nil {
		return nil, refuse("client_secret: %s", err)
	}
	if validID("credential_id", given.ID) != nil {
		// Not repeated, here and below: it is where a secret lands that was mixed up.
		return nil, refuse("credential_id: must be an ID as C1 shows it, 1 to %d letters, digits and any of _:~=@+-", maxIDLength)
	}
	return given, nil
}

// refuseToAdopt says why a target takes no running credential, if it does not.
func (t *turn) refuseToAdopt(name string) error {
	switch {
	case t.state.Version > 0:
		return refuse("connectors/%s has version %d already: only a connector that Vault has never rotated can be adopted", name, t.state.Version)
	case t.state.Attempt != nil:
		return refuse("connectors/%s has a rotation of unknown outcome, so C1 may hold another credential by now: write connectors/%s/rotate", name, name)
	default:
		return nil
	}
}

// provedAtC1 has C1 show that a given credential is this connector's and alive, and on
// demand that its secret works. It returns it in the form in which it is vended.
func (t *turn) provedAtC1(ctx context.Context, s *session, given *c1api.ConnectorCredential, login bool) (*material, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	found, err := s.client.ConnectorCredentialExistence(ctx, t.ref.AppID, t.ref.ConnectorID, given.ID)
	switch shown := found.Credential; {
	case err != nil:
		return nil, notAdopted(err)
	case found.Gone:
		return nil, refuse("nothing was adopted: C1 shows no live credential of this connector under credential_id: %s", found.Why)
	case shown.ClientID != given.ClientID:
		return nil, refuse("nothing was adopted: C1 shows another client_id for this credential: %q", clip(shown.ClientID, 80))
	}
	shown := *found.Credential
	shown.ClientSecret = given.ClientSecret
	m := connectorMaterial(t.ref, &shown)
	if !login {
		m.Warnings = append(m.Warnings, "whether C1 accepts the secret was not tried (login=true tries it)")
		return m, nil
	}
	return m, t.tryLogin(ctx, s, given)
}

// tryLogin asks C1 for an access token with a connector's credential.
func (t *turn) tryLogin(ctx context.Context, s *session, given *c1api.ConnectorCredential) error {
	cfg := s.config.copied()
	cfg.URL, cfg.TenantDomain = s.config.tenant(), ""
	cfg.ClientID, cfg.ClientSecret, cfg.AccessToken, cfg.RequireDPoP = given.ClientID, given.ClientSecret, "", false
	client, err := t.newClient(cfg)
	if err != nil {
		return refuse("client_secret: %s", err)
	}
	defer client.Close()
	err = client.Login(ctx)
	if c1api.IsReason(err, c1api.ReasonIdentity) {
		return refuse("nothing was adopted: C1 does not accept this client_secret for %s: %s", clip(given.ClientID, 80), err)
	}
	if err != nil {
		return notAdopted(err)
	}
	return nil
}

// notAdopted is the answer where C1 did not say what it takes to adopt a credential. It
// was only asked, so no outcome is unknown.
func notAdopted(err error) error {
	u := fromC1(err)
	if u.status == statusOutcomeUnknown {
		u.status = http.StatusBadGateway
	}
	u.message = "nothing was adopted: " + u.message
	return u
}
