// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What one look may show, by name.
var looks = map[string]look{
	"not asked":     {},
	"shown":         {sight: shown},
	"not there":     {sight: notThere},
	"404 of C1's":   lookAt(false, &Error{Op: "look", Reason: ReasonNotFound, StatusCode: 404, Code: 5, FromC1: true, Message: "not found"}),
	"another 404":   lookAt(false, &Error{Op: "look", Reason: ReasonNotFound, StatusCode: 404, Message: "no reason"}),
	"404, code 12":  lookAt(false, &Error{Op: "look", Reason: ReasonNotFound, StatusCode: 404, Code: 12, FromC1: true, Message: "unimplemented"}),
	"403":           lookAt(false, &Error{Op: "look", Reason: ReasonForbidden, StatusCode: 403, FromC1: true, Message: "no right"}),
	"405":           lookAt(false, &Error{Op: "look", Reason: ReasonRejected, StatusCode: 405, Message: "no method"}),
	"501":           lookAt(false, &Error{Op: "look", Reason: ReasonRejected, StatusCode: 501, Message: "no method"}),
	"no connection": lookAt(false, &Error{Op: "look", Reason: ReasonNotSent, Message: "refused"}),
	"500":           lookAt(false, &Error{Op: "look", Reason: ReasonUnavailable, StatusCode: 500, Message: "broken"}),
	"429":           lookAt(false, &Error{Op: "look", Reason: ReasonRateLimited, StatusCode: 429, Message: "slowly"}),
	"401":           lookAt(false, &Error{Op: "look", Reason: ReasonIdentity, StatusCode: 401, Message: "who"}),
}

var (
	concernEverybody = []string{"no connection", "500", "429", "401"}
	concernOne       = []string{"another 404", "404, code 12", "403", "405", "501"}
)

// row is one line of the table by which the end of something is believed.
type row struct {
	of                            subject
	object, connector, list, apps string

	next   question
	gone   string // part of the reason
	reason Reason // of the error
	says   string // part of its message
}

// evidenceTable is every row: what is alive, what is gone, and what proves
// nothing.
func evidenceTable() []row {
	rows := []row{
		{of: aCredential, object: "not asked", next: askObject},
		{of: aDecoy, object: "not asked", next: askObject},
		{of: aCredential, object: "shown"},
		{of: aDecoy, object: "shown"},

		{of: aCredential, object: "404 of C1's", next: askConnector},
		{of: aCredential, object: "404 of C1's", connector: "shown", gone: "but still knows its connector"},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", next: askList},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "not there", gone: "the app's connectors does not contain the connector"},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "shown", reason: ReasonNotFound, says: "shows it, so this 404 proves nothing"},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "404 of C1's", next: askApps},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "404 of C1's", apps: "not there", gone: "its list of apps does not contain the app"},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "404 of C1's", apps: "shown", reason: ReasonNotFound, says: "shows its app, so connectors may be switched off"},
		{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "404 of C1's", apps: "404 of C1's", reason: ReasonNotFound, says: "the list of apps answers 404 too, so the feature may be switched off"},

		{of: anOwnCredential, object: "not asked", next: askObject},
		{of: anOwnCredential, object: "shown"},
		{of: anOwnCredential, object: "404 of C1's", next: askList},
		{of: anOwnCredential, object: "404 of C1's", list: "not there", gone: "list of credentials does not contain it"},
		{of: anOwnCredential, object: "404 of C1's", list: "shown", reason: ReasonNotFound, says: "shows it, so this 404 proves nothing"},
		{of: anOwnCredential, object: "404 of C1's", list: "404 of C1's", reason: ReasonNotFound, says: "the list of credentials answers 404 too, so the feature may be switched off"},

		{of: aDecoy, object: "404 of C1's", next: askList},
		{of: aDecoy, object: "404 of C1's", list: "not there", gone: "list of decoys does not contain it"},
		{of: aDecoy, object: "404 of C1's", list: "shown", reason: ReasonNotFound, says: "shows it, so this 404 proves nothing"},
		{of: aDecoy, object: "404 of C1's", list: "404 of C1's", reason: ReasonNotFound, says: "the list of decoys answers 404 too, so the feature may be switched off"},
	}
	for _, sight := range append(concernEverybody, concernOne...) {
		own := looks[sight].err
		second := row{reason: ReasonNotFound, says: "proves nothing"}
		for _, all := range concernEverybody {
			if sight == all {
				second = row{reason: own.Reason, says: own.Message}
			}
		}
		for _, of := range []subject{aCredential, aDecoy, anOwnCredential} {
			rows = append(rows, row{of: of, object: sight, reason: own.Reason, says: own.Message})
		}
		rows = append(rows,
			row{of: aCredential, object: "404 of C1's", connector: sight, reason: second.reason, says: second.says},
			row{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: sight, reason: second.reason, says: second.says},
			row{of: aCredential, object: "404 of C1's", connector: "404 of C1's", list: "404 of C1's", apps: sight, reason: second.reason, says: second.says},
			row{of: aDecoy, object: "404 of C1's", list: sight, reason: second.reason, says: second.says},
			row{of: anOwnCredential, object: "404 of C1's", list: sight, reason: second.reason, says: second.says},
		)
	}
	return rows
}

