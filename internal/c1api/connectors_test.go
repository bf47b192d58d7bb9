// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRotateConnectorCredentialReturnsTheNewOne(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: goodCredential})}
	c, _ := newClient(t, f)
	cred, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.Equal(t, &ConnectorCredential{
		ID: "cred1", AppID: "app", ConnectorID: "conn", DisplayName: "d", ClientID: "cid", ClientSecret: "s3cr3t-value",
		CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}, cred)
	require.Len(t, f.requests, 1)
	sent := f.requests[0]
	require.Equal(t, "POST /api/v1/apps/connectors/credentials", sent.method+" "+sent.path)
	require.JSONEq(t, `{"appId":"app","connectorId":"conn"}`, sent.body)
	require.Equal(t, "application/json", sent.header.Get("Content-Type"))
	require.NotContains(t, sent.header, "Idempotency-Key", "net/http would send such a request again by itself")
}

func TestUnusableRotateConnectorAnswers(t *testing.T) {
	t.Parallel()
	with := func(change string) string {
		var answer map[string]map[string]any
		require.NoError(t, json.Unmarshal([]byte(goodCredential), &answer))
		require.NoError(t, json.Unmarshal([]byte(change), new(map[string]any)))
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(change), &fields))
		for k, v := range fields {
			answer["credential"][k] = v
		}
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		return string(text)
	}
	for name, c := range map[string]struct{ body, says string }{
		"empty":              {"", "empty"},
		"blank":              {" \n", "empty"},
		"HTML":               {"<html>", "not the JSON object"},
		"null":               {"null", "not the JSON object"},
		"array":              {"[]", "not the JSON object"},
		"trailing garbage":   {goodCredential + "x", "not the JSON object"},
		"two objects":        {goodCredential + goodCredential, "not the JSON object"},
		"no text":            {with(`{"clientSecret":1}`), "clientSecret is not text"},
		"cut short":          {goodCredential[:60], "not the JSON object"},
		"no credential":      {"{}", "no credential"},
		"null credential":    {`{"credential":null}`, "no credential"},
		"no id":              {with(`{"id":null}`), "id is missing"},
		"no clientId":        {with(`{"clientId":null}`), "clientId is missing"},
		"no clientSecret":    {with(`{"clientSecret":null}`), "clientSecret is missing"},
		"blank clientSecret": {with(`{"clientSecret":"  "}`), "clientSecret is missing"},
		"another app":        {with(`{"appId":"other"}`), "a different connector"},
		"another connector":  {with(`{"connectorId":"other"}`), "a different connector"},
		"deleted":            {with(`{"deletedAt":"2026-01-01T00:00:00Z"}`), "deleted"},
		"deleted later":      {with(`{"deletedAt":"2999-01-01T00:00:00Z"}`), "deleted"},
		"expired":            {with(`{"expiresTime":"2020-01-01T00:00:00Z"}`), "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: always(reply{body: c.body})}
			client, _ := newClient(t, f)
			cred, err := client.RotateConnectorCredential(t.Context(), "app", "conn")
			require.Nil(t, cred)
			e := failedFor(t, err, ReasonUnknown)
			require.Contains(t, e.Message, c.says)
			require.NotContains(t, err.Error(), "s3cr3t-value")
			require.Len(t, f.requests, 1, "never sent again")
		})
	}
}

func TestExpiryIsJudgedByC1sClock(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(30 * time.Minute).UTC()
	body := `{"credential":{"id":"i","clientId":"c","clientSecret":"s","expiresTime":"` + expires.Format(time.RFC3339) + `"}}`
	ours, _ := newClient(t, &fakeC1{api: always(reply{body: body})})
	cred, err := ours.RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.WithinDuration(t, expires, cred.ExpiresAt, time.Second)
	require.Equal(t, "app", cred.AppID, "filled in when C1 leaves it out")

	ahead, _ := newClient(t, &fakeC1{api: always(reply{body: body}), skew: time.Hour})
	_, err = ahead.RotateConnectorCredential(t.Context(), "app", "conn")
	require.Contains(t, failedFor(t, err, ReasonUnknown).Message, "expired")
}

