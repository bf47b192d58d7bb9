// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStaticBearerAsksForNoToken(t *testing.T) {
	t.Parallel()
	f := &fakeC1{}
	c, _ := newClient(t, f, withBearer("static-bearer"))
	_, err := c.Introspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, "Bearer static-bearer", f.requests[0].header.Get("Authorization"))
	require.Zero(t, f.mints)
	require.Zero(t, c.Health().TokenExpiresAt)
}

func TestThousandFirstCallersCauseOneMint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{token: func(int, *http.Request) reply {
			time.Sleep(time.Second) // in the bubble: until every caller waits
			return tokenReply("tok", 600)
		}}
		c, _ := newClient(t, f)
		var wg sync.WaitGroup
		errs := make(chan error, 1000)
		for range 1000 {
			wg.Go(func() {
				_, err := c.Introspect(t.Context())
				errs <- err
			})
		}
		wg.Wait()
		for range 1000 {
			require.NoError(t, <-errs)
		}
		mints, requests := f.counts()
		require.Equal(t, 1, mints)
		require.Equal(t, 1000, requests)
		require.EqualValues(t, 1, c.Health().TokenMints)
	})
}

func TestLateFlightFindsTheTokenOfTheOneBefore(t *testing.T) {
	t.Parallel()
	f := &fakeC1{}
	c, _ := newClient(t, f)
	first := c.tokens.renew()
	late := c.tokens.renew()
	require.NotNil(t, first.token)
	require.Same(t, first.token, late.token)
	require.Equal(t, 1, f.mints)
}

func TestCallerGivesUpWaitingForTokenAndTheMintGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{token: func(int, *http.Request) reply {
			time.Sleep(5 * time.Second)
			return tokenReply("tok", 600)
		}}
		c, _ := newClient(t, f)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.RotateConnectorCredential(ctx, "app", "conn")
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, "access token")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		_, err = c.Introspect(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, f.mints, "the flight that the first caller began served the second")
	})
}

func TestMintIsBoundedByRequestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{token: func(_ int, r *http.Request) reply {
			<-r.Context().Done()
			return reply{lost: r.Context().Err()}
		}}
		c, _ := newClient(t, f, withRetries(0))
		start := time.Now()
		_, err := c.Introspect(t.Context())
		e := failedFor(t, err, ReasonNotSent)
		require.Contains(t, e.Message, "no answer in time")
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestTokenIsRenewedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		expiresIn string
		after     time.Duration // still the first token
		until     time.Duration // a new one by then
	}{
		"ten minutes":   {"600", 539 * time.Second, 541 * time.Second},
		"short":         {"20", 17 * time.Second, 19 * time.Second},
		"an hour":       {"3600", 3539 * time.Second, 3541 * time.Second},
		"absurdly long": {"99999999999", 3539 * time.Second, 3541 * time.Second},
		"zero":          {"0", 53 * time.Second, 55 * time.Second},
		"negative":      {"-5", 53 * time.Second, 55 * time.Second},
		"null":          {"null", 53 * time.Second, 55 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{token: always(reply{body: `{"access_token":"tok","token_type":"bearer","expires_in":` + c.expiresIn + `}`})}
				client, _ := newClient(t, f)
				start := time.Now()
				call := func() {
					_, err := client.Introspect(t.Context())
					require.NoError(t, err)
				}
				call()
				time.Sleep(c.after)
				call()
				require.Equal(t, 1, f.mints)
				time.Sleep(c.until - c.after)
				call()
				require.Equal(t, 2, f.mints)
				require.True(t, client.Health().TokenExpiresAt.After(start))
			})
		})
	}
}