func TestOnlyPositiveEvidenceEndsAnything(t *testing.T) {
	t.Parallel()
	for _, r := range evidenceTable() {
		name := strings.Join([]string{string(r.of), r.object, r.connector, r.list, r.apps}, "/")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := evidence{of: r.of, object: looks[r.object], connector: looks[r.connector], list: looks[r.list], apps: looks[r.apps]}
			next, why, err := e.judge()
			require.Equal(t, r.next, next)
			require.Equal(t, r.gone != "", why != "", why)
			require.Contains(t, why, r.gone)
			require.Equal(t, r.reason != "", err != nil)
			if err != nil {
				require.Equal(t, r.reason, err.Reason)
				require.Contains(t, err.Message, r.says)
				require.Equal(t, "look", err.Op)
			}
		})
	}
}

// Every other combination of looks, also those that are never asked for.
func TestNothingIsGoneByAnyOtherEvidence(t *testing.T) {
	t.Parallel()
	for _, of := range []subject{aCredential, aDecoy, anOwnCredential} {
		for object, own := range looks {
			for connector, second := range looks {
				for list, third := range looks {
					for apps, fourth := range looks {
						if own.sight == notThere || second.sight == notThere {
							continue // only a list answers so
						}
						e := evidence{of: of, object: own, connector: second, list: third, apps: fourth}
						_, why, err := e.judge()
						const is404 = "404 of C1's"
						proven := object == is404 && (of == aCredential && connector == "shown" ||
							list == "not there" && (of != aCredential || connector == is404) ||
							of == aCredential && connector == is404 && list == is404 && apps == "not there")
						require.Equal(t, proven, why != "", "%s: %s, %s, %s, %s", of, object, connector, list, apps)
						require.False(t, proven && err != nil)
					}
				}
			}
		}
	}
}

func TestACredentialThatC1ShowsIsJudgedByItsDates(t *testing.T) {
	t.Parallel()
	now := time.Now()
	stamp := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	for fields, gone := range map[string]string{
		`"id":"cred1"`: "",
		`"id":"cred1","deletedAt":null,"expiresTime":null`:         "",
		`"id":"cred1","deletedAt":"","expiresTime":""`:             "",
		`"id":"cred1","deletedAt":"1970-01-01T00:00:00Z"`:          "",
		`"id":"cred1","deletedAt":"0001-01-01T00:00:00Z"`:          "",
		`"id":"cred1","deletedAt":"yesterday"`:                     "",
		`"id":"cred1","deletedAt":true`:                            "",
		`"id":"cred1","DeletedAt":"2026-01-02T03:04:05Z"`:          "",
		`"id":"cred1","expiresTime":"` + stamp(time.Hour) + `"`:    "",
		`"id":"cred1","deletedAt":"2026-01-02T03:04:05Z"`:          "deleted since 2026-01-02T03:04:05Z",
		`"id":"cred1","expiresTime":"` + stamp(-time.Minute) + `"`: "expired since",
	} {
		c, _ := newClient(t, &fakeC1{api: always(reply{body: `{"credential":{` + fields + `}}`})})
		found, err := c.ConnectorCredentialExistence(t.Context(), "app", "conn", "cred1")
		require.NoError(t, err, fields)
		require.Equal(t, gone != "", found.Gone, fields)
		require.Contains(t, found.Why, gone)
		require.Equal(t, "cred1", found.Credential.ID)
	}

	c1Ahead, _ := newClient(t, &fakeC1{skew: 2 * time.Hour, api: always(reply{body: `{"credential":{"id":"cred1","expiresTime":"` + stamp(time.Hour) + `"}}`})})
	found, err := c1Ahead.ConnectorCredentialExistence(t.Context(), "app", "conn", "cred1")
	require.NoError(t, err)
	require.True(t, found.Gone, "by C1's clock, not by ours")
}

// routes answers each request by its method and path.
func routes(answers map[string]reply) func(int, *http.Request) reply {
	return func(_ int, r *http.Request) reply {
		if answer, ok := answers[r.Method+" "+r.URL.Path]; ok {
			return answer
		}
		return reply{status: 404, body: c1NotFound}
	}
}

