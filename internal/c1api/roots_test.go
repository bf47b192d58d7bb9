// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryBlockOfACABundleCounts(t *testing.T) {
	t.Parallel()
	s, _ := serveTLS(t, func(http.ResponseWriter, *http.Request) {})
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	good := block("CERTIFICATE", s.Certificate().Raw)
	lines := strings.Split(good, "\n")
	broken := func(line int, text string) string {
		changed := append([]string{}, lines...)
		changed[line] = text
		return strings.Join(changed, "\n")
	}
	end := len(lines) - 2
	for name, c := range map[string]struct{ pem, says string }{
		"one":                   {good, ""},
		"two":                   {good + good, ""},
		"line ends of Windows":  {strings.ReplaceAll(good, "\n", "\r\n"), ""},
		"text around":           {"# our CA\nsubject=CN=x\n" + good + "\n\n# and once more\n" + good + "the end\n", ""},
		"a byte-order mark":     {"\ufeff" + good, ""},
		"no final line end":     {strings.TrimSpace(good), ""},
		"text only":             {"hello", "ca_cert holds no certificate"},
		"broken base64, first":  {broken(2, "%%%") + good, "certificate 1 of ca_cert is broken"},
		"broken base64, second": {good + broken(2, "%%%") + good, "certificate 2 of ca_cert is broken"},
		"no END":                {good + broken(end, "") + good, "certificate 2 of ca_cert is broken"},
		"a broken END":          {broken(end, "-----END CERTIFICATE---"), "certificate 1 of ca_cert is broken"},
		"another END":           {broken(end, "-----END PRIVATE KEY-----"), "certificate 1 of ca_cert is broken"},
		"no BEGIN, first":       {broken(0, "") + good, "certificate 1 of ca_cert is broken: its BEGIN line is missing"},
		"no BEGIN, second":      {good + broken(0, ""), "certificate 1 of ca_cert is followed by one that is broken"},
		"a broken BEGIN":        {good + broken(0, "----BEGIN CERTIFICATE-----"), "certificate 2 of ca_cert is broken"},
		"BEGIN indented":        {good + broken(0, "-----BEGIN CERTIFICATE-----") + broken(3, "  x = y"), "certificate 3 of ca_cert is broken"},
		"a line is missing":     {good + broken(3, ""), "certificate 2 of ca_cert cannot be parsed"},
		"not DER":               {block("CERTIFICATE", []byte("x")), "certificate 1 of ca_cert cannot be parsed"},
		"a private key":         {good + block("EC PRIVATE KEY", []byte("hidden-key")), "certificate 2 of ca_cert is a private key"},
		"another kind":          {block("X509 CRL", []byte("x")), "certificate 1 of ca_cert is a PEM block of another kind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{}
			_, err := New(Options{URL: "https://acme.conductor.one", AccessToken: "tok", CACertPEM: c.pem, Transport: f})
			if c.says == "" {
				require.NoError(t, err)
				pool, err := newRoots(c.pem, false)
				require.NoError(t, err)
				_, err = s.Certificate().Verify(x509.VerifyOptions{Roots: pool})
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hidden")
			require.Less(t, len(err.Error()), 200)
		})
	}
}