func TestGetConnectorCredentialShowsADeletedOne(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: `{"credential":{"id":"cred1","deletedAt":"2026-01-01T00:00:00Z","expiresTime":"2020-01-01T00:00:00Z"}}`})}
	c, _ := newClient(t, f)
	cred, err := c.GetConnectorCredential(t.Context(), "app", "conn", "cred1")
	require.NoError(t, err)
	require.False(t, cred.DeletedAt.IsZero())
	require.Equal(t, "app", cred.AppID)
	require.Equal(t, "/api/v1/apps/app/connectors/conn/credentials/cred1", f.requests[0].path)

	other, _ := newClient(t, &fakeC1{api: always(reply{body: goodCredential})})
	_, err = other.GetConnectorCredential(t.Context(), "app", "conn", "cred2")
	requireReason(t, err, ReasonUnavailable)
}

func TestRevokeTakesNothingOrAnObjectAsDone(t *testing.T) {
	t.Parallel()
	for body, done := range map[string]bool{"": true, "{}": true, `{"x":1}`: true, "<html>login</html>": false, "null": false} {
		f := &fakeC1{api: always(reply{body: body})}
		c, _ := newClient(t, f)
		err := c.RevokeConnectorCredential(t.Context(), "app", "conn", "cred1")
		if done {
			require.NoError(t, err)
		} else {
			requireReason(t, err, ReasonUnknown)
		}
		require.Equal(t, http.MethodPost, f.requests[0].method)
		require.Equal(t, "/api/v1/apps/app/connectors/conn/credentials/cred1", f.requests[0].path)
		require.Equal(t, "{}", f.requests[0].body)
	}
}

func TestIDsCannotNameAnotherPath(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: always(reply{body: goodDecoy[:10] + `null}`})}
	c, _ := newClient(t, f)
	_, _ = c.GetDecoy(t.Context(), "a/../b?x=1#y%2f")
	require.Equal(t, "/api/v1/decoys/a%2F..%2Fb%3Fx=1%23y%252f", f.requests[0].path)

	for _, id := range []string{"", ".", "..", strings.Repeat("x", 1025), "a b", "a\nb", "a\x00", "a\u200bb", "a\xff", "a\u202eb"} {
		for op, run := range map[string]func(context.Context) error{
			"get connector": func(ctx context.Context) error { _, err := c.GetConnector(ctx, "app", id); return err },
			"rotate connector credential": func(ctx context.Context) error {
				_, err := c.RotateConnectorCredential(ctx, id, "conn")
				return err
			},
			"get connector credential": func(ctx context.Context) error {
				_, err := c.GetConnectorCredential(ctx, "app", "conn", id)
				return err
			},
			"revoke connector credential": func(ctx context.Context) error {
				return c.RevokeConnectorCredential(ctx, "app", id, "cred1")
			},
			"get decoy":    func(ctx context.Context) error { _, err := c.GetDecoy(ctx, id); return err },
			"rotate decoy": func(ctx context.Context) error { _, _, err := c.RotateDecoy(ctx, id); return err },
			"update decoy": func(ctx context.Context) error { _, err := c.UpdateDecoy(ctx, &Decoy{ID: id}, "disabled"); return err },
		} {
			e := failedFor(t, run(t.Context()), ReasonNotSent)
			require.Equal(t, op, e.Op)
			require.Contains(t, e.Message, "an ID")
			require.Less(t, len(e.Message), 100)
		}
	}
	require.Len(t, f.requests, 1)
}

func FuzzRotateConnectorAnswer(f *testing.F) {
	for _, seed := range []string{"", "{}", "null", goodCredential, goodCredential[:90], `{"credential":{"deletedAt":"x"}}`, `{"credential":[]}`} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		cred, err := call{op: "rotate", effect: onceOnly}.decodeRotated(body, "app", "conn", now)
		if err != nil {
			require.Nil(t, cred)
			requireReason(t, err, ReasonUnknown)
			return
		}
		require.NotEmpty(t, cred.ID)
		require.NotEmpty(t, strings.TrimSpace(cred.ClientID))
		require.NotEmpty(t, strings.TrimSpace(cred.ClientSecret))
		require.Zero(t, cred.DeletedAt)
		require.Equal(t, "app conn", cred.AppID+" "+cred.ConnectorID)
		require.True(t, cred.ExpiresAt.IsZero() || cred.ExpiresAt.After(now))
	})
}
