// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// LoginError is a refusal of the token endpoint or of the API.
type LoginError struct {
	Status int    // HTTP status
	Code   string // OAuth error code, e.g. invalid_client; "" for API calls
}

func (e *LoginError) Error() string {
	if e.Code != "" {
		return e.Code
	}
	return fmt.Sprintf("C1 answered %d", e.Status)
}

// LoginForm says as which of C1's clients a login goes out.
type LoginForm string

const (
	// LoginSDK is C1's Go SDK: an assertion with a nonce in the protected
	// header and a list as aud. It is the default.
	LoginSDK LoginForm = "sdk"
	// LoginConnector is a connector (baton-sdk): aud is one string.
	LoginConnector LoginForm = "connector"
	// LoginDPoP is the client that can do DPoP: an assertion without a nonce, and
	// a proof. The token that it gets is bound to the prover's key.
	LoginDPoP LoginForm = "dpop"
	// LoginPlain sends the whole secret in the body.
	LoginPlain LoginForm = "plain"
)

// LoginForms lists them all.
func LoginForms() []LoginForm { return []LoginForm{LoginSDK, LoginConnector, LoginDPoP, LoginPlain} }

// Login asks the tenant for an access token as C1's own SDK does; a secret that
// carries no key goes into the body itself. nil means that the credential is
// alive.
func (t *Tenant) Login(ctx context.Context, clientID, clientSecret string) error {
	_, err := t.LoginToken(ctx, clientID, clientSecret)
	return err
}

// LoginToken is Login, and returns the access token.
func (t *Tenant) LoginToken(ctx context.Context, clientID, clientSecret string) (string, error) {
	return t.LoginAs(ctx, LoginSDK, clientID, clientSecret)
}

// LoginAs is LoginToken in the form of one of C1's clients.
func (t *Tenant) LoginAs(ctx context.Context, form LoginForm, clientID, clientSecret string) (string, error) {
	return t.login(ctx, LoginRequest{ClientID: clientID, ClientSecret: clientSecret, Form: form})
}

// LoginProved is LoginToken with DPoP: the access token is bound to the prover's
// key.
func (t *Tenant) LoginProved(ctx context.Context, prover *Prover, clientID, clientSecret string) (string, error) {
	return t.login(ctx, LoginRequest{ClientID: clientID, ClientSecret: clientSecret, Form: LoginDPoP, Prover: prover})
}

// LoginFederated exchanges a workload's token for an access token.
func (t *Tenant) LoginFederated(ctx context.Context, clientID, subjectToken string) (string, error) {
	return t.login(ctx, LoginRequest{ClientID: clientID, SubjectToken: subjectToken})
}

// login fills in what the tenant knows of itself.
func (t *Tenant) login(ctx context.Context, in LoginRequest) (string, error) {
	in.URL, in.Audience, in.Now = t.URL(), t.Audience(), t.now()
	value, err := Login(ctx, t.client(), in)
	if err == nil {
		t.emulator.remember(value)
	}
	return value, err
}

// LoginRequest is what Login sends.
type LoginRequest struct {
	URL          string // root of the tenant
	Audience     string // of the assertion
	ClientID     string
	ClientSecret string
	Now          time.Time
	Form         LoginForm // "" = LoginSDK
	Prover       *Prover   // of LoginDPoP, nil = a new key
	SubjectToken string    // to exchange, instead of a secret and a form
}

// Login asks the token endpoint for an access token. A refusal is a
// *LoginError.
func Login(ctx context.Context, client *http.Client, in LoginRequest) (string, error) {
	form, err := loginForm(in)
	if err != nil {
		return "", err
	}
	if in.Form == LoginDPoP && in.Prover == nil {
		in.Prover = NewProver()
	}
	var out struct {
		tokenAnswer
		oauthError
	}
	answer, err := sendProved(in.Prover, "", in.Now, func() (*http.Request, error) {
		rq, err := http.NewRequestWithContext(ctx, http.MethodPost, in.URL+"/auth/v1/token", strings.NewReader(form.Encode()))
		if err != nil {
			return nil, fmt.Errorf("build the token request: %w", err)
		}
		rq.Header.Set("Content-Type", typeForm)
		return rq, nil
	}, client, &out)
	switch {
	case err != nil:
		return "", err
	case answer.status != http.StatusOK:
		return "", &LoginError{Status: answer.status, Code: out.Code}
	case out.AccessToken == "":
		return "", fmt.Errorf("the token endpoint answered without a token")
	}
	return out.AccessToken, nil
}

// loginForm returns the body of a token request.
func loginForm(in LoginRequest) (url.Values, error) {
	if in.SubjectToken != "" {
		return url.Values{
			"grant_type": {grantTokenExchange}, "client_id": {in.ClientID},
			"subject_token": {in.SubjectToken}, "subject_token_type": {subjectTokenJWT},
		}, nil
	}
	form := url.Values{"grant_type": {grantClientCredentials}, "client_id": {in.ClientID}}
	key, err := parseSecret(in.ClientSecret)
	switch {
	case err != nil:
		return nil, err
	case key == nil || in.Form == LoginPlain:
		form.Set("client_secret", in.ClientSecret)
	default:
		signed, err := signAssertion(key, in)
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", assertionTypeJWT)
		form.Set("client_assertion", signed)
	}
	return form, nil
}

// parseSecret returns the key in a client secret as C1's clients read it: four
// parts between colons, the third of them v1, the last a JWK. A plain secret has
// none. What looks like a key but cannot be read is refused: nothing of it must
// be sent.
func parseSecret(clientSecret string) (ed25519.PrivateKey, error) {
	parts := strings.SplitN(clientSecret, ":", 4)
	if len(parts) != 4 || parts[2] != "v1" {
		if strings.Contains(strings.ToLower(clientSecret), "secret-token:") {
			return nil, fmt.Errorf("the client secret is no secret-token of version v1")
		}
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		return nil, fmt.Errorf("the client secret is not base64url")
	}
	var key jose.JSONWebKey
	if key.UnmarshalJSON(raw) != nil || !key.Valid() {
		return nil, fmt.Errorf("the client secret holds no JWK")
	}
	private, isEd25519 := key.Key.(ed25519.PrivateKey)
	if !isEd25519 {
		return nil, fmt.Errorf("the client secret's key is not an Ed25519 private key")
	}
	return private, nil
}

// randomNonce implements jose.NonceSource as C1's SDKs do.
type randomNonce struct{}

// Nonce returns 16 random bytes.
func (randomNonce) Nonce() (string, error) {
	return base64.RawURLEncoding.EncodeToString(randomBytes(16)), nil
}

// signAssertion signs what C1's clients sign: two minutes ahead, valid from two
// minutes back, and no claim besides.
func signAssertion(key ed25519.PrivateKey, in LoginRequest) (string, error) {
	options := &jose.SignerOptions{NonceSource: randomNonce{}}
	if in.Form == LoginDPoP {
		options.NonceSource = nil
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("prepare to sign the assertion: %w", err)
	}
	claims := map[string]any{
		"iss": in.ClientID, "sub": in.ClientID, "aud": []string{in.Audience},
		"exp": in.Now.Add(2 * time.Minute).Unix(),
		"iat": in.Now.Unix(),
		"nbf": in.Now.Add(-2 * time.Minute).Unix(),
	}
	if in.Form == LoginConnector {
		claims["aud"] = in.Audience
	}
	signed, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign the assertion: %w", err)
	}
	return signed, nil
}
