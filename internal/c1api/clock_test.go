// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

// strictC1 refuses assertions that are not dated by its own clock.
func strictC1(t *testing.T, skew time.Duration) *fakeC1 {
	t.Helper()
	f := &fakeC1{skew: skew}
	f.token = func(_ int, r *http.Request) reply {
		if err := r.ParseForm(); err != nil {
			return reply{status: 400}
		}
		parsed, err := jwt.ParseSigned(r.PostForm.Get("client_assertion"), []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			return reply{status: 400}
		}
		var claims jwt.Claims
		if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
			return reply{status: 400}
		}
		if claims.ValidateWithLeeway(jwt.Expected{Time: time.Now().Add(skew)}, 0) != nil {
			return reply{status: 401, body: `{"error":"invalid_client"}`}
		}
		return tokenReply("tok", 600)
	}
	return f
}

func TestClockSkewIsLearnedAndCompensated(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{432 * time.Second, -432 * time.Second, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			secret, _ := newSecret(t)
			f := strictC1(t, skew)
			c, _ := newClient(t, f, withKey(secret), withRetries(0))
			_, err := c.Introspect(t.Context())
			require.NoError(t, err)
			require.Equal(t, 2, f.mints, "one refused by the clock, one with C1's time")
			require.InDelta(t, skew.Seconds(), c.Health().ClockOffset.Seconds(), 1)

			time.Sleep(time.Hour)
			_, err = c.Introspect(t.Context())
			require.NoError(t, err)
			require.Equal(t, 3, f.mints, "from then on the offset is known")
		})
	}
}

func TestRefusedAssertionNamesTheSkew(t *testing.T) {
	t.Parallel()
	for skew, says := range map[time.Duration]string{
		432 * time.Second:  "this machine's clock is 7m1",
		-432 * time.Second: "this machine's clock is 7m1",
	} {
		synctest.Test(t, func(t *testing.T) {
			secret, _ := newSecret(t)
			f := &fakeC1{skew: skew, token: always(reply{status: 401})}
			c, _ := newClient(t, f, withKey(secret))
			_, err := c.Introspect(t.Context())
			e := failedFor(t, err, ReasonIdentity)
			require.Contains(t, e.Message, says)
			require.Contains(t, e.Message, map[bool]string{true: "behind C1's", false: "ahead of C1's"}[skew > 0])
			require.Equal(t, 2, f.mints)
		})
	}
}

func TestRefusalWithAGoodClockIsNotBlamedOnIt(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{0, 3 * time.Second, -20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			secret, _ := newSecret(t)
			f := &fakeC1{skew: skew, token: always(reply{status: 401})}
			c, _ := newClient(t, f, withKey(secret))
			_, err := c.Introspect(t.Context())
			e := failedFor(t, err, ReasonIdentity)
			require.NotContains(t, e.Message, "clock")
			require.Equal(t, 1, f.mints)
		})
	}
}

func TestPlainSecretNeedsNoClock(t *testing.T) {
	t.Parallel()
	f := &fakeC1{skew: time.Hour, token: always(reply{status: 401})}
	c, _ := newClient(t, f)
	_, err := c.Introspect(t.Context())
	e := failedFor(t, err, ReasonIdentity)
	require.NotContains(t, e.Message, "clock")
	require.Equal(t, 1, f.mints)
}

func TestSmallOffsetsAndBadDatesAreNoSkew(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := &clock{now: func() time.Time { return now }}
	for date, want := range map[string]time.Duration{
		now.Add(4 * time.Second).Format(http.TimeFormat):  0,
		now.Add(-4 * time.Second).Format(http.TimeFormat): 0,
		now.Add(time.Minute).Format(http.TimeFormat):      time.Minute + time.Second/2,
	} {
		c.learn(http.Header{"Date": {date}})
		require.Equal(t, want, c.offset())
		require.Equal(t, now.Add(want), c.c1Now())
	}
	before := c.offset()
	for _, date := range []string{"", "yesterday"} {
		c.learn(http.Header{"Date": {date}})
		require.Equal(t, before, c.offset())
	}
}

func TestInjectedClockDatesTheAssertion(t *testing.T) {
	t.Parallel()
	secret, public := newSecret(t)
	f := &fakeC1{}
	now := time.Now().Add(3 * time.Second).Truncate(time.Second)
	c, _ := newClient(t, f, withKey(secret), withClock(func() time.Time { return now }))
	_, err := c.Introspect(t.Context())
	require.NoError(t, err)
	form, err := url.ParseQuery(f.forms[0])
	require.NoError(t, err)
	parsed, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.EdDSA})
	require.NoError(t, err)
	var claims jwt.Claims
	require.NoError(t, parsed.Claims(public, &claims))
	require.Equal(t, now.Unix(), claims.IssuedAt.Time().Unix())
}
