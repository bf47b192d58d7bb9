// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The uses of the client IDs whose credentials their owner can manage.
const (
	UsePersonal         = "pcc"
	UseServicePrincipal = "spc"
)

// ownHint is said with a 403 or 404 of a call about credentials of one's own.
const ownHint = "managing credentials takes rights that a credential with few scoped roles may lack"

// Owner says whose credentials are meant: those of a service principal, by the
// user ID that introspection returns, or with an empty ID the calling user's
// personal clients.
type Owner struct {
	ServicePrincipalID string
}

// OwnCredential is a client credential as C1 shows it, without its secret. Every
// field but the ID is optional on the wire, and a zero time means that C1 did not
// send one.
type OwnCredential struct {
	ID               string
	ClientID         string
	DisplayName      string
	CreatedAt        time.Time
	ExpiresAt        time.Time // C1's expiresAt, or expiresTime
	DeletedAt        time.Time // personal clients only
	ScopedRoles      []string  // to which its rights are cut down; none: to nothing less than its owner's
	AllowSourceCIDRs []string  // from which alone it may be used; none: from anywhere
	RequireDPoP      bool      // service principals only
	Warnings         []string  // as in Connector
}

// NewCredential is what a credential is created with.
type NewCredential struct {
	DisplayName      string
	Lifetime         time.Duration // cut to whole seconds; 0 is no end, of personal clients only
	ScopedRoles      []string      // IDs of C1's roles; none: its owner's rights
	AllowSourceCIDRs []string      // none: from anywhere
	RequireDPoP      bool          // service principals only
}

// OwnerOf says whose credential a client ID names, by its use and by what
// introspection says of the caller: a service principal's (spc), or the calling
// user's own (pcc). Any other use is an error that says why it cannot be managed.
func OwnerOf(clientID string, who *Introspection) (Owner, error) {
	_, _, use, err := ParseClientID(clientID)
	if err != nil {
		return Owner{}, err
	}
	switch use {
	case UsePersonal:
		return Owner{}, nil
	case UseServicePrincipal:
		if who == nil || idFault(who.UserID) != "" {
			return Owner{}, errors.New("C1 does not say whose credential this is: introspection names no user ID")
		}
		return Owner{ServicePrincipalID: who.UserID}, nil
	case UseFederation:
		return Owner{}, errors.New("the client ID is a federation trust's (its use is wfe), which has no secret that could be replaced")
	default:
		return Owner{}, fmt.Errorf("credentials with the use %s cannot be managed: only those of service principals (spc) and personal clients (pcc) can", clean(use, nil))
	}
}

// CredentialIDOf is the name in a client ID, which is the ID of a service
// principal's credential and of a personal client; "" for what is no client ID.
func CredentialIDOf(clientID string) string {
	name, _, _, err := ParseClientID(clientID)
	if err != nil {
		return ""
	}
	return name
}

// ownForm is how C1 writes the credentials of one kind of owner.
type ownForm struct {
	all, one             string // paths
	wrapper              string // of one credential in an answer
	expires              string
	shownRoles, newRoles string
	cidrs                string
}

var (
	servicePrincipalForm = ownForm{
		all: "/api/v1/service_principals/%s/credentials", one: "/api/v1/service_principals/%s/credentials/%s",
		wrapper: "credential", expires: "expiresAt",
		shownRoles: "scopedRoleIds", newRoles: "scopedRoles", cidrs: "allowSourceCidrs",
	}
	personalForm = ownForm{
		all: "/api/v1/iam/personal_clients", one: "/api/v1/iam/personal_clients/%s",
		wrapper: "client", expires: "expiresTime",
		shownRoles: "scopedRoles", newRoles: "scopedRoles", cidrs: "allowSourceCidr",
	}
)

// personal reports whether the calling user's personal clients are meant.
func (o Owner) personal() bool { return o.ServicePrincipalID == "" }

func (o Owner) form() ownForm {
	if o.personal() {
		return personalForm
	}
	return servicePrincipalForm
}

