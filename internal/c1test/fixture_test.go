// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// fixture is a tenant with a caller that sends what it is told.
type fixture struct {
	*c1test.Tenant
	emulator *c1test.Emulator
	http     *http.Client
}

func start(t *testing.T, o c1test.Options) *fixture {
	t.Helper()
	emulator := c1test.StartT(t, o)
	client, err := c1test.NewHTTPClient(emulator.CACertPEM())
	require.NoError(t, err)
	return &fixture{Tenant: emulator.Default(), emulator: emulator, http: client}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) decode(t *testing.T, out any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(r.body, out), "status %d", r.status)
}

// field returns the value at a path of field names, which must be there.
func (r reply) field(t *testing.T, path ...string) any {
	t.Helper()
	var value any
	r.decode(t, &value)
	for _, name := range path {
		object, isObject := value.(map[string]any)
		require.True(t, isObject, "%v in status %d", path, r.status)
		require.Contains(t, object, name)
		value = object[name]
	}
	return value
}

// failure returns the code and message of C1's error form.
func (r reply) failure(t *testing.T) (int, string) {
	t.Helper()
	var out struct {
		Code    int
		Message string
		Details []any
	}
	r.decode(t, &out)
	require.NotNil(t, out.Details, "C1's error form has details")
	return out.Code, out.Message
}

// do sends a request with these headers and nothing else.
func (f *fixture) do(t *testing.T, method, path, body string, header map[string]string) (reply, error) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, f.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	rq.Header.Set("User-Agent", "fixture/1")
	for name, value := range header {
		rq.Header.Set(name, value)
	}
	response, err := f.http.Do(rq)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	received, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return reply{status: response.StatusCode, header: response.Header, body: received}, err
}

func read(t *testing.T, response *http.Response) reply {
	t.Helper()
	received, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	require.NoError(t, err)
	return reply{status: response.StatusCode, header: response.Header, body: received}
}

// call is an API call of the seeded identity.
func (f *fixture) call(t *testing.T, method, path, body string) reply {
	t.Helper()
	answer, err := f.callWith(t, f.StaticToken(), method, path, body)
	require.NoError(t, err)
	return answer
}

func (f *fixture) callWith(t *testing.T, bearer, method, path, body string) (reply, error) {
	t.Helper()
	header := map[string]string{"Authorization": "Bearer " + bearer}
	if body != "" {
		header["Content-Type"] = "application/json"
	}
	return f.do(t, method, path, body, header)
}

// login posts a form to the token endpoint.
func (f *fixture) login(t *testing.T, form url.Values) reply {
	t.Helper()
	answer, err := f.do(t, http.MethodPost, "/auth/v1/token", form.Encode(),
		map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
	require.NoError(t, err)
	return answer
}

func (r reply) oauthError(t *testing.T) string {
	t.Helper()
	var out struct {
		Error string `json:"error"`
	}
	r.decode(t, &out)
	return out.Error
}

// rotateBody is the request to rotate a connector.
func rotateBody(ref c1test.ConnectorRef) string {
	return `{"appId":"` + ref.AppID + `","connectorId":"` + ref.ConnectorID + `"}`
}

const rotatePath = "/api/v1/apps/connectors/credentials"

// credential is the part of a rotation's answer that tests look at.
type credential struct {
	ID           string
	AppID        string
	ConnectorID  string
	ClientID     string
	ClientSecret string
	ExpiresTime  time.Time
}

func (f *fixture) rotateConnector(t *testing.T, ref c1test.ConnectorRef) credential {
	t.Helper()
	answer := f.call(t, http.MethodPost, rotatePath, rotateBody(ref))
	require.Equal(t, http.StatusOK, answer.status)
	var out struct{ Credential credential }
	answer.decode(t, &out)
	return out.Credential
}

func credentialPath(ref c1test.ConnectorRef, id string) string {
	return "/api/v1/apps/" + ref.AppID + "/connectors/" + ref.ConnectorID + "/credentials/" + id
}

// material is what a decoy's rotation vends.
type material struct {
	Decoy struct {
		ID          string
		DisplayName string
		Description string
		Kind        c1test.Kind
		Disabled    bool
		Annotations map[string]string
		Fingerprint string `json:"materialFingerprintSha256"`
	}
	Material struct {
		ClientCredential *struct{ ClientID, ClientSecret string }
		AccessToken      *struct{ AccessToken string }
		Federation       *struct {
			TrustID string `json:"workloadFederationTrustId"`
		} `json:"workloadFederation"`
	}
}

func (f *fixture) rotateDecoy(t *testing.T, id string) material {
	t.Helper()
	answer := f.call(t, http.MethodPost, "/api/v1/decoys/"+id+"/rotate", "{}")
	require.Equal(t, http.StatusOK, answer.status)
	var out material
	answer.decode(t, &out)
	return out
}

// clock is a clock that moves when it is told to.
type clock struct{ offset atomic.Int64 }

var clockStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time          { return clockStart.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }
