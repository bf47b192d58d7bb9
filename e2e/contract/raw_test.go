// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The emulator's refusals of requests that the client would never send keep
// the contract too.
func TestRefusalsOfBadRequestsKeepTheContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.recorder.answersOnly = true
	const (
		rotate = "/api/v1/apps/connectors/credentials"
		asForm = "application/x-www-form-urlencoded"
	)
	for name, test := range map[string]struct {
		method, path, contentType, body string
		status                          int
	}{
		"no body":               {http.MethodPost, rotate, typeJSON, "", 400},
		"no JSON":               {http.MethodPost, rotate, typeJSON, "appId=1", 400},
		"a field in wrong case": {http.MethodPost, rotate, typeJSON, `{"appid":"a","connectorid":"b"}`, 400},
		"a wrong type":          {http.MethodPost, rotate, typeJSON, `{"appId":1,"connectorId":"b"}`, 400},
		"a wrong content type":  {http.MethodPost, rotate, asForm, `{"appId":"a","connectorId":"b"}`, 415},
		"no kind of decoy":      {http.MethodPost, "/api/v1/decoys", typeJSON, `{"displayName":"x"}`, 400},
		"a token as JSON":       {http.MethodPost, "/auth/v1/token", typeJSON, `{"grant_type":"client_credentials"}`, 400},
		"an empty token form":   {http.MethodPost, "/auth/v1/token", asForm, "", 400},
		"an unknown grant":      {http.MethodPost, "/auth/v1/token", asForm, "grant_type=password&client_id=x", 400},
		"a broken assertion": {
			http.MethodPost, "/auth/v1/token", asForm,
			"grant_type=client_credentials&client_id=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=a.b.c", 401,
		},
	} {
		assert.Equal(t, test.status, f.raw(t, test.method, test.path, test.contentType, test.body), name)
	}
	assert.Empty(t, f.recorder.found())
}

// canned answers every request with the same body.
type canned string

func (c canned) RoundTrip(rq *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(c))), Request: rq,
	}, nil
}

// Without this the tests above could pass because nothing is validated.
func TestRecorderCatchesWhatBreaksTheContract(t *testing.T) {
	t.Parallel()
	const (
		rotateDecoy = "/api/v1/decoys/x/rotate"
		form        = "grant_type=client_credentials&client_id=a-b-1@h/spc&"
		goodToken   = `{"access_token":"t","token_type":"Bearer","expires_in":600}`
	)
	for name, test := range map[string]struct {
		path, contentType, body, answer string
		problem                         string
	}{
		"nothing wrong":                  {rotateDecoy, "application/json", "{}", "{}", ""},
		"nothing wrong with a login":     {"/auth/v1/token", "application/x-www-form-urlencoded", form + "client_secret=s", goodToken, ""},
		"an unknown field in a request":  {rotateDecoy, "application/json", `{"force":true}`, "{}", "rotateDecoy: request"},
		"no body, which C1 allows":       {rotateDecoy, "application/json", "", "{}", ""},
		"a wrong content type":           {rotateDecoy, "text/plain", "{}", "{}", "rotateDecoy: request"},
		"an unknown form field":          {"/auth/v1/token", "application/x-www-form-urlencoded", form + "client_secret=s&scope=x", goodToken, "token: request"},
		"two credentials in a login":     {"/auth/v1/token", "application/x-www-form-urlencoded", form + "client_secret=s&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=a.b.c", goodToken, "token: request"},
		"an answer without a token":      {"/auth/v1/token", "application/x-www-form-urlencoded", form + "client_secret=s", "{}", "token 200: answer"},
		"a wrong type in an answer":      {rotateDecoy, "application/json", "{}", `{"decoy":{"disabled":"no"}}`, "rotateDecoy 200: answer"},
		"a time that is none":            {rotateDecoy, "application/json", "{}", `{"decoy":{"createdAt":"yesterday"}}`, "rotateDecoy 200: answer"},
		"an operation that is not there": {"/api/v1/decoys/x/explode", "application/json", "{}", "{}", "not in the description"},
	} {
		r := newRecorder(readDescription(t), canned(test.answer))
		rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://acme.example"+test.path, strings.NewReader(test.body))
		require.NoError(t, err)
		rq.Header.Set("Content-Type", test.contentType)
		rq.Header.Set("Authorization", "Bearer x")
		response, err := r.RoundTrip(rq)
		require.NoError(t, err, name)
		require.NoError(t, response.Body.Close())
		if test.problem == "" {
			assert.Empty(t, r.found(), name)
			continue
		}
		assert.Contains(t, strings.Join(r.found(), "\n"), test.problem, name)
	}
}
