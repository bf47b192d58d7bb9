// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// with returns an answer in which a field of one of its objects is changed; raw
// is JSON, "" takes the field away.
func with(t testing.TB, answer, object, field, raw string) string {
	t.Helper()
	var top map[string]map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(answer), &top))
	if top[object] == nil {
		top[object] = map[string]json.RawMessage{}
	}
	top[object][field] = json.RawMessage(raw)
	if raw == "" {
		delete(top[object], field)
	}
	text, err := json.Marshal(top)
	require.NoError(t, err)
	return string(text)
}

var (
	// unset are the ways in which C1 may show that a field is not set.
	unset = []string{"", `""`, `false`, `0`, `null`, `{}`, `[]`}

	// odd are values of no type that any field of C1's has.
	odd = []string{`7`, `-1.5e300`, `1e999`, `["s3cr3t-odd"]`, `{"s3cr3t-odd":1}`, `[[{}]]`}

	credentialTexts = []string{"displayName"}
	credentialTimes = []string{"createdAt", "updatedAt", "deletedAt", "expiresTime", "lastUsedAt"}
	decoyTexts      = []string{"displayName", "description", "kind", "materialFingerprintSha256"}
	decoyTimes      = []string{"createdAt", "updatedAt", "lastUsedAt"}
)

// requireOneWarning checks that a field, and nothing of its value, is named.
func requireOneWarning(t *testing.T, warnings []string, field string) {
	t.Helper()
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], field)
	require.NotContains(t, warnings[0], "s3cr3t")
	require.Less(t, len(warnings[0]), 150)
}

func TestAnOptionalFieldNeverCostsTheCredential(t *testing.T) {
	t.Parallel()
	rotate := func(body string) *ConnectorCredential {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		cred, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
		require.NoError(t, err, body)
		require.Equal(t, "cred1 cid s3cr3t-value", cred.ID+" "+cred.ClientID+" "+cred.ClientSecret)
		require.Equal(t, "app conn", cred.AppID+" "+cred.ConnectorID)
		return cred
	}
	for _, field := range append(append([]string{"appId", "connectorId", "unheardOf"}, credentialTexts...), credentialTimes...) {
		for _, raw := range unset {
			require.Empty(t, rotate(with(t, goodCredential, "credential", field, raw)).Warnings, field+raw)
		}
		if field == "unheardOf" {
			continue
		}
		for _, raw := range append(odd, "true") {
			cred := rotate(with(t, goodCredential, "credential", field, raw))
			requireOneWarning(t, cred.Warnings, field)
			require.Zero(t, cred.DeletedAt)
			require.Zero(t, cred.ExpiresAt)
		}
	}
	for _, field := range credentialTimes {
		for _, raw := range []string{`"s3cr3t-odd"`, `"2026-13-01T00:00:00Z"`, `"1735689600"`} {
			requireOneWarning(t, rotate(with(t, goodCredential, "credential", field, raw)).Warnings, field)
		}
	}
	require.Equal(t, "d", rotate(with(t, goodCredential, "credential", "DISPLAYNAME", `"other case"`)).DisplayName, "names are exact")
}

func TestAnOptionalFieldNeverCostsTheMaterial(t *testing.T) {
	t.Parallel()
	rotate := func(body string) (*Decoy, *DecoyMaterial) {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		decoy, material, err := c.RotateDecoy(t.Context(), "decoy1")
		require.NoError(t, err, body)
		require.Equal(t, "s3cr3t-value", material.Secret())
		return decoy, material
	}
	for _, field := range append(append([]string{"id", "disabled", "annotations"}, decoyTexts...), decoyTimes...) {
		for _, raw := range unset {
			decoy, material := rotate(with(t, goodDecoy, "decoy", field, raw))
			require.Empty(t, material.Warnings)
			require.Empty(t, decoy.Warnings, field+raw)
		}
		for _, raw := range odd {
			decoy, material := rotate(with(t, goodDecoy, "decoy", field, raw))
			require.Empty(t, material.Warnings)
			requireOneWarning(t, decoy.Warnings, field)
			require.Equal(t, "decoy1", decoy.ID)
		}
	}
	for _, raw := range append(odd, `"s3cr3t-odd"`, "true") {
		if strings.HasPrefix(raw, "{") {
			continue // that is a decoy
		}
		decoy, material := rotate(`{"decoy":` + raw + `,"material":{"accessToken":{"accessToken":"s3cr3t-value"}}}`)
		require.Nil(t, decoy)
		requireOneWarning(t, material.Warnings, "decoy")
	}
	for _, raw := range unset[1:] {
		decoy, material := rotate(`{"decoy":` + raw + `,"material":{"accessToken":{"accessToken":"s3cr3t-value"}}}`)
		require.Nil(t, decoy)
		require.Empty(t, material.Warnings)
	}
}

