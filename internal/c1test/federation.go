// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	grantTokenExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	subjectTokenJWT      = "urn:ietf:params:oauth:token-type:jwt"
	issuedAccessToken    = "urn:ietf:params:oauth:token-type:access_token"
	subjectTokenMaxAge   = 10 * time.Minute
	subjectTokenFuture   = time.Minute
	subjectTokenLeeway   = 5 * time.Second
	unauthorizedForGrant = "unauthorized_client"
)

// Trust is whose tokens a workload may exchange for C1's (RFC 8693).
type Trust struct {
	Issuer  string             `json:"issuer"`
	Keys    jose.JSONWebKeySet `json:"keys"`    // C1 reads the issuer's; the emulator is given them
	Subject string             `json:"subject"` // what sub must be, "" = anything; C1 takes any CEL condition
}

// NewFederatedIdentity adds a service principal that workloads log in as with
// the issuer's tokens. The identity has a client ID (/wfe) and no secret; the
// options are those that say what it may do.
func (t *Tenant) NewFederatedIdentity(trust Trust, options ...IdentityOption) Identity {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := &identity{principal: t.newPrincipal(true), trust: &trust, clientID: t.freshClientID(useFederation)}
	for _, option := range options {
		option(i, &identityForm{})
	}
	t.identities[i.clientID] = i
	t.record(Entry{Op: "createTrust", Object: i.clientID, Detail: outside})
	return Identity{ClientID: i.clientID}
}

// subjectAlgorithms are those of the issuers that C1 documents, which publish
// public keys.
var subjectAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// check returns why a subject token is refused, or "". C1 checks the age of
// tokens with iat only: some issuers' have none.
func (trust *Trust) check(subjectToken, audience string, now time.Time) string {
	token, err := jwt.ParseSigned(subjectToken, subjectAlgorithms)
	if err != nil {
		return "the subject token is no signed JWT"
	}
	var c jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "the subject token's claims cannot be read"
	}
	switch {
	case c.Issuer != trust.Issuer:
		return "issuer: the subject token's iss is not the trusted one"
	case !trust.signed(token):
		return "signature: no key of the issuer signed the subject token"
	case !c.Audience.Contains(audience):
		return "audience: the subject token's aud must contain " + audience
	case c.Expiry == nil || !now.Before(c.Expiry.Time().Add(subjectTokenLeeway)):
		return "expiry: the subject token has expired, or has no exp"
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(subjectTokenFuture)):
		return "age: the subject token is not valid yet"
	case c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(subjectTokenFuture)):
		return "age: the subject token's iat lies in the future"
	case c.IssuedAt != nil && c.IssuedAt.Time().Before(now.Add(-subjectTokenMaxAge)):
		return "age: the subject token's iat is more than 10 minutes old"
	case trust.Subject != "" && c.Subject != trust.Subject:
		return "condition: the subject token's sub is not the one that the trust wants"
	default:
		return ""
	}
}

// signed reports whether one of the issuer's keys signed the token: the one
// that it names, or any when it names none.
func (trust *Trust) signed(token *jwt.JSONWebToken) bool {
	keys := trust.Keys.Keys
	if id := token.Headers[0].KeyID; id != "" {
		keys = trust.Keys.Key(id)
	}
	for _, key := range keys {
		if key.IsPublic() && token.Claims(key.Key) == nil {
			return true
		}
	}
	return false
}

// bySubjectToken takes an issuer's token for a workload; t.mu is held.
func (t *Tenant) bySubjectToken(rq *request, form url.Values) (*identity, answer) {
	t.emulator.remember(form.Get("subject_token"))
	who := t.identities[form.Get("client_id")]
	switch {
	case who == nil:
		return nil, invalidClient()
	case who.trust == nil:
		return nil, oauthFail(http.StatusBadRequest, unauthorizedForGrant, "this client does not exchange tokens")
	}
	if problem := who.trust.check(form.Get("subject_token"), t.Audience(), rq.now); problem != "" {
		return nil, oauthFail(http.StatusBadRequest, "invalid_grant", problem)
	}
	return who, answer{}
}
