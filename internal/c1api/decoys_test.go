// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"fmt"
	"net/http"
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
	`{"material":{}}`:                     "of no kind",
	`{"material":{"futureKind":{"x":1}}}`: "of no kind",
	`{"material":{"clientCredential":{"clientId":"c","clientSecret":"s"},"accessToken":{"accessToken":"t"}}}`: "more than one",
	`{"material":{"clientCredential":{"clientId":"c","clientSecret":""}}}`:                                    "without its clientSecret",
	`{"material":{"clientCredential":{"clientId":null,"clientSecret":"s3cr3t-value"}}}`:                       "without its clientId",
	`{"material":{"clientCredential":{}}}`:                                                                    "without its clientId",
	`{"material":{"accessToken":{"accessToken":" "}}}`:                                                        "empty",
	`{"material":{"workloadFederation":{}}}`:                                                                  "without its ID",
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
	require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "another decoy")
}

func TestCreateDecoy(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: goodDecoy})}
	c, _ := newClient(t, f)
	decoy, material, err := c.CreateDecoy(t.Context(), NewDecoy{
		DisplayName: "bait", Annotations: map[string]string{"owner": "blue"},
		AccessToken: &NewAccessTokenDecoy{SubjectUserID: "u", ExpiresIn: "3600s"},
	})
	require.NoError(t, err)
	require.Equal(t, "decoy1", decoy.ID)
	require.Equal(t, DecoyKind("DECOY_KIND_NEW"), decoy.Kind)
	require.Equal(t, "s3cr3t-value", material.Secret())
	require.JSONEq(t, `{"displayName":"bait","annotations":{"owner":"blue"},"accessToken":{"subjectUserId":"u","expiresIn":"3600s"}}`, f.requests[0].body)

	for _, bad := range []NewDecoy{
		{DisplayName: "no kind"},
		{ConnectorClient: &NewConnectorClientDecoy{}, UserClientCredential: &NewUserClientCredentialDecoy{UserID: "u"}},
		{WorkloadFederation: []byte("not json")},
	} {
		_, _, err := c.CreateDecoy(t.Context(), bad)
		requireReason(t, err, ReasonNotSent)
	}
	require.Len(t, f.requests, 1)

	f.api = always(reply{body: `{"decoy":{},"material":{"accessToken":{"accessToken":"tok"}}}`})
	_, _, err = c.CreateDecoy(t.Context(), NewDecoy{ConnectorClient: &NewConnectorClientDecoy{}})
	require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "decoy with an id")
	f.api = always(reply{body: `{"decoy":{"id":"x"}}`})
	_, _, err = c.CreateDecoy(t.Context(), NewDecoy{ConnectorClient: &NewConnectorClientDecoy{}})
	require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "no material")
}

func TestGetDecoyTakesNullsAndBothShapes(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"decoy":{"id":"d","displayName":null,"kind":null,"disabled":null,"createdAt":null,"materialFingerprintSha256":"ab"}}`,
		`{"id":"d","materialFingerprintSha256":"ab"}`,
		`{"decoy":{"id":null,"materialFingerprintSha256":"ab"}}`,
	} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		decoy, err := c.GetDecoy(t.Context(), "d")
		require.NoError(t, err)
		require.Equal(t, &Decoy{ID: "d", FingerprintSHA256: "ab"}, decoy)
	}
	for _, body := range []string{"{}", `{"decoy":null}`, `{"decoy":{"id":"other"}}`, "", "[]"} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
		_, err := c.GetDecoy(t.Context(), "d")
		requireReason(t, err, ReasonUnavailable)
		require.False(t, OutcomeUnknown(err), "reading changes nothing")
	}
}

func TestListDecoysWalksPagesAndEnds(t *testing.T) {
	t.Parallel()
	pages := func(n int, r *http.Request) reply {
		require.Equal(t, map[bool]string{true: "", false: fmt.Sprintf("p/%d", n)}[n == 1], r.URL.Query().Get("page_token"))
		next := `,"nextPageToken":"p/` + fmt.Sprint(n+1) + `"`
		if n == 3 {
			next = ""
		}
		return reply{body: fmt.Sprintf(`{"list":[{"id":"a%d"},null,{"id":"b%d"}]%s}`, n, n, next)}
	}
	c, _ := newClient(t, &fakeC1{api: pages})
	all, err := c.ListDecoys(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, all, 6)
	require.Equal(t, "b3", all[5].ID)

	f := &fakeC1{api: pages}
	c, _ = newClient(t, f)
	some, err := c.ListDecoys(t.Context(), 3)
	require.NoError(t, err)
	require.Len(t, some, 3)
	require.Len(t, f.requests, 2)

	c, _ = newClient(t, &fakeC1{api: always(reply{body: `{"list":[],"nextPageToken":"same"}`})})
	_, err = c.ListDecoys(t.Context(), 0)
	require.Contains(t, failedFor(t, err, ReasonUnavailable).Message, "does not end")

	endless := &fakeC1{api: func(n int, _ *http.Request) reply {
		return reply{body: fmt.Sprintf(`{"list":[],"nextPageToken":"%d"}`, n)}
	}}
	c, _ = newClient(t, endless)
	_, err = c.ListDecoys(t.Context(), 0)
	requireReason(t, err, ReasonUnavailable)
	require.Equal(t, maxDecoyPages, endless.asked)
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

func TestDeleteDecoy(t *testing.T) {
	t.Parallel()
	f := &fakeC1{}
	c, _ := newClient(t, f)
	require.NoError(t, c.DeleteDecoy(t.Context(), "decoy1"))
	require.Equal(t, "DELETE /api/v1/decoys/decoy1 {}", f.requests[0].method+" "+f.requests[0].path+" "+f.requests[0].body)
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
