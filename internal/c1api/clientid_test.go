// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseClientIDSplits(t *testing.T) {
	t.Parallel()
	for id, want := range map[string][4]string{
		testClientID:                     {"strange-hydra-68836", "acme.conductor.one", "pcc", "https://acme.conductor.one"},
		"a@localhost:8443/spc":           {"a", "localhost:8443", "spc", "https://localhost:8443"},
		"a@127.0.0.1:1/wfe":              {"a", "127.0.0.1:1", "wfe", "https://127.0.0.1:1"},
		"a@[::1]:8443/new-use":           {"a", "[::1]:8443", "new-use", "https://[::1]:8443"},
		"a@[::1]/pcc":                    {"a", "[::1]", "pcc", "https://[::1]"},
		"a_b.c+d@ACME.Conductor.One/pcc": {"a_b.c+d", "ACME.Conductor.One", "pcc", "https://acme.conductor.one"},
	} {
		name, host, use, err := ParseClientID(id)
		require.NoError(t, err, id)
		u, err := URLFromClientID(id)
		require.NoError(t, err, id)
		require.Equal(t, want, [4]string{name, host, use, u})
	}
}

func TestParseClientIDNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"":                                         "empty",
		"hydra":                                    "no host",
		"hydra/pcc":                                "no host",
		"hydra@/pcc":                               "no host",
		"@acme.conductor.one/pcc":                  "no name",
		"a/b@acme.conductor.one/pcc":               "no name",
		"hydra@acme.conductor.one":                 "no use",
		"hydra@acme.conductor.one/":                "no use",
		"hydra@acme.conductor.one/pcc/x":           "one word",
		"hydra@acme.conductor.one/p?c":             "one word",
		"hydra@evil@acme.conductor.one/p":          "DNS name",
		"hydra@acme..one/pcc":                      "DNS name",
		"hydra@-acme.one/pcc":                      "DNS name",
		"hydra@acme.one:0/pcc":                     "port",
		"hydra@acme.one:99999/pcc":                 "port",
		"hydra@acme.one:/pcc":                      "port",
		"hydra@a:b:c/pcc":                          "host with a port",
		"hydra@[::1/pcc":                           "host",
		"hydra@[fe80::1%25eth0]/pcc":               "IPv6",
		"hydra@[1.2.3.4]/pcc":                      "IPv6",
		"hy dra@acme.one/pcc":                      "space",
		"hydra@acme.one/pcc\n":                     "control",
		"hydra@acmé.one/pcc":                       "ASCII",
		strings.Repeat("a", 600) + "@b/pcc":        "longer",
		"a@" + strings.Repeat("b.", 130) + "c/pcc": "longer than a DNS name",
	} {
		_, _, _, err := ParseClientID(id)
		require.ErrorContains(t, err, want, id)
		_, urlErr := URLFromClientID(id)
		require.Equal(t, err, urlErr)
	}
}

func FuzzParseClientID(f *testing.F) {
	for _, seed := range []string{"", testClientID, "a@[::1]:1/pcc", "a@b", "a@b/", "@/", "a@b:c/d", "a@b/c/d", "a@\x00/pcc"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		name, host, use, err := ParseClientID(id)
		if err != nil {
			require.Empty(t, name+host+use)
			return
		}
		require.Equal(t, id, name+"@"+host+"/"+use)
		u, err := URLFromClientID(id)
		require.NoError(t, err)
		tenant, err := parseTenantURL(u)
		require.NoError(t, err, "a URL from a client ID must be one that New takes")
		require.Equal(t, strings.ToLower(host), tenant.Host)
	})
}
