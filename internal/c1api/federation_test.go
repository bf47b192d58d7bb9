// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testTrust = "trust-hydra-68836@acme.conductor.one/wfe"

// withFederation makes a client of a federation trust.
func withFederation(token func(context.Context) (string, error)) func(*Options) {
	if token == nil {
		token = func(context.Context) (string, error) { return "unused", nil }
	}
	return func(o *Options) { o.ClientID, o.ClientSecret, o.IdentityToken = testTrust, "", token }
}

// numbered makes identity tokens that differ from each other, in the form of JWTs.
func numbered() func(context.Context) (string, error) {
	n := 0
	return func(context.Context) (string, error) {
		n++
		return b64([]byte(`{"alg":"RS256"}`)) + "." + b64(fmt.Appendf(nil, `{"sub":"hidden-subject-%d"}`, n)) + ".c2ln", nil
	}
}

func TestIdentityTokenIsExchangedAsRFC8693Says(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"as the RFC says":      `{"access_token":"tok","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":60}`,
		"no issued_token_type": `{"access_token":"tok","token_type":"Bearer","expires_in":60}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{token: always(reply{body: answer})}
				c, _ := newClient(t, f, withFederation(numbered()))
				again := numbered()
				for n := range 3 {
					_, err := c.Introspect(t.Context())
					require.NoError(t, err)
					form, err := url.ParseQuery(f.forms[n])
					require.NoError(t, err)
					fresh, _ := again(t.Context())
					require.Equal(t, url.Values{
						"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
						"subject_token":      {fresh},
						"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
						"client_id":          {testTrust},
					}, form)
					time.Sleep(time.Minute)
				}
				require.Equal(t, "Bearer tok", f.requests[0].header.Get("Authorization"))
			})
		})
	}
}

func TestRefusedExchangeIsExplainedAndShowsNoIdentityToken(t *testing.T) {
	t.Parallel()
	for _, form := range []string{
		`{"error":"invalid_grant","error_description":"no trust for %s"}`,
		`{"code":16,"message":"no trust for %s"}`,
	} {
		for _, escape := range []func(string) string{func(s string) string { return s }, url.QueryEscape} {
			var subject string
			source := numbered()
			f := &fakeC1{token: func(_ int, r *http.Request) reply {
				_ = r.ParseForm()
				return reply{status: 400, body: fmt.Sprintf(form, escape(r.PostForm.Get("subject_token")))}
			}}
			c, logged := newClient(t, f, withFederation(func(ctx context.Context) (string, error) {
				var err error
				subject, err = source(ctx)
				return subject, err
			}))
			_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
			e := failedFor(t, err, ReasonIdentity)
			for _, part := range []string{"issuer", "audience (aud) contain acme.conductor.one", "10 minutes", "condition", "no trust for"} {
				require.Contains(t, e.Message, part)
			}
			require.NotContains(t, e.Message, "secret")
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", e), logged.String()} {
				require.NotContains(t, text, subject[:20])
			}
			require.Equal(t, 1, f.mints)
		}
	}
}

func TestWithoutAnIdentityTokenNothingIsSent(t *testing.T) {
	t.Parallel()
	secret, _ := newSecret(t)
	cause := errors.New("the identity provider is away")
	for says, source := range map[string]func(context.Context) (string, error){
		"the identity provider is away":  func(context.Context) (string, error) { return "", cause },
		"is empty":                       func(context.Context) (string, error) { return "", nil },
		"characters that no JWT has":     func(context.Context) (string, error) { return "hidden\n", nil },
		"client secret or a private key": func(context.Context) (string, error) { return secret, nil },
	} {
		f := &fakeC1{}
		c, _ := newClient(t, f, withFederation(source))
		_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, says)
		require.NotContains(t, e.Message, "hidden")
		require.NotContains(t, e.Message, secret)
		require.Zero(t, f.mints+f.asked)
		if says == cause.Error() {
			require.ErrorIs(t, err, cause)
		}
	}
}

func TestAskingForAnIdentityTokenIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{}
		c, _ := newClient(t, f, withFederation(func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}))
		start := time.Now()
		_, err := c.Introspect(t.Context())
		requireReason(t, err, ReasonNotSent)
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Zero(t, f.mints)
	})
}

func TestIdentityTokenIsForThisTenantAndInTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC)
	// token is a JWT with a signature that nobody checks.
	token := func(alg, claims string) string {
		return b64([]byte(`{"alg":"`+alg+`"}`)) + "." + b64([]byte(claims)) + ".c2ln"
	}
	for name, c := range map[string]struct{ token, says string }{
		"for this tenant":      {token("RS256", `{"aud":"acme.conductor.one","exp":1769871846}`), ""},
		"for it, and others":   {token("EdDSA", `{"aud":["a","acme.conductor.one"]}`), ""},
		"for another tenant":   {token("RS256", `{"aud":"hidden.conductor.one"}`), "is not meant for this tenant: its aud does not contain acme.conductor.one"},
		"for nobody":           {token("RS256", `{"sub":"hidden"}`), "is not meant for this tenant: its aud does not contain acme.conductor.one"},
		"expired":              {token("RS256", `{"aud":"acme.conductor.one","exp":1769871845}`), "expired at 2026-01-31T15:04:05Z, and nobody has replaced it since"},
		"signed with a secret": {token("HS256", `{"aud":"acme.conductor.one"}`), "is not a signed JWT"},
		"no JWT":               {"hidden", "is not a signed JWT"},
		"no claims":            {token("RS256", `"hidden"`), "is a JWT whose claims cannot be read"},
	} {
		err := IdentityTokenFits(c.token, "https://acme.conductor.one:8443", now)
		if c.says == "" {
			require.NoError(t, err, name)
		} else {
			require.EqualError(t, err, c.says, name)
		}
	}
}
