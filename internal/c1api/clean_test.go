// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestCleanKeepsOneSafeLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                                       "plain",
		"two\r\nlines\tand\x00\x1b[31m controls":      "two lines and[31m controls",
		"bad \xff UTF-8 \u202e and bidi":              "bad UTF-8 and bidi",
		"you sent s3cr3t!":                            "you sent [redacted]!",
		"got secret-token:conductorone.com:v1:abc ok": "got [redacted] ok",
		"SECRET-TOKEN:x ok":                           "[redacted] ok",
		"Authorization: Bearer abc.def":               "Authorization: [redacted]",
		"bearer\n abc":                                "[redacted]",
		"jwt eyJhbGciOiJFZERTQSJ9.e30.sig end":        "jwt [redacted] end",
		"secret-\x00token:abc":                        "[redacted]",
	} {
		require.Equal(t, want, clean(in, []string{"", "s3cr3t"}), "%q", in)
	}
	require.Equal(t, "you sent [redacted]", clean("you sent p%2Bl+in%3D", []string{"p+l in="}), "also as a form carries it")
	long := clean(strings.Repeat("é", 500), nil)
	require.Equal(t, 200, utf8.RuneCountInString(long))
	require.NotContains(t, clean(strings.Repeat("x ", 95)+"secret-token:abcdefgh", nil), "secret-token", "cut after cleaning, not before")
}

func TestOnlyC1sOwnErrorFormIsQuoted(t *testing.T) {
	t.Parallel()
	for body, fromC1 := range map[string]bool{
		`{"code":5,"message":"no such decoy-x","details":[]}`: true,
		`{"code":0,"message":"no such decoy-x"}`:              true,
		`{"code":"5","message":"no such decoy-x"}`:            false,
		`{"code":404,"message":"no such decoy-x"}`:            false, // a proxy's
		`{"code":17,"message":"no such decoy-x"}`:             false,
		`{"code":-1,"message":"no such decoy-x"}`:             false,
		`{"code":null,"message":"no such decoy-x"}`:           false,
		`{"code":5,"message":null}`:                           false,
		`{"message":"no such decoy-x"}`:                       false,
		`{"error":"no such decoy-x"}`:                         false,
		`[{"code":5,"message":"no such decoy-x"}]`:            false,
		`{"code":5,"message":"no such decoy-x"} trailing`:     false,
		`<html>no such decoy-x</html>`:                        false,
		"":                                                    false,
	} {
		f := &fakeC1{api: always(reply{status: 404, body: body})}
		c, _ := newClient(t, f)
		_, err := c.GetDecoy(t.Context(), "decoy-x")
		e := failedFor(t, err, ReasonNotFound)
		require.Equal(t, fromC1, e.FromC1, body)
		require.Equal(t, fromC1, strings.Contains(err.Error(), "no such"), body)
		require.Contains(t, e.Message, "early access", "decoys may not be there at all")
		require.Contains(t, e.Message, "Super Administrator")
		require.Contains(t, err.Error(), "get decoy: C1 answered 404 Not Found")
		if strings.Contains(body, ":5,") && fromC1 {
			require.Equal(t, 5, e.Code)
		}
	}
}

func TestErrorsAndLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	secret, _ := newSecret(t)
	key := strings.TrimPrefix(secret, "secret-token:conductorone.com:v1:")
	echo := fmt.Sprintf(`{"code":3,"message":"you sent %s, %s and opaque-access-token"}`, secret, key)
	for _, body := range []string{echo, "opaque-access-token " + secret, `{"credential":{"id":"x","clientSecret":"vended-secret"}}`} {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 409, 429, 500} {
			f := &fakeC1{token: always(tokenReply("opaque-access-token", 600)), api: always(reply{status: status, body: body})}
			c, logged := newClient(t, f, withKey(secret), withRetries(0))
			_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
			require.Error(t, err)
			for cause := err; cause != nil; cause = errors.Unwrap(cause) {
				for _, hidden := range []string{key, "opaque-access-token", "vended-secret"} {
					require.NotContains(t, fmt.Sprintf("%v %+v", cause, cause), hidden)
				}
			}
			log := logged.String()
			require.Contains(t, log, "rotate connector credential")
			require.Contains(t, log, fmt.Sprintf("status=%d", status))
			for _, hidden := range []string{key, "opaque-access-token", "vended-secret", "eyJ"} {
				require.NotContains(t, log, hidden)
			}
		}
	}
}

func TestErrorHelpers(t *testing.T) {
	t.Parallel()
	unknown := &Error{Op: "rotate decoy", Reason: ReasonUnknown, Message: "no answer"}
	wrapped := fmt.Errorf("outer: %w", unknown)
	require.Same(t, unknown, AsError(wrapped))
	require.True(t, IsReason(wrapped, ReasonUnknown))
	require.False(t, IsReason(errors.New("x"), ReasonUnknown))
	require.True(t, OutcomeUnknown(wrapped))
	require.True(t, OutcomeUnknown(errors.New("not ours")))
	require.False(t, OutcomeUnknown(nil))
	require.False(t, OutcomeUnknown(&Error{Reason: ReasonNotSent}))
	require.Equal(t, "rotate decoy: no answer", unknown.Error())
}
