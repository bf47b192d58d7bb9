// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// userAgent of Login, as a connector would send one; findings show it.
const userAgent = "baton-c1/0.1"

// newHTTPClient returns a client that trusts roots (nil = the system's), keeps
// no connection open and follows no redirect.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NewHTTPClient returns a client that trusts the certificates in caPEM, or the
// system's when it is empty.
func NewHTTPClient(caPEM string) (*http.Client, error) {
	if caPEM == "" {
		return newHTTPClient(nil), nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(caPEM)) {
		return nil, fmt.Errorf("the CA file holds no PEM certificate")
	}
	return newHTTPClient(roots), nil
}

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

// Login asks the tenant for an access token as C1's own SDK does: with a
// signed assertion when the secret carries a key, with the secret itself
// otherwise. nil means that the credential is alive.
func (t *Tenant) Login(ctx context.Context, clientID, clientSecret string) error {
	_, err := t.LoginToken(ctx, clientID, clientSecret)
	return err
}

// LoginToken is Login, and returns the access token.
func (t *Tenant) LoginToken(ctx context.Context, clientID, clientSecret string) (string, error) {
	value, err := Login(ctx, t.client(), LoginRequest{
		URL: t.URL(), Audience: t.Audience(), ClientID: clientID, ClientSecret: clientSecret, Now: t.now(),
	})
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
}

// Login asks the token endpoint for an access token. A refusal is a
// *LoginError.
func Login(ctx context.Context, client *http.Client, in LoginRequest) (string, error) {
	form := url.Values{"grant_type": {grantClientCredentials}, "client_id": {in.ClientID}}
	if payload, hasKey := strings.CutPrefix(in.ClientSecret, secretPrefix); hasKey {
		signed, err := signAssertion(payload, in)
		if err != nil {
			return "", err
		}
		form.Set("client_assertion_type", assertionTypeJWT)
		form.Set("client_assertion", signed)
	} else {
		form.Set("client_secret", in.ClientSecret)
	}

	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, in.URL+"/auth/v1/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("build the token request: %w", err)
	}
	rq.Header.Set("Content-Type", typeForm)
	var out struct {
		tokenAnswer
		oauthError
	}
	httpStatus, err := send(client, rq, &out)
	switch {
	case err != nil:
		return "", err
	case httpStatus != http.StatusOK:
		return "", &LoginError{Status: httpStatus, Code: out.Code}
	case out.AccessToken == "":
		return "", fmt.Errorf("the token endpoint answered without a token")
	}
	return out.AccessToken, nil
}

// signAssertion signs as C1's SDK does: two minutes ahead, valid from two
// minutes back.
func signAssertion(payload string, in LoginRequest) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return "", fmt.Errorf("the client secret is not base64url")
	}
	var key jose.JSONWebKey
	if key.UnmarshalJSON(raw) != nil {
		return "", fmt.Errorf("the client secret holds no JWK")
	}
	private, isEd25519 := key.Key.(ed25519.PrivateKey)
	if !isEd25519 {
		return "", fmt.Errorf("the client secret's key is not an Ed25519 private key")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, nil)
	if err != nil {
		return "", fmt.Errorf("prepare to sign the assertion: %w", err)
	}
	signed, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: in.ClientID, Subject: in.ClientID, Audience: jwt.Audience{in.Audience},
		Expiry: jwt.NewNumericDate(in.Now.Add(2 * time.Minute)), IssuedAt: jwt.NewNumericDate(in.Now),
		NotBefore: jwt.NewNumericDate(in.Now.Add(-2 * time.Minute)),
		ID:        base64.RawURLEncoding.EncodeToString(randomBytes(16)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign the assertion: %w", err)
	}
	return signed, nil
}

// UseToken makes an API call with a bearer; nil means that C1 took it.
func (t *Tenant) UseToken(ctx context.Context, bearer string) error {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL()+"/api/v1/auth/introspect", nil)
	if err != nil {
		return fmt.Errorf("build the API request: %w", err)
	}
	rq.Header.Set("Authorization", "Bearer "+bearer)
	httpStatus, err := send(t.client(), rq, &introspectAnswer{})
	if err == nil && httpStatus != http.StatusOK {
		return &LoginError{Status: httpStatus}
	}
	return err
}

// send returns the status, with the body read into out when it is JSON.
func send(client *http.Client, rq *http.Request, out any) (int, error) {
	rq.Header.Set("User-Agent", userAgent)
	response, err := client.Do(rq)
	if err != nil {
		return 0, fmt.Errorf("reach C1: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return 0, fmt.Errorf("read C1's answer: %w", err)
	}
	_ = json.Unmarshal(body, out) // a proxy's page leaves it empty
	return response.StatusCode, nil
}
