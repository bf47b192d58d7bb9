// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// The emulator's own client logs in exactly as C1's clients do.
func TestLoginSendsWhatC1sClientsSend(t *testing.T) {
	t.Parallel()
	var now clock
	for form, want := range map[c1test.LoginForm]struct {
		nonce bool
		aud   any
	}{
		c1test.LoginSDK:       {true, []any{"acme.c1.test"}},
		c1test.LoginConnector: {true, "acme.c1.test"},
		c1test.LoginDPoP:      {false, []any{"acme.c1.test"}},
	} {
		e := c1test.StartT(t, c1test.Options{Now: now.now, Offline: true})
		me := e.Default().Identity()
		_, err := e.Default().LoginAs(t.Context(), form, me.ClientID, me.ClientSecret)
		require.NoError(t, err)
		var assertion []string
		for _, s := range e.Secrets() {
			if parts := strings.Split(s, "."); len(parts) == 3 {
				assertion = parts
			}
		}
		require.Len(t, assertion, 3)
		var header, claims map[string]any
		for i, out := range []*map[string]any{&header, &claims} {
			raw, err := base64.RawURLEncoding.DecodeString(assertion[i])
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(raw, out))
		}
		nonce, hasNonce := header["nonce"].(string)
		require.Equal(t, want.nonce, hasNonce, form)
		if hasNonce {
			raw, err := base64.RawURLEncoding.DecodeString(nonce)
			require.NoError(t, err)
			require.Len(t, raw, 16)
			delete(header, "nonce")
		}
		require.Equal(t, map[string]any{"alg": "EdDSA"}, header, form)
		require.Equal(t, map[string]any{
			"iss": me.ClientID, "sub": me.ClientID, "aud": want.aud, "iat": float64(clockStart.Unix()),
			"nbf": float64(clockStart.Unix() - 120), "exp": float64(clockStart.Unix() + 120),
		}, claims, form)
	}
}

func TestLoginSaysWhatIsWrongWithASecretWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	payload := strings.TrimPrefix(f.Identity().ClientSecret, "secret-token:conductorone.com:v1:")
	for secret, payload := range map[string]string{
		"secret-token:conductorone.com:v1:%%%":                              "%%%",
		"secret-token:conductorone.com:v1:bm8ga2V5":                         "bm8ga2V5",
		"secret-token:conductorone.com:v1:eyJrdHkiOiJvY3QiLCJrIjoiYWFhYSJ9": "eyJrdHkiOiJvY3QiLCJrIjoiYWFhYSJ9",
		"secret-token:conductorone.com:v2:" + payload:                       payload,
		"Secret-Token:" + payload:                                           payload,
	} {
		err := f.Login(t.Context(), f.Identity().ClientID, secret)
		require.Error(t, err)
		require.NotContains(t, fmt.Sprint(err), payload)
	}
	require.Zero(t, f.Requests(""), "nothing was sent")
	require.NoError(t, f.Login(t.Context(), f.Identity().ClientID, "any:thing:v1:"+payload), "C1's clients look at no more")
}
