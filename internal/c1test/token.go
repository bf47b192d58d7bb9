// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"time"
)

const (
	grantClientCredentials = "client_credentials"
	assertionTypeJWT       = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// tokenParameters are those that C1 reads; it ignores all others.
var tokenParameters = []string{"grant_type", "client_id", "client_secret", "client_assertion_type", "client_assertion"}

// tokenAnswer is RFC 6749, 5.1.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
}

func invalidRequest(description string) answer {
	return oauthFail(http.StatusBadRequest, "invalid_request", description)
}

// invalidClient is the one answer to every bad credential: unknown, dead,
// wrong, or a decoy's.
func invalidClient() answer {
	return oauthFail(http.StatusUnauthorized, "invalid_client", "client authentication failed")
}

// handleToken is POST /auth/v1/token: client credentials in the body, as a
// signed assertion or as a plain secret.
func (t *Tenant) handleToken(rq *request) answer {
	a := t.grant(rq)
	if t.tokenErrors == TokenErrorsGRPC {
		return a.inGRPCForm()
	}
	return a
}

// grant answers a token request, errors in OAuth's form; t.mu is held.
func (t *Tenant) grant(rq *request) answer {
	form, refusal, ok := tokenForm(rq)
	if !ok {
		return refusal
	}
	var who *identity
	if form.Has("client_assertion") {
		who, refusal = t.byAssertion(rq, form)
	} else {
		who, refusal = t.bySecret(rq, form)
	}
	switch {
	case who == nil:
		return refusal
	case who.requireDPoP:
		return oauthFail(http.StatusBadRequest, "invalid_dpop_proof", "this client must prove possession of a key (DPoP)")
	case who.credential != nil:
		if !who.credential.alive(rq.now) {
			return invalidClient()
		}
		who.credential.lastUsedAt = rq.now
	}

	ttl := t.emulator.options.TokenTTL.Truncate(time.Second)
	value := t.issue(who, rq.now.Add(ttl))
	t.record(Entry{Op: OpToken, Object: who.clientID, Fingerprint: who.secret.fingerprint})
	a := ok200(tokenAnswer{AccessToken: value, TokenType: "Bearer", ExpiresIn: int(ttl / time.Second)})
	a.header = map[string]string{"Cache-Control": "no-store"}
	return a
}

// tokenForm checks everything about a token request but the credential. A
// parameter without a value counts as left out (RFC 6749, 3.2).
func tokenForm(rq *request) (url.Values, answer, bool) {
	if a, ok := rq.checkShape(); !ok {
		description := "malformed request"
		if e, isStatus := a.body.(status); isStatus {
			description = e.Message
		}
		return nil, invalidRequest(description), false
	}
	sent, err := url.ParseQuery(string(rq.body))
	if err != nil {
		return nil, invalidRequest("the body is not form-encoded"), false
	}
	form := url.Values{}
	for _, name := range tokenParameters {
		switch values := sent[name]; {
		case len(values) > 1:
			return nil, invalidRequest(name + " must be given once"), false
		case len(values) == 1 && values[0] != "":
			form[name] = values
		}
	}
	switch grant := form.Get("grant_type"); grant {
	case grantClientCredentials:
	case "":
		return nil, invalidRequest("grant_type is missing"), false
	default:
		return nil, oauthFail(http.StatusBadRequest, "unsupported_grant_type",
			"the emulator supports "+grantClientCredentials+" only"), false
	}
	switch {
	case !form.Has("client_id"):
		return nil, invalidRequest("client_id is missing"), false
	case form.Has("client_secret") == form.Has("client_assertion"):
		return nil, invalidRequest("exactly one of client_secret and client_assertion is needed"), false
	case form.Has("client_assertion") && form.Get("client_assertion_type") != assertionTypeJWT:
		return nil, invalidRequest("client_assertion_type must be " + assertionTypeJWT), false
	}
	return form, answer{}, true
}

// bySecret takes the secret itself, of either form; t.mu is held.
func (t *Tenant) bySecret(rq *request, form url.Values) (*identity, answer) {
	clientID, value := form.Get("client_id"), form.Get("client_secret")
	if d := t.decoyByClientID(clientID); d != nil {
		if used := d.find(value); used != nil && d.live() {
			t.raise(rq, d, used.fingerprint)
		}
		return nil, invalidClient()
	}
	who := t.identities[clientID]
	if who == nil || subtle.ConstantTimeCompare([]byte(who.secret.value), []byte(value)) != 1 {
		return nil, invalidClient()
	}
	return who, answer{}
}

// byAssertion takes a JWT that the secret's key signed; t.mu is held.
func (t *Tenant) byAssertion(rq *request, form url.Values) (*identity, answer) {
	t.emulator.remember(form.Get("client_assertion"))
	clientID := form.Get("client_id")
	signed, problem := parseAssertion(form.Get("client_assertion"))
	if problem == "" {
		problem = signed.check(clientID, t.Audience(), rq.now)
	}
	if problem != "" {
		return nil, oauthFail(http.StatusUnauthorized, "invalid_client", problem)
	}

	if d := t.decoyByClientID(clientID); d != nil {
		if used := d.signer(signed); used != nil && d.live() {
			t.raise(rq, d, used.fingerprint)
		}
		return nil, invalidClient()
	}
	who := t.identities[clientID]
	if who == nil || !signed.by(who.secret) {
		return nil, invalidClient()
	}
	return who, answer{}
}