const (
	c1NotFound = `{"code":5,"message":"not found","details":[]}`

	credentialRoute = " /api/v1/apps/app/connectors/conn/credentials/cred1"
	connectorRoute  = "GET /api/v1/apps/app/connectors/conn"
	connectorsRoute = "GET /api/v1/apps/app/connectors"
	decoyRoute      = "GET /api/v1/decoys/decoy1"
	decoysRoute     = "GET /api/v1/decoys"
)

func TestConnectorCredentialExistenceOverTheWire(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]reply
		gone    bool
		reason  Reason
	}{
		"alive":                 {map[string]reply{"GET" + credentialRoute: {body: `{"credential":{"id":"cred1"}}`}}, false, ""},
		"its connector is left": {map[string]reply{connectorRoute: {body: goodConnector}}, true, ""},
		"connector gone too":    {map[string]reply{connectorsRoute: {body: `{"list":[{"connector":{"id":"another"}}],"nextPageToken":""}`}}, true, ""},
		"an app without any":    {map[string]reply{connectorsRoute: {body: `{"list":[]}`}}, true, ""},
		"listed as deleted":     {map[string]reply{connectorsRoute: {body: `{"list":[{"connector":{"id":"conn","deletedAt":"2026-01-01T00:00:00Z"}}]}`}}, true, ""},
		"listed after all":      {map[string]reply{connectorsRoute: {body: `{"list":[{"connector":{"id":"conn"}}]}`}}, false, ReasonNotFound},
		"nothing is there":      {nil, false, ReasonNotFound},
		"another page":          {map[string]reply{connectorsRoute: {body: `{"status":"ok"}`}}, false, ReasonUnavailable},
		"no list":               {map[string]reply{connectorsRoute: {body: `{"list":"none"}`}}, false, ReasonUnavailable},
		"a login page":          {map[string]reply{connectorRoute: {body: `<html>`}}, false, ReasonUnavailable},
		"an empty object":       {map[string]reply{connectorRoute: {body: `{}`}}, false, ReasonUnavailable},
		"its GET is refused":    {map[string]reply{"GET" + credentialRoute: {status: 403}}, false, ReasonForbidden},
		"a proxy's 404":         {map[string]reply{"GET" + credentialRoute: {status: 404, body: `{"code":404,"message":"no route"}`}, connectorRoute: {body: goodConnector}}, false, ReasonNotFound},
		"405":                   {map[string]reply{"GET" + credentialRoute: {status: 405}, connectorRoute: {body: goodConnector}}, false, ReasonRejected},
		"501":                   {map[string]reply{"GET" + credentialRoute: {status: 501}, connectorRoute: {body: goodConnector}}, false, ReasonRejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, &fakeC1{api: routes(c.answers)})
			found, err := client.ConnectorCredentialExistence(t.Context(), "app", "conn", "cred1")
			require.Equal(t, c.gone, found.Gone)
			if c.reason == "" {
				require.NoError(t, err)
			} else {
				requireReason(t, err, c.reason)
			}
		})
	}
}

func TestDecoyExistenceOverTheWire(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]reply
		gone    bool
		reason  Reason
	}{
		"alive":                   {map[string]reply{decoyRoute: {body: `{"decoy":{"id":"decoy1","disabled":true}}`}}, false, ""},
		"not in the list":         {map[string]reply{decoysRoute: {body: `{"list":[{"id":"another"},null,7],"nextPageToken":""}`}}, true, ""},
		"the last one":            {map[string]reply{decoysRoute: {body: `{"list":null,"nextPageToken":""}`}}, true, ""},
		"not on the first page":   {map[string]reply{decoysRoute: {body: `{"list":[{"id":"another"}],"nextPageToken":"2"}`}}, true, ""},
		"in the list":             {map[string]reply{decoysRoute: {body: `{"list":[{"id":"decoy1"}]}`}}, false, ReasonNotFound},
		"the feature is off":      {nil, false, ReasonNotFound},
		"the list may not be had": {map[string]reply{decoysRoute: {status: 403}}, false, ReasonNotFound},
		"the list is a page":      {map[string]reply{decoysRoute: {body: `<html>`}}, false, ReasonUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, &fakeC1{api: routes(c.answers)})
			found, err := client.DecoyExistence(t.Context(), "decoy1")
			require.Equal(t, c.gone, found.Gone)
			if c.reason == "" {
				require.NoError(t, err)
			} else {
				requireReason(t, err, c.reason)
			}
		})
	}
}

