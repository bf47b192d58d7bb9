// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
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

// A signing secret is judged as C1's own clients judge it.
func TestSigningSecretsOfAnyIssuerAreTaken(t *testing.T) {
	t.Parallel()
	good, _ := newSecret(t)
	key := good[strings.LastIndex(good, ":")+1:]
	for _, secret := range []string{good, "secret-token:example.com:v1:" + key, "secret-token::v1:" + key} {
		require.NoError(t, CheckClientSecret(secret))
		require.True(t, IsSigningSecret(secret))
	}
	for _, plain := range []string{testPassword, "", good + "x=", "x" + good, "secret-token:a:b:v1:" + key} {
		require.False(t, IsSigningSecret(plain))
	}
}

// disguises are spellings in which a secret reaches a config.
func disguises(secret string) map[string]string {
	fullWidth := strings.Map(func(r rune) rune {
		if r > ' ' && r <= '~' {
			return r + 0xfee0
		}
		return r
	}, secret[:40]) + secret[40:]
	all := map[string]string{
		"byte-order mark":        "\ufeff" + secret,
		"zero-width space":       "secret-\u200btoken" + secret[12:],
		"zero-width in the key":  secret[:60] + "\u200d" + secret[60:],
		"tag character":          "\U000e0073" + secret,
		"variation selector":     "secret\ufe0f-token" + secret[12:],
		"double quotes":          `"` + secret + `"`,
		"single quotes":          `'` + secret + `'`,
		"curly quotes":           "“" + secret + "”",
		"one quote":              `"` + secret,
		"NAME=":                  "BATON_CLIENT_SECRET=" + secret,
		"NAME='":                 "BATON_CLIENT_SECRET='" + secret + "'",
		"export NAME=":           "export BATON_CLIENT_SECRET=" + secret,
		"NAME: ":                 "client_secret: " + secret,
		"JSON":                   `{"client_secret":"` + secret + `"}`,
		"capital letters":        "Secret-Token" + secret[12:],
		"upper case":             strings.ToUpper(secret),
		"percent-encoded colons": strings.ReplaceAll(secret, ":", "%3A"),
		"encoded twice":          strings.ReplaceAll(secret, ":", "%253a"),
		"all percent-encoded":    percentEncoded(secret),
		"JSON escapes":           strings.ReplaceAll(secret, ":", `\u003a`),
		"hex escapes":            strings.ReplaceAll(secret, ":", `\x3a`),
		"HTML entities":          strings.ReplaceAll(secret, ":", "&#58;"),
		"quoted-printable":       strings.ReplaceAll(secret, ":", "=3A"),
		"full-width":             fullWidth,
		"full-width colons":      strings.ReplaceAll(secret, ":", "："),
		"another hyphen":         strings.Replace(secret, "-", "\u2011", 1),
		"a dash":                 strings.Replace(secret, "-", "–", 1),
		"an underscore":          strings.Replace(secret, "-", "_", 1),
		"a space after colons":   strings.ReplaceAll(secret, ":", ": "),
		"a space before colons":  strings.ReplaceAll(secret, ":", " :"),
		"spaces within":          "secret - token" + secret[12:],
		"no-break space":         "secret-token\u00a0" + secret[12:],
		"base64":                 base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 in a name":       "SECRET=" + base64.StdEncoding.EncodeToString([]byte(secret+"\n")),
		"base64 twice":           b64([]byte(b64([]byte(secret)))),
		"two of them":            "x " + secret + " " + secret,
		"an x before it":         "x" + secret,
	}
	maps.Copy(all, bareKeys(secret))
	return all
}

// bareKeys are what somebody may have cut out of a secret.
func bareKeys(secret string) map[string]string {
	key := secret[strings.LastIndex(secret, ":")+1:]
	jwk, _ := base64.RawURLEncoding.DecodeString(key)
	return map[string]string{
		"the key alone":           key,
		"the key with its v1":     "v1:" + key,
		"the key without scheme":  "conductorone.com:v1:" + key,
		"the key with padding":    key + "==",
		"the key, end cut":        key[:len(key)-40],
		"the key, start cut":      key[3:],
		"the key after a letter":  "k" + key,
		"the key in other base64": strings.NewReplacer("-", "+", "_", "/").Replace(key),
		"the JWK":                 string(jwk),
		"the JWK, quoted":         strconv.Quote(string(jwk)),
		"the JWK of Python":       jwkInPython(jwk),
		"the JWK, end cut":        string(jwk[:len(jwk)-5]),
		"the JWK, start cut":      string(jwk[2:]),
		"PEM on one line":         "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2VwBCIEIA== -----END PRIVATE KEY-----",
	}
}

func jwkInPython(jwk []byte) string {
	return strings.NewReplacer(`"`, `'`, `:`, `: `, `,`, `, `).Replace(string(jwk))
}

