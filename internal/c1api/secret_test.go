// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckClientSecretTakesBothForms(t *testing.T) {
	t.Parallel()
	signing, _ := newSecret(t)
	for _, secret := range []string{signing, testPassword, "with inner space", "ünïcode"} {
		require.NoError(t, CheckClientSecret(secret))
	}
}

func TestCheckClientSecretSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good, public := newSecret(t)
	_, otherPublic := newSecret(t)
	key := strings.TrimPrefix(good, "secret-token:conductorone.com:v1:")
	d := b64([]byte(strings.Repeat("d", 32)))
	for name, c := range map[string]struct{ secret, want string }{
		"empty":             {"", "empty"},
		"too long":          {strings.Repeat("x", 16<<10+1), "longer"},
		"control character": {good + "\n", "control character"},
		"spaces":            {" " + testPassword, "space"},
		"not text":          {"abc\xff", "UTF-8"},
		"another version":   {"secret-token:conductorone.com:v2:" + key, "version"},
		"no key":            {"secret-token:conductorone.com:v1:", "not complete"},
		"no version":        {"secret-token:conductorone.com", "not complete"},
		"padded":            {good + "=", "padding"},
		"not base64url":     {"secret-token:conductorone.com:v1:%%%", "base64url"},
		"not JSON":          {"secret-token:conductorone.com:v1:" + b64([]byte("not json")), "JWK"},
		"not a JWK":         {secretOf(t, map[string]any{"a": 1}), "JWK"},
		"JSON array":        {secretOf(t, []int{1}), "JWK"},
		"RSA":               {secretOf(t, map[string]any{"kty": "RSA", "d": d}), "Ed25519"},
		"X25519":            {secretOf(t, map[string]any{"kty": "OKP", "crv": "X25519", "x": d, "d": d}), "Ed25519"},
		"public key":        {secretOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}), "public key only"},
		"null private key":  {secretOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "d": nil}), "public key only"},
		"short private key": {secretOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "d": "c2hvcnQ"}), "(d) is not 32"},
		"no public key":     {secretOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "d": d}), "(x) is not 32"},
		"keys do not match": {secretOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(otherPublic), "d": d}), "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckClientSecret(c.secret)
			require.ErrorContains(t, err, c.want)
			if len(c.secret) > 40 {
				require.NotContains(t, err.Error(), c.secret[33:])
			}
			_, err = New(Options{URL: "https://acme.conductor.one", ClientID: testClientID, ClientSecret: c.secret})
			require.ErrorContains(t, err, c.want, "New must agree")
		})
	}
}

func FuzzCheckClientSecret(f *testing.F) {
	good, _ := newSecret(f)
	for _, seed := range []string{"", "plain", good, good[:60], "secret-token:", "secret-token:conductorone.com:v1:e30"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		err := CheckClientSecret(secret)
		if err == nil {
			require.NotEmpty(t, secret)
			return
		}
		if prefix := "secret-token:conductorone.com:v1:"; len(secret) > 12 && !strings.HasPrefix(prefix, secret) {
			require.NotContains(t, err.Error(), secret)
		}
	})
}
