// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// refusals are bodies of answers that refuse something, or seem to.
var refusals = []string{
	"", "{}", "null", "<html>502</html>",
	`{"code":7,"message":"permission denied","details":[]}`, `{"code":5,"message":"no such connector"}`,
	`{"error":"invalid_client","error_description":"unknown client"}`, `{"error":"use_dpop_nonce"}`,
	`{"code":16,"message":"` + testPassword + `"}`, `{"error":"` + testPassword + `"}`,
	`{"code":1e99,"message":"x"}`, "{\"code\":3,\"message\":\"a\u202eb\\u0000\\n\"}",
}

// requireShowable says that an error can be shown to anybody, in a terminal.
func requireShowable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	said := err.Error()
	require.NotContains(t, said, testPassword)
	require.Less(t, utf8.RuneCountInString(said), 1000)
	require.True(t, utf8.ValidString(said))
	require.False(t, strings.ContainsAny(said, "\n\r\x00\u202e\u200b"), "%q", said)
	require.NotNil(t, AsError(err), "%v", err)
}

// Whatever C1's API answers with whatever status, the error is bounded and tells no
// secret, and a rotation whose answer could mean that C1 has rotated is of unknown
// outcome.
func FuzzRefusal(f *testing.F) {
	for i, body := range refusals {
		f.Add(uint16(400+i*10), []byte(body))
	}
	f.Fuzz(func(t *testing.T, status uint16, body []byte) {
		fake := &fakeC1{api: always(reply{status: int(status%500) + 100, body: string(body)})}
		c, logged := newClient(t, fake, withRetries(0))
		_, err := c.RotateConnectorCredential(context.Background(), "app", "conn")
		requireShowable(t, err)
		require.NotContains(t, logged.String(), testPassword)
		if err != nil && int(status%500)+100 >= 500 && AsError(err).Reason != ReasonUnavailable {
			require.True(t, OutcomeUnknown(err), "%d: %v", int(status%500)+100, err)
		}
	})
}

// The same of the token endpoint, before which nothing else is asked.
func FuzzTokenRefusal(f *testing.F) {
	for i, body := range refusals {
		f.Add(uint16(400+i*10), []byte(body))
	}
	f.Fuzz(func(t *testing.T, status uint16, body []byte) {
		fake := &fakeC1{token: func(int, *http.Request) reply { return reply{status: int(status%500) + 100, body: string(body)} }}
		c, logged := newClient(t, fake, withRetries(0))
		_, err := c.RotateConnectorCredential(context.Background(), "app", "conn")
		requireShowable(t, err)
		require.NotContains(t, logged.String(), testPassword)
		if _, requests := fake.counts(); requests == 0 {
			require.Error(t, err)
			require.False(t, OutcomeUnknown(err), "C1 was not asked to rotate: %v", err)
		}
	})
}