func TestTheOtherKindsOfMaterialMayBeThere(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{
		"clientCredential":   `{"clientId":"cid","clientSecret":"s3cr3t-value","clientName":""}`,
		"accessToken":        `{"accessToken":"s3cr3t-value"}`,
		"workloadFederation": `{"workloadFederationTrustId":"trust"}`,
	}
	hollow := map[string]string{
		"clientCredential":   `{"clientId":"","clientSecret":null}`,
		"accessToken":        `{"accessToken":""}`,
		"workloadFederation": `{"workloadFederationTrustId":false}`,
	}
	rotate := func(t *testing.T, material string) (*DecoyMaterial, error) {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: `{"decoy":null,"material":` + material + `}`})})
		_, m, err := c.RotateDecoy(t.Context(), "decoy1")
		return m, err
	}
	for kind, whole := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for other := range kinds {
				if other == kind {
					continue
				}
				for _, raw := range append(unset[1:], hollow[other]) {
					m, err := rotate(t, fmt.Sprintf(`{%q:%s,%q:%s}`, kind, whole, other, raw))
					require.NoError(t, err, raw)
					require.Empty(t, m.Warnings)
				}
				m, err := rotate(t, fmt.Sprintf(`{%q:%s,%q:{"clientId":"half"}}`, kind, whole, other))
				require.NoError(t, err)
				requireOneWarning(t, m.Warnings, other)
				_, err = rotate(t, fmt.Sprintf(`{%q:%s,%q:%s}`, kind, whole, other, kinds[other]))
				require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "more than one kind")
			}
		})
	}
}

// A credential that could not be revoked later, or a secret that is not whole,
// is no answer, and says so at once.
func TestUnusableIDsAndSecretsAreRefused(t *testing.T) {
	t.Parallel()
	ids := map[string]string{
		`""`: "missing", `null`: "missing", `7`: "not text",
		`"."`: "step in a path", `".."`: "step in a path",
		`"` + strings.Repeat("x", 1025) + `"`: "longer than 1024 bytes",
		`"a b"`:                               "space",
		`"a\nb"`:                              "space",
		`"a\u0000b"`:                          "space",
		`"a\u200bb"`:                          "space",
		`"a\ud800b"`:                          "space",
		"\"a\xffb\"":                          "space",
	}
	clientIDs := map[string]string{
		`" "`: "missing", `7`: "not text",
		`"` + strings.Repeat("x", 513) + `"`: "longer than 512 bytes",
		`"a\tb"`:                             "control", `"a\u2028b"`: "control", `"a\u202eb"`: "cannot be shown",
	}
	secrets := map[string]string{
		`" "`: "missing", `7`: "not text",
		`"` + strings.Repeat("x", 16<<10+1) + `"`: "longer than 16384 bytes",
		`"a\nb"`: "control", `"a\ufffdb"`: "control", `"a\u009bb"`: "control",
	}
	for field, cases := range map[string]map[string]string{"id": ids, "clientId": clientIDs, "clientSecret": secrets} {
		for raw, says := range cases {
			body := with(t, goodCredential, "credential", field, "null")
			body = strings.Replace(body, `"`+field+`":null`, `"`+field+`":`+raw, 1)
			c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
			_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
			e := failedFor(t, err, ReasonUnknown)
			require.Contains(t, e.Message, field+" ", raw)
			require.Contains(t, e.Message, says, raw)
			require.Less(t, len(e.Message), 300)
		}
	}
	for field, cases := range map[string]map[string]string{"clientId": clientIDs, "clientSecret": secrets} {
		for raw, says := range cases {
			material := strings.Replace(`{"material":{"clientCredential":{"clientId":"cid","clientSecret":"s3cr3t-value","`+field+`":#}}}`, "#", raw, 1)
			c, _ := newClient(t, &fakeC1{api: always(reply{body: material})})
			_, _, err := c.RotateDecoy(t.Context(), "decoy1")
			require.Contains(t, failedFor(t, err, ReasonUnknown).Message, says, raw)
		}
	}
}

func TestTheLongestIDsAndSecretsAreTaken(t *testing.T) {
	t.Parallel()
	body := goodCredential
	for field, length := range map[string]int{"id": 1024, "clientId": 512, "clientSecret": 16 << 10} {
		body = with(t, body, "credential", field, `"`+strings.Repeat("x", length)+`"`)
	}
	c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
	cred, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.Empty(t, cred.Warnings)
	require.Len(t, cred.ID, 1024)
	require.Len(t, cred.ClientSecret, 16<<10)
}

