// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRotateDecoyReturnsEveryKindOfMaterial(t *testing.T) {
	t.Parallel()
	for body, secret := range map[string]string{
		goodDecoy: "s3cr3t-value",
		`{"decoy":null,"material":{"accessToken":{"accessToken":"tok"}}}`:                                       "tok",
		`{"material":{"workloadFederation":{"workloadFederationTrustId":"trust"},"clientCredential":null}}`:     "",
		`{"decoy":{"id":null},"material":{"accessToken":{"accessToken":"tok"},"futureKind":{"x":1}},"new":[1]}`: "tok",
	} {
		f := &fakeC1{api: always(reply{body: body})}
		c, _ := newClient(t, f)
		decoy, material, err := c.RotateDecoy(t.Context(), "decoy1")
		require.NoError(t, err, body)
		require.Equal(t, secret, material.Secret())
		if decoy != nil {
			require.Equal(t, "decoy1", decoy.ID)
		}
		require.Equal(t, strings.Contains(body, `"decoy":{`), decoy != nil)
		require.Equal(t, "POST /api/v1/decoys/decoy1/rotate {}", f.requests[0].method+" "+f.requests[0].path+" "+f.requests[0].body)
	}
	require.Empty(t, (*DecoyMaterial)(nil).Secret())
}

var badMaterial = map[string]string{
	"":                                    "empty",
	"<html>":                              "not the JSON object",
	goodDecoy + "{}":                      "not the JSON object",
	"{}":                                  "no material",
	`{"material":null}`:                   "no material",
	`{"material":{}}`:                     "no material",
	`{"material":{"futureKind":{"x":1}}}`: "of no kind",
	`{"material":{"clientCredential":{"clientId":"c","clientSecret":"s"},"accessToken":{"accessToken":"t"}}}`: "more than one",
	`{"material":{"clientCredential":{"clientId":"c","clientSecret":""}}}`:                                    "clientSecret is missing",
	`{"material":{"clientCredential":{"clientId":null,"clientSecret":"s3cr3t-value"}}}`:                       "clientId is missing",
	`{"material":{"clientCredential":{}}}`:                                                                    "clientId is missing",
	`{"material":{"accessToken":{"accessToken":" "}}}`:                                                        "accessToken that is missing",
	`{"material":{"workloadFederation":{}}}`:                                                                  "workloadFederationTrustId is missing",
}

func TestUnusableRotateDecoyAnswers(t *testing.T) {
	t.Parallel()
	for body, says := range badMaterial {
		f := &fakeC1{api: always(reply{body: body})}
		c, _ := newClient(t, f)
		decoy, material, err := c.RotateDecoy(t.Context(), "decoy1")
		require.Nil(t, decoy)
		require.Nil(t, material)
		e := failedFor(t, err, ReasonUnknown)
		require.Contains(t, e.Message, says, body)
		require.NotContains(t, err.Error(), "s3cr3t-value")
		require.Len(t, f.requests, 1)
	}
	c, _ := newClient(t, &fakeC1{api: always(reply{body: goodDecoy})})
	_, _, err := c.RotateDecoy(t.Context(), "another")
	require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "a different decoy")
}

func TestListDecoysReturnsTheFirstPage(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		ids  string
		more bool
	}{
		`{"list":[{"id":"a"},null,{"id":"b","lastUsedAt":7},{},"x",{"displayName":"no id"}],"nextPageToken":""}`: {"a b", false},
		`{"list":[{"id":"a"}],"nextPageToken":"2"}`:                                                              {"a", true},
		`{"list":[],"nextPageToken":null}`:                                                                       {"", false},
		`{"list":null}`:                                                                                          {"", false},
		`{}`:                                                                                                     {"", false},
	} {
		f := &fakeC1{api: always(reply{body: body})}
		c, _ := newClient(t, f)
		decoys, more, err := c.ListDecoys(t.Context())
		require.NoError(t, err, body)
		require.Equal(t, want.more, more, body)
		var ids []string
		for _, decoy := range decoys {
			ids = append(ids, decoy.ID)
			require.Equal(t, decoy.ID == "b", len(decoy.Warnings) == 1, "each decoy has its own warnings")
		}
		require.Equal(t, want.ids, strings.Join(ids, " "))
		require.Len(t, f.requests, 1)
	}
	for _, body := range []string{"", "[]", "<html>", `{"status":"ok"}`, `{"list":{}}`} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		_, _, err := c.ListDecoys(t.Context())
		requireReason(t, err, ReasonUnavailable)
	}
}

func TestUpdateDecoySendsWhatTheMaskNames(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: goodDecoy})}
	c, _ := newClient(t, f)
	decoy := &Decoy{ID: "decoy1", DisplayName: "n", Description: "d", Disabled: true, Annotations: map[string]string{"a": ""}}
	got, err := c.UpdateDecoy(t.Context(), decoy, "annotations", "disabled")
	require.NoError(t, err)
	require.Equal(t, "decoy1", got.ID)
	require.Equal(t, "PATCH /api/v1/decoys/decoy1", f.requests[0].method+" "+f.requests[0].path)
	require.JSONEq(t, `{"decoy":{"annotations":{"a":""},"disabled":true},"updateMask":"annotations,disabled"}`, f.requests[0].body)
	_, err = c.UpdateDecoy(t.Context(), decoy, "displayName", "description")
	require.NoError(t, err)
	require.JSONEq(t, `{"decoy":{"displayName":"n","description":"d"},"updateMask":"displayName,description"}`, f.requests[1].body)

	_, err = c.UpdateDecoy(t.Context(), decoy)
	requireReason(t, err, ReasonNotSent)
	_, err = c.UpdateDecoy(t.Context(), decoy, "kind")
	requireReason(t, err, ReasonNotSent)
	_, err = c.UpdateDecoy(t.Context(), nil, "disabled")
	requireReason(t, err, ReasonNotSent)
	require.Len(t, f.requests, 2)
}

func FuzzRotateDecoyAnswer(f *testing.F) {
	f.Add([]byte(goodDecoy))
	for seed := range badMaterial {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		decoy, m, err := call{op: "rotate", effect: onceOnly}.decodeVended(body, "decoy1")
		if err != nil {
			require.Nil(t, m)
			requireReason(t, err, ReasonUnknown)
			return
		}
		require.True(t, decoy == nil || decoy.ID == "decoy1")
		require.True(t, m.Secret() != "" || m.WorkloadFederation != nil && m.WorkloadFederation.TrustID != "")
	})
}