// path is that of all credentials, or of the one with this ID.
func (o Owner) path(id ...string) (string, error) {
	format := o.form().all
	if len(id) > 0 {
		format = o.form().one
	}
	if !o.personal() {
		id = append([]string{o.ServicePrincipalID}, id...)
	}
	return pathOf(format, id...)
}

// OwnCredentials returns all credentials of an owner, expired ones too
// (GET /api/v1/service_principals/{service_principal_id}/credentials or
// GET /api/v1/iam/personal_clients).
func (c *Client) OwnCredentials(ctx context.Context, o Owner) ([]OwnCredential, error) {
	k := call{op: "list own credentials", effect: reading, method: http.MethodGet, hint: ownHint}
	var err error
	if k.path, err = o.path(); err != nil {
		return nil, unsendable(k.op, err)
	}
	var all []OwnCredential
	// C1 documents no parameters of these lists: the first page takes none, and the
	// token of the next is sent as elsewhere.
	err = c.walk(ctx, k, url.Values{}, func(page object) (enough bool) {
		for _, found := range page.list("list") {
			if cred := found.ownCredential(o.form()); cred.ID != "" {
				all = append(all, *cred)
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// OwnCredential returns one credential, also when it has expired or is shown as
// deleted: ExpiresAt and DeletedAt tell
// (GET /api/v1/service_principals/{service_principal_id}/credentials/{id} or
// GET /api/v1/iam/personal_clients/{id}).
func (c *Client) OwnCredential(ctx context.Context, o Owner, id string) (*OwnCredential, error) {
	k := call{op: "get own credential", effect: reading, method: http.MethodGet, hint: ownHint}
	var err error
	if k.path, err = o.path(id); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	answer, err := k.decode(body)
	if err != nil {
		return nil, err
	}
	found, ok := answer.below(o.form().wrapper)
	if !ok {
		return nil, k.unusable("the answer holds no credential")
	}
	cred := found.ownCredential(o.form())
	if other(cred.ID, id) || found.ofAnother(o) {
		return nil, k.unusable("the answer is about another credential")
	}
	cred.ID = id
	return cred, nil
}

// CreateOwnCredential creates a credential
// (POST /api/v1/service_principals/{service_principal_id}/credentials or
// POST /api/v1/iam/personal_clients). The answer holds the only copy of its secret;
// whatever falls short of a usable credential is a ReasonUnknown error, since C1 has
// created one by then. It is never sent twice.
func (c *Client) CreateOwnCredential(ctx context.Context, o Owner, n NewCredential) (cred *OwnCredential, secret string, err error) {
	k := call{op: "create own credential", effect: onceOnly, method: http.MethodPost, hint: ownHint}
	if k.path, err = o.path(); err != nil {
		return nil, "", unsendable(k.op, err)
	}
	if err = n.check(o); err != nil {
		return nil, "", unsendable(k.op, err)
	}
	if k.body, err = json.Marshal(n.fields(o.form())); err != nil {
		return nil, "", unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, "", err
	}
	return k.decodeCreated(body, o, c.clock.c1Now())
}

// check refuses what C1 would refuse, or would understand as something else.
func (n NewCredential) check(o Owner) error {
	switch {
	case n.Lifetime < 0 || n.Lifetime > 0 && n.Lifetime < time.Second:
		return errors.New("a credential lives for at least a second")
	case n.Lifetime == 0 && !o.personal():
		return errors.New("a service principal's credential needs an end")
	case n.RequireDPoP && o.personal():
		return errors.New("C1 cannot require DPoP of a personal client")
	default:
		return nil
	}
}

// fields is the body of a request that creates.
func (n NewCredential) fields(form ownForm) map[string]any {
	fields := map[string]any{"displayName": n.DisplayName}
	if n.Lifetime > 0 { // a duration in the JSON of protocol buffers
		fields["expires"] = strconv.FormatInt(int64(n.Lifetime/time.Second), 10) + "s"
	}
	if len(n.ScopedRoles) > 0 {
		fields[form.newRoles] = n.ScopedRoles
	}
	if len(n.AllowSourceCIDRs) > 0 {
		fields[form.cidrs] = n.AllowSourceCIDRs
	}
	if n.RequireDPoP {
		fields["requireDpop"] = true
	}
	return fields
}

// decodeCreated reads {"credential" or "client": {...}, "clientSecret": "..."} and takes
// only a credential that somebody can log in with now and that can be ended later.
func (k call) decodeCreated(body []byte, o Owner, now time.Time) (*OwnCredential, string, error) {
	answer, err := k.decode(body)
	if err != nil {
		return nil, "", err
	}
	found, ok := answer.below(o.form().wrapper)
	if !ok {
		return nil, "", k.unusable("C1 created a credential, but its answer does not show it")
	}
	cred := found.ownCredential(o.form())
	refuse := func(fault string) (*OwnCredential, string, error) {
		about := ""
		if cred.ID != "" {
			about = " (id " + clean(cred.ID, nil) + ")"
		}
		return nil, "", k.unusable("C1 created a credential, but what its answer shows" + about + " cannot be used: " + fault)
	}
	var bad error
	if cred.ID, bad = found.id("id"); bad != nil {
		return refuse("its id " + bad.Error())
	}
	if cred.ClientID, bad = found.name("clientId", maxClientIDLength); bad != nil {
		return refuse("its clientId " + bad.Error())
	}
	if _, _, _, bad = ParseClientID(cred.ClientID); bad != nil {
		return refuse(bad.Error())
	}
	secret, bad := answer.secret("clientSecret", maxSecretLength)
	if bad != nil {
		return refuse("its clientSecret " + bad.Error())
	}
	if bad = CheckClientSecret(secret); bad != nil {
		return refuse(bad.Error())
	}
	switch {
	case found.ofAnother(o):
		return refuse("it is another service principal's")
	case !cred.DeletedAt.IsZero():
		return refuse("it is already deleted")
	case over(cred.ExpiresAt, now):
		return refuse("it has already expired (" + cred.ExpiresAt.UTC().Format(time.RFC3339) + ")")
	}
	cred.Warnings = *answer.warnings
	return cred, secret, nil
}

// RevokeOwnCredential ends one credential
// (DELETE /api/v1/service_principals/{service_principal_id}/credentials/{id} or
// DELETE /api/v1/iam/personal_clients/{id}). Nil means that C1 said so. No error means
// that the credential is gone, not even ReasonNotFound: EndOwnCredential finds that
// out.
func (c *Client) RevokeOwnCredential(ctx context.Context, o Owner, id string) error {
	k := call{op: "revoke own credential", effect: repeatable, method: http.MethodDelete, hint: ownHint}
	var err error
	if k.path, err = o.path(id); err != nil {
		return unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	return k.decodeDone(body)
}

// ownCredential reads a credential. One that shows its client ID only is known by
// that.
func (o object) ownCredential(form ownForm) *OwnCredential {
	cred := &OwnCredential{
		ID:               o.text("id", maxIDLength),
		ClientID:         o.text("clientId", maxClientIDLength),
		DisplayName:      o.text("displayName", maxDisplayName),
		CreatedAt:        o.moment("createdAt"),
		ExpiresAt:        o.moment(form.expires),
		DeletedAt:        o.moment("deletedAt"),
		ScopedRoles:      o.texts(form.shownRoles),
		AllowSourceCIDRs: o.texts(form.cidrs),
		RequireDPoP:      o.flag("requireDpop"),
	}
	if cred.ID == "" {
		cred.ID = CredentialIDOf(cred.ClientID)
	}
	cred.Warnings = *o.warnings
	return cred
}

// ofAnother reports whether a credential is shown as another service principal's.
func (o object) ofAnother(owner Owner) bool {
	return !owner.personal() && other(o.text("servicePrincipalId", maxIDLength), owner.ServicePrincipalID)
}