func TestTextsOfC1sAreBoundedAndClean(t *testing.T) {
	t.Parallel()
	dirty := map[string]string{
		"two\r\nlines":             "two lines",
		"a\ttab":                   "a tab",
		"\x1b[31mred\x00":          "[31mred",
		"right\u202eto left":       "rightto left",
		"zero\u200bwidth\ufeff":    "zerowidth",
		"tag\U000e0041":            "tag",
		"variation\ufe0f":          "variation",
		"filler\u3164\u115f":       "filler",
		"line\u2028separator":      "line separator",
		"hidden\U000e0101selector": "hiddenselector",
	}
	read := func(field, value string) (*Decoy, *ConnectorCredential) {
		raw, err := json.Marshal(value)
		require.NoError(t, err)
		c, _ := newClient(t, &fakeC1{api: always(reply{body: with(t, goodDecoy, "decoy", field, string(raw))})})
		decoy, err := c.GetDecoy(t.Context(), "decoy1")
		require.NoError(t, err)
		c, _ = newClient(t, &fakeC1{api: always(reply{body: with(t, goodCredential, "credential", field, string(raw))})})
		cred, err := c.GetConnectorCredential(t.Context(), "app", "conn", "cred1")
		require.NoError(t, err)
		return decoy, cred
	}
	for in, want := range dirty {
		decoy, cred := read("displayName", in)
		require.Equal(t, want, decoy.DisplayName)
		require.Equal(t, want, cred.DisplayName)
		requireOneWarning(t, decoy.Warnings, "displayName")
		requireOneWarning(t, cred.Warnings, "displayName")
		decoy, _ = read("description", in)
		require.Equal(t, want, decoy.Description)
		decoy, _ = read("kind", in)
		require.Equal(t, want, string(decoy.Kind))
	}
	for field, limit := range map[string]int{"displayName": 256, "description": 1024, "kind": 128} {
		long := strings.Repeat("é", 300_000)
		decoy, cred := read(field, long)
		requireOneWarning(t, decoy.Warnings, field)
		for _, text := range []string{decoy.DisplayName, decoy.Description, string(decoy.Kind), cred.DisplayName} {
			require.LessOrEqual(t, utf8.RuneCountInString(text), limit)
		}
		exact := strings.Repeat("é", limit)
		decoy, _ = read(field, exact)
		require.Empty(t, decoy.Warnings)
		require.Contains(t, []string{decoy.DisplayName, decoy.Description, string(decoy.Kind)}, exact)
	}
}

func TestAFingerprintIsOneOrNothing(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0aF1", 16)
	for raw, want := range map[string]string{
		`"` + sum + `"`:       strings.ToLower(sum),
		`""`:                  "",
		`null`:                "",
		`"` + sum[1:] + `"`:   "warned",
		`"` + sum + `0"`:      "warned",
		`"` + sum[2:] + `zz"`: "warned",
		`" ` + sum[1:] + `"`:  "warned",
		`7`:                   "warned",
	} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: with(t, goodDecoy, "decoy", "materialFingerprintSha256", raw)})})
		decoy, err := c.GetDecoy(t.Context(), "decoy1")
		require.NoError(t, err)
		if want == "warned" {
			requireOneWarning(t, decoy.Warnings, "materialFingerprintSha256")
			want = ""
		}
		require.Equal(t, want, decoy.FingerprintSHA256, raw)
	}
}

func TestAnotherObjectThanTheOneAskedForIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"{}", `{"decoy":null}`, `{"decoy":{}}`, `{"decoy":"x"}`, `{"decoy":{"id":"other"}}`, `{"id":"decoy1"}`, "", "[]"} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		_, err := c.GetDecoy(t.Context(), "decoy1")
		requireReason(t, err, ReasonUnavailable)
		require.False(t, OutcomeUnknown(err), "reading changes nothing")
	}
	for _, body := range []string{"{}", `{"connectorView":null}`, `{"connectorView":{"connector":{}}}`, `{"connectorView":{"connector":{"id":"other"}}}`, `{"connectorView":{"connector":{"id":"conn","appId":"other"}}}`, `{"id":"conn"}`} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		_, err := c.GetConnector(t.Context(), "app", "conn")
		requireReason(t, err, ReasonUnavailable)
	}
	for _, body := range []string{"{}", `{"credential":null}`, `{"credential":{}}`, `{"credential":[]}`, goodCredential} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		_, err := c.GetConnectorCredential(t.Context(), "app", "conn", "another")
		requireReason(t, err, ReasonUnavailable)
	}
}

func TestGetConnectorReadsTheView(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t, &fakeC1{api: always(reply{body: goodConnector})})
	got, err := c.GetConnector(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.Equal(t, &Connector{ID: "conn", AppID: "app", DisplayName: "GitHub"}, got)

	c, _ = newClient(t, &fakeC1{api: always(reply{body: `{"connectorView":{"connector":{"displayName":7,"appId":""}}}`})})
	got, err = c.GetConnector(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.Equal(t, "conn app", got.ID+" "+got.AppID)
	requireOneWarning(t, got.Warnings, "displayName")
}

func TestIntrospectionTakesOddFields(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t, &fakeC1{api: always(reply{body: `{"userId":7,"principleId":"p\n1","roles":["a",null,2,"b"],"permissions":null,"features":"x"}`})})
	who, err := c.Introspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, &Introspection{PrincipalID: "p 1", Roles: []string{"a", "b"}}, who)
}

func TestTimesAreReadToTheNanosecond(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t, &fakeC1{api: always(reply{body: with(t, goodCredential, "credential", "lastUsedAt", `"2026-08-01T02:03:04.123456789+02:00"`)})})
	cred, err := c.GetConnectorCredential(t.Context(), "app", "conn", "cred1")
	require.NoError(t, err)
	require.True(t, cred.LastUsedAt.Equal(time.Date(2026, 8, 1, 0, 3, 4, 123456789, time.UTC)))
	require.Empty(t, cred.ClientSecret, "reading shows no secret, even if C1 does")
}
