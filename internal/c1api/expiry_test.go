// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

func TestEndOfAnAccessTokenIsReadFromAJWT(t *testing.T) {
	t.Parallel()
	end := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, nil)
	require.NoError(t, err)
	signed, err := jwt.Signed(signer).Claims(jwt.Claims{Expiry: jwt.NewNumericDate(end)}).Serialize()
	require.NoError(t, err)
	unsigned := func(header, claims string) string {
		return b64([]byte(header)) + "." + b64([]byte(claims)) + "." + b64([]byte("signature"))
	}
	for name, token := range map[string]string{
		"HS256":                    signed,
		"an algorithm of tomorrow": unsigned(`{"alg":"XX999","typ":"at+jwt"}`, `{"exp":1927857906,"sub":"x"}`),
		"a fraction of a second":   unsigned(`{"alg":"ES256"}`, `{"exp":1927857906.75}`),
	} {
		found, ok := TokenExpiry(token)
		require.True(t, ok, name)
		require.Equal(t, end, found, name)
	}
	for name, token := range map[string]string{
		"nothing":      "",
		"opaque":       "static-bearer",
		"three parts":  "a.b.c",
		"no exp":       unsigned(`{"alg":"ES256"}`, `{"sub":"x"}`),
		"exp as text":  unsigned(`{"alg":"ES256"}`, `{"exp":"tomorrow"}`),
		"zero":         unsigned(`{"alg":"ES256"}`, `{"exp":0}`),
		"before 1970":  unsigned(`{"alg":"ES256"}`, `{"exp":-5}`),
		"year 30000":   unsigned(`{"alg":"ES256"}`, `{"exp":900000000000}`),
		"out of range": unsigned(`{"alg":"ES256"}`, `{"exp":1e300}`),
		"no object":    unsigned(`{"alg":"ES256"}`, `[1]`),
		"too long":     unsigned(`{"alg":"ES256"}`, `{"exp":1927857906,"x":"`+strings.Repeat("x", maxSecretLength)+`"}`),
	} {
		found, ok := TokenExpiry(token)
		require.False(t, ok, "%s: %s", name, found)
		require.Zero(t, found)
	}
}