// tokenErrors are the forms in which a token endpoint may say no: OAuth's and
// C1's own are told, anything else is not.
var tokenErrors = map[string]refusedToken{
	"oauth form": {
		reply{status: 401, body: `{"error":"invalid_client","error_description":"no such client, you sent ` + testPassword + `"}`},
		ReasonIdentity, "(invalid_client (no such client, you sent [redacted]))",
	},
	"oauth form as text": {
		reply{status: 400, header: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, body: `{"error":"invalid_client","error_description":"no such client"}`},
		ReasonIdentity, "(invalid_client (no such client))",
	},
	"oauth form, odd": {
		reply{status: 401, body: `{"error":"invalid_client","error_description":{"a":"hidden-upstream-body"}}`},
		ReasonIdentity, "(invalid_client)",
	},
	"oauth form, hostile": {
		reply{status: 400, body: `{"error":"invalid\nclient\u202e","error_description":"you sent secret%2dtoken%3Aconductorone.com ` + strings.Repeat("x", 5000) + `"}`},
		ReasonIdentity, "(invalid client ([redacted]))",
	},
	"C1 form, with details": {
		reply{status: 401, body: `{"code":16,"message":"bad\nassertion","details":[{"@type":"x"}],"error":"hidden-upstream-body"}`},
		ReasonIdentity, "(bad assertion)",
	},
	"C1 form with 200":        {reply{body: `{"code":16,"message":"hidden-upstream-body","details":[]}`}, ReasonNotSent, "not a token answer"},
	"an error beside a token": {reply{body: `{"error":"invalid_grant","access_token":"tok"}`}, ReasonIdentity, "invalid_grant"},
	"a proxy's error":         {reply{status: 403, body: `{"code":403,"message":"hidden-upstream-body"}`}, ReasonIdentity, "refused the client ID or its secret"},
	"501":                     {reply{status: 501}, ReasonNotSent, "no access token"},
	"oauth form with 200":     {reply{body: `{"error":"invalid_grant"}`}, ReasonIdentity, "invalid_grant"},
	"C1 form":                 {reply{status: 400, body: `{"code":3,"message":"bad assertion"}`}, ReasonIdentity, "bad assertion"},
}

// refusedToken is an answer to a token request and the error that it must
// become.
type refusedToken struct {
	reply reply
	want  Reason
	says  string
}

func TestRefusedTokenRequests(t *testing.T) {
	t.Parallel()
	const secretBody = "<html>hidden-upstream-body</html>"
	all := map[string]refusedToken{
		"bare 403":           {reply{status: 403, body: secretBody}, ReasonIdentity, "refused the client ID or its secret"},
		"no tenant":          {reply{status: 404, body: secretBody}, ReasonNotSent, "is https://acme.conductor.one a C1 tenant?"},
		"redirect":           {reply{status: 302, header: map[string]string{"Location": "https://evil.example/"}}, ReasonNotSent, "redirect"},
		"server error":       {reply{status: 500, body: secretBody}, ReasonNotSent, "no access token"},
		"unavailable":        {reply{status: 503, header: map[string]string{"Retry-After": "0"}}, ReasonUnavailable, "no access token"},
		"rate limited":       {reply{status: 429}, ReasonRateLimited, "no access token"},
		"HTML with 200":      {reply{body: secretBody}, ReasonNotSent, "not a token answer"},
		"empty token":        {reply{body: `{"access_token":"","expires_in":600}`}, ReasonNotSent, "not a token answer"},
		"endless answer":     {reply{body: `{"access_token":"` + strings.Repeat("x", 2<<20) + `"}`}, ReasonNotSent, "not a token answer"},
		"token with newline": {reply{body: `{"access_token":"a\nb","token_type":"Bearer","expires_in":600}`}, ReasonIdentity, "header"},
		"DPoP token":         {reply{body: `{"access_token":"tok","token_type":"DPoP","expires_in":600}`}, ReasonIdentity, "no proof of one was sent"},
		"odd token":          {reply{body: `{"access_token":"tok","token_type":"N_A","expires_in":600}`}, ReasonIdentity, "neither Bearer nor DPoP"},
		"connection refused": {reply{unsent: errors.New("dial " + secretBody)}, ReasonNotSent, "no access token"},
	}
	maps.Copy(all, tokenErrors)
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{token: always(c.reply)}
			client, logged := newClient(t, f, withRetries(0))
			_, err := client.RotateConnectorCredential(t.Context(), "app", "conn")
			e := failedFor(t, err, c.want)
			require.Contains(t, e.Message, c.says)
			require.Equal(t, "rotate connector credential", e.Op)
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", e), logged.String()} {
				require.NotContains(t, text, testPassword)
				require.NotContains(t, text, "hidden-upstream-body")
			}
			require.Zero(t, f.asked, "no API request without a token")
			require.Equal(t, 1, f.mints)
		})
	}
}