func percentEncoded(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

func TestADisguisedSecretIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	secret, _ := newSecretWith(t, map[string]any{"alg": "~~~~???~~???"}) // with - and _ in its base64url
	require.Contains(t, secret[len(secretTokenScheme):], "_")
	for name, disguised := range disguises(secret) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckClientSecret(disguised)
			require.Error(t, err)
			require.False(t, IsSigningSecret(disguised))
			requireNoPart(t, err.Error(), secret)

			f := &fakeC1{}
			_, err = New(Options{URL: "https://acme.conductor.one", ClientID: testClientID, ClientSecret: disguised, Transport: f})
			require.Error(t, err)
			_, err = New(Options{URL: "https://acme.conductor.one", AccessToken: disguised, Transport: f})
			require.Error(t, err)
			requireNoPart(t, err.Error(), secret)
			require.Zero(t, f.asked+f.mints)

			for _, text := range []string{disguised, "you sent " + disguised + ", which is wrong", "no: " + disguised} {
				requireNoPart(t, clean(text, nil), secret)
			}
		})
	}
}

// What is left of a secret that somebody cut short need not hold a key.
func TestTheSchemeAloneGivesASecretAway(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"secret-token:x", "SECRET-TOKEN:x", "\ufeffsecret-token:x", "se\u200bcret-token:x", "sec\u3164ret-token:x", `"secret-token":x`,
		"secret–token:x", "secret\u2212token:x", "secret_token:x", "secrettoken:x", "secret token : x", "ｓｅｃｒｅｔ－ｔｏｋｅｎ：x", "secret-token\ua789x",
		"secret-token%3Ax", "secret-token%253Ax", "secret-token%25253Ax", "secret%2Dtoken:x", `secret-token\u003ax`, `secret\x2dtoken:x`,
		"secret-token&#58;x", "secret-token&amp;colon;x", "secret-token=3Ax", "NAME=secret-token:x", "x secret-token:",
		b64([]byte("secret-token:conductorone.com:v1:abcdef")), b64([]byte(b64([]byte("secret-token:conductorone.com:v1:abcdef")))),
	} {
		require.Equal(t, secretToken, findSecret(text), text)
		require.Error(t, CheckClientSecret(text), text)
	}
	for _, text := range []string{"", "secret", "token:", "secret-token", "a secret and a token", "secretary-token:x", "secret-tokens:x"} {
		require.Equal(t, nothingSecret, findSecret(text), text)
	}
}

// requireNoPart checks that a text repeats no 12 characters of a secret's key in
// any of the spellings above.
func requireNoPart(t *testing.T, text, secret string) {
	t.Helper()
	key := secret[strings.LastIndex(secret, ":")+1:]
	jwk, err := base64.RawURLEncoding.DecodeString(key)
	require.NoError(t, err)
	for _, spelling := range []string{
		key, strings.ToUpper(key), percentEncoded(key), string(jwk), jwkInPython(jwk), strconv.Quote(string(jwk)),
		base64.StdEncoding.EncodeToString([]byte(secret)), b64([]byte(b64([]byte(secret)))),
	} {
		for i := 0; i+12 <= len(spelling); i++ {
			require.False(t, strings.Contains(text, spelling[i:i+12]), "a part of the secret is in %q", text)
		}
	}
}

func TestAnErrorSaysHowASecretIsMisspelled(t *testing.T) {
	t.Parallel()
	secret, _ := newSecret(t)
	for name, says := range map[string]string{
		"byte-order mark":        "invisible character",
		"double quotes":          "quotes",
		"NAME=":                  "in front of it",
		"percent-encoded colons": "encoded or spelled",
		"capital letters":        "encoded or spelled",
		"the key alone":          "private key",
		"the JWK":                "private key",
	} {
		require.ErrorContains(t, CheckClientSecret(disguises(secret)[name]), says, name)
	}
	require.ErrorContains(t, CheckAccessToken(secret), "client secret")
	require.ErrorContains(t, CheckAccessToken(disguises(secret)["the key alone"]), "private key")
}

func TestWhatIsNoSecretIsNotTakenForOne(t *testing.T) {
	t.Parallel()
	_, public := newSecret(t)
	publicJWK := `{"kty":"OKP","crv":"Ed25519","x":"` + b64(public) + `"}`
	texts := []string{
		testPassword, "my-secret-token", "secret token of 2026", "{\"d\":1}", "=?%zz%", "kty", "ed25519",
		b64([]byte(`{"alg":"EdDSA","typ":"dpop+jwt","jwk":`+publicJWK+`}`)) + "." + b64([]byte(`{"iss":"a"}`)) + ".c2ln",
		strings.Repeat("A", 16<<10), strings.Repeat("%41", 5000),
	}
	for range 200 {
		random := make([]byte, 96)
		_, err := rand.Read(random)
		require.NoError(t, err)
		texts = append(texts, b64(random), hex.EncodeToString(random))
	}
	for _, text := range texts {
		require.NoError(t, CheckClientSecret(text))
	}
	for _, token := range []string{"tok", "a.b.c", texts[7]} {
		require.NoError(t, CheckAccessToken(token))
	}
	for _, bad := range []string{"", "a b", "a\n", "ü", strings.Repeat("x", 16<<10+1)} {
		require.ErrorContains(t, CheckAccessToken(bad), "access token")
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