func TestEndConnectorCredentialBelievesOnlyC1(t *testing.T) {
	t.Parallel()
	const revoke, get = "POST" + credentialRoute, "GET" + credentialRoute
	shows := reply{body: `{"credential":{"id":"cred1"}}`}
	deleted := reply{body: `{"credential":{"id":"cred1","deletedAt":"2026-01-01T00:00:00Z"}}`}
	for name, c := range map[string]struct {
		answers  map[string]reply
		requests int
		why      string
		reason   Reason
		says     string
	}{
		"revoked":                 {map[string]reply{revoke: {}}, 1, "revoked", "", ""},
		"revoked, with an object": {map[string]reply{revoke: {body: `{"x":1}`}}, 1, "revoked", "", ""},
		"gone already":            {map[string]reply{connectorRoute: {body: goodConnector}}, 3, "still knows its connector", "", ""},
		"deleted already":         {map[string]reply{get: deleted}, 2, "deleted since", "", ""},
		"409, deleted already":    {map[string]reply{revoke: {status: 409}, get: deleted}, 2, "deleted since", "", ""},
		"405, alive":              {map[string]reply{revoke: {status: 405}, get: shows}, 2, "", ReasonRejected, "C1 still shows the credential"},
		"501, alive":              {map[string]reply{revoke: {status: 501}, get: shows}, 2, "", ReasonRejected, "C1 still shows the credential"},
		"404, alive":              {map[string]reply{get: shows}, 2, "", ReasonNotFound, "C1 still shows the credential"},
		"login page, alive":       {map[string]reply{revoke: {body: `<html>`}, get: shows}, 2, "", ReasonUnknown, "C1 still shows the credential"},
		"500, deleted":            {map[string]reply{revoke: {status: 500}, get: deleted}, 2, "deleted since", "", ""},
		"404, nothing proven":     {nil, 5, "", ReasonNotFound, "may be switched off"},
		"404, C1 is busy":         {map[string]reply{get: {status: 429}}, 2, "", ReasonRateLimited, ""},
		"500, C1 is busy":         {map[string]reply{revoke: {status: 500}, get: {status: 429}}, 2, "", ReasonUnknown, "not known"},
		"no right":                {map[string]reply{revoke: {status: 403}}, 1, "", ReasonForbidden, ""},
		"busy":                    {map[string]reply{revoke: {status: 429}}, 1, "", ReasonRateLimited, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: routes(c.answers)}
			client, _ := newClient(t, f, withRetries(0))
			why, err := client.EndConnectorCredential(t.Context(), "app", "conn", "cred1")
			require.Len(t, f.requests, c.requests)
			require.Contains(t, why, c.why)
			require.Equal(t, c.why != "", why != "")
			if c.reason == "" {
				require.NoError(t, err)
				return
			}
			require.Contains(t, failedFor(t, err, c.reason).Message, c.says)
		})
	}
}

func TestTheListOfConnectorsIsWalkedToItsEnd(t *testing.T) {
	t.Parallel()
	f := &fakeC1{api: func(n int, r *http.Request) reply {
		require.Equal(t, "100", r.URL.Query().Get("page_size"))
		require.Equal(t, []string{"", "p/2", "p/3"}[n-1], r.URL.Query().Get("page_token"))
		return reply{body: []string{
			`{"list":[{"connector":{"id":"a"}},{},null,"x"],"nextPageToken":"p/2"}`,
			`{"list":[],"nextPageToken":"p/3"}`,
			`{"list":[{"connector":{"id":"conn"}},{"connector":{"id":"z"}}],"nextPageToken":"p/4"}`,
		}[n-1]}
	}}
	c, _ := newClient(t, f)
	listed, err := c.listsConnector(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.True(t, listed)
	require.Len(t, f.requests, 3, "no page is asked for once it is found")

	for name, c := range map[string]struct {
		page     func(int, *http.Request) reply
		requests int
	}{
		"a page that is its own next": {always(reply{body: `{"list":[],"nextPageToken":"same"}`}), 2},
		"no token":                    {always(reply{body: `{"list":[],"nextPageToken":7}`}), 1},
		"a token of 5 kB":             {always(reply{body: `{"list":[],"nextPageToken":"` + strings.Repeat("x", 5000) + `"}`}), 1},
		"no end": {func(n int, _ *http.Request) reply {
			return reply{body: `{"list":[],"nextPageToken":"` + strings.Repeat("x", n) + `"}`}
		}, maxListPages},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{api: c.page}
			client, _ := newClient(t, f)
			_, err := client.listsConnector(t.Context(), "app", "conn")
			requireReason(t, err, ReasonUnavailable)
			require.Len(t, f.requests, c.requests)
		})
	}
}