func TestFailedMintIsRetriedOnlyWhenThatCanHelp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first reply
		mints int
	}{
		"server error": {reply{status: 502}, 2},
		"no network":   {reply{unsent: errors.New("no route")}, 2},
		"rate limited": {reply{status: 429, header: map[string]string{"Retry-After": "2"}}, 2},
		"refused":      {reply{status: 401}, 1},
		"501":          {reply{status: 501}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeC1{token: inTurn(c.first, tokenReply("tok", 600)), api: always(reply{body: goodCredential})}
				client, _ := newClient(t, f)
				_, err := client.RotateConnectorCredential(t.Context(), "app", "conn")
				require.Equal(t, c.mints == 2, err == nil)
				require.Equal(t, c.mints, f.mints)
			})
		})
	}
}

func TestOneReauthenticationAfter401(t *testing.T) {
	t.Parallel()
	unauthorized := reply{status: 401, body: `{"code":16,"message":"token t2 has expired"}`}
	t.Run("heals a rotate", func(t *testing.T) {
		t.Parallel()
		f := &fakeC1{api: inTurn(unauthorized, reply{body: goodCredential})}
		c, _ := newClient(t, f, withRetries(0))
		cred, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		require.NoError(t, err)
		require.Equal(t, "s3cr3t-value", cred.ClientSecret)
		require.Equal(t, 2, f.mints)
		require.Equal(t, "Bearer t1", f.requests[0].header.Get("Authorization"))
		require.Equal(t, "Bearer t2", f.requests[1].header.Get("Authorization"))
	})
	t.Run("never loops", func(t *testing.T) {
		t.Parallel()
		f := &fakeC1{api: always(unauthorized)}
		c, _ := newClient(t, f)
		_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		e := failedFor(t, err, ReasonIdentity)
		require.True(t, e.FromC1)
		require.Equal(t, 16, e.Code)
		require.Equal(t, "token [redacted] has expired (even with a new access token)", e.Message)
		require.Len(t, f.requests, 2)
		require.Equal(t, 2, f.mints)
	})
	t.Run("once per call, also across retries", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &fakeC1{api: inTurn(unauthorized, reply{status: 429}, unauthorized)}
			c, _ := newClient(t, f)
			_, err := c.Introspect(t.Context())
			requireReason(t, err, ReasonIdentity)
			require.Len(t, f.requests, 3)
			require.Equal(t, 2, f.mints)
		})
	})
	t.Run("not with a static bearer", func(t *testing.T) {
		t.Parallel()
		f := &fakeC1{api: always(reply{status: 401})}
		c, _ := newClient(t, f, withBearer("static-bearer"))
		_, err := c.Introspect(t.Context())
		e := failedFor(t, err, ReasonIdentity)
		require.Contains(t, e.Message, "configured access token")
		require.Len(t, f.requests, 1)
	})
	t.Run("drops no newer token", func(t *testing.T) {
		t.Parallel()
		c, _ := newClient(t, &fakeC1{})
		old, failed := c.tokens.get(t.Context())
		require.Nil(t, failed)
		c.tokens.drop(old)
		newer, failed := c.tokens.get(t.Context())
		require.Nil(t, failed)
		c.tokens.drop(old)
		require.Same(t, newer, c.tokens.usable())
	})
}

func TestManyCallersWithOneExpiredTokenShareTheNewOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeC1{api: func(_ int, r *http.Request) reply {
			time.Sleep(time.Second)
			if r.Header.Get("Authorization") == "Bearer t1" {
				return reply{status: 401}
			}
			return reply{body: "{}"}
		}}
		c, _ := newClient(t, f)
		var wg sync.WaitGroup
		errs := make(chan error, 100)
		for range 100 {
			wg.Go(func() {
				_, err := c.Introspect(t.Context())
				errs <- err
			})
		}
		wg.Wait()
		for range 100 {
			require.NoError(t, <-errs)
		}
		require.Equal(t, 2, f.mints)
	})
}
