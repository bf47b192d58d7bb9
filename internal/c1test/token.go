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
var tokenParameters = []string{
	"grant_type", "client_id", "client_secret", "client_assertion_type", "client_assertion",
	"subject_token", "subject_token_type",
}

// tokenAnswer is RFC 6749, 5.1, with what RFC 8693, 2.2.1 adds.
type tokenAnswer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int    `json:"expires_in"`
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
// signed assertion or as a plain secret, or a workload's token to exchange. With
// a DPoP proof the access token is bound to the proof's key (RFC 9449, 5).
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
	switch {
	case form.Has("subject_token"):
		who, refusal = t.bySubjectToken(rq, form)
	case t.federated(form.Get("client_id")):
		refusal = oauthFail(http.StatusBadRequest, unauthorizedForGrant, "this client has no credentials of its own")
	case form.Has("client_assertion"):
		who, refusal = t.byAssertion(rq, form)
	default:
		who, refusal = t.bySecret(rq, form)
	}
	switch {
	case who == nil:
		return refusal
	case !who.alive(rq.now), who.own != nil && !who.own.admits(rq.sourceIP()):
		return invalidClient()
	}
	proof, problem := t.proofOf(rq, onTokenEndpoint, "")
	if proof == nil && problem == nil && who.requireDPoP {
		problem = invalidProof("this client must prove possession of a key (DPoP)")
	}
	if problem != nil {
		return problem.onToken()
	}
	return t.grantTo(who, proof, form, rq.now)
}

func (t *Tenant) federated(clientID string) bool {
	who := t.identities[clientID]
	return who != nil && who.trust != nil
}

// grantTo answers an access token, which is bound to the proof's key if there is
// a proof; t.mu is held.
func (t *Tenant) grantTo(who *identity, p *proof, form url.Values, now time.Time) answer {
	who.used(now)
	ttl := t.emulator.options.TokenTTL.Truncate(time.Second)
	out := tokenAnswer{TokenType: "Bearer", ExpiresIn: int(ttl / time.Second)}
	thumbprint := ""
	if p != nil {
		out.TokenType, thumbprint = schemeDPoP, p.thumbprint
	}
	if form.Has("subject_token") {
		out.IssuedTokenType = issuedAccessToken
	}
	out.AccessToken = t.issue(who, now.Add(ttl), thumbprint)
	t.record(Entry{Op: OpToken, Object: who.clientID, Fingerprint: who.secret.fingerprint})
	a := ok200(out)
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
	if problem := checkGrant(form); problem.status != 0 {
		return nil, problem, false
	}
	return form, answer{}, true
}

// checkGrant returns what a grant lacks or has too much, or the zero answer.
func checkGrant(form url.Values) answer {
	grant := form.Get("grant_type")
	exchange := grant == grantTokenExchange
	switch {
	case grant == "":
		return invalidRequest("grant_type is missing")
	case grant != grantClientCredentials && !exchange:
		return oauthFail(http.StatusBadRequest, "unsupported_grant_type",
			"the emulator supports "+grantClientCredentials+" and "+grantTokenExchange)
	case !form.Has("client_id"):
		return invalidRequest("client_id is missing")
	case form.Has("subject_token") != exchange:
		return invalidRequest("subject_token belongs to a token exchange, and to nothing else")
	case exchange && (form.Has("client_secret") || form.Has("client_assertion")):
		return invalidRequest("a token exchange takes no credential besides the subject_token")
	case exchange && form.Get("subject_token_type") != subjectTokenJWT:
		return invalidRequest("subject_token_type must be " + subjectTokenJWT)
	case !exchange && form.Has("client_secret") == form.Has("client_assertion"):
		return invalidRequest("exactly one of client_secret and client_assertion is needed")
	case form.Has("client_assertion") && form.Get("client_assertion_type") != assertionTypeJWT:
		return invalidRequest("client_assertion_type must be " + assertionTypeJWT)
	default:
		return answer{}
	}
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
