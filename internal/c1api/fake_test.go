// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

const (
	testClientID = "strange-hydra-68836@acme.conductor.one/pcc"
	testPassword = "plain-client-secret-0123456789"
)

// reply is what the fake C1 does with one request.
type reply struct {
	status  int
	header  map[string]string
	body    string
	unsent  error // fail before there is a connection
	lost    error // take the request, fail instead of answering
	cutBody error // answer, fail in the middle of the body
}

// sentRequest is one request that reached the fake C1.
type sentRequest struct {
	method, path, query, body string
	header                    http.Header
}

// fakeC1 is a C1 without sockets, so that it also works inside a synctest
// bubble: an http.RoundTripper that runs httptrace hooks as http.Transport does.
type fakeC1 struct {
	token func(n int, r *http.Request) reply // nil: tokens t1, t2, …
	api   func(n int, r *http.Request) reply // nil: 200 {}
	skew  time.Duration                      // C1's clock minus ours

	mu       sync.Mutex
	mints    int
	requests []sentRequest // without token requests
	asked    int           // API requests, unsent ones included
	forms    []string      // bodies of token requests
}

func (f *fakeC1) RoundTrip(req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	if trace == nil {
		trace = &httptrace.ClientTrace{}
	}
	if trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r := f.answer(req, body)
	if r.unsent != nil {
		return nil, r.unsent
	}
	if trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if r.lost != nil {
		return nil, r.lost
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	res := &http.Response{
		StatusCode: r.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: -1,
		Header: http.Header{"Date": {time.Now().Add(f.skew).UTC().Format(http.TimeFormat)}, "Content-Type": {"application/json"}},
	}
	for k, v := range r.header {
		res.Header.Set(k, v)
	}
	res.Body = io.NopCloser(strings.NewReader(r.body))
	if r.cutBody != nil {
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader(r.body), failingReader{r.cutBody}))
	}
	return res, nil
}

func (f *fakeC1) answer(req *http.Request, body []byte) reply {
	f.mu.Lock()
	if req.URL.Path == tokenPath {
		f.mints++
		n, token := f.mints, f.token
		f.forms = append(f.forms, string(body))
		f.mu.Unlock()
		if token == nil {
			return tokenReply(fmt.Sprintf("t%d", n), 600)
		}
		return token(n, req)
	}
	f.asked++
	n, api := f.asked, f.api
	f.mu.Unlock()
	r := reply{body: "{}"}
	if api != nil {
		r = api(n, req)
	}
	if r.unsent == nil {
		f.mu.Lock()
		f.requests = append(f.requests, sentRequest{req.Method, req.URL.EscapedPath(), req.URL.RawQuery, string(body), req.Header})
		f.mu.Unlock()
	}
	return r
}

func (f *fakeC1) counts() (mints, requests int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mints, len(f.requests)
}

func tokenReply(token string, expiresIn int) reply {
	return reply{body: fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, token, expiresIn)}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// always makes an api function of one reply.
func always(r reply) func(int, *http.Request) reply {
	return func(int, *http.Request) reply { return r }
}

// inTurn gives one reply after the other; the last one stays.
func inTurn(replies ...reply) func(int, *http.Request) reply {
	return func(n int, _ *http.Request) reply { return replies[min(n, len(replies))-1] }
}

// newClient is a client of the fake, with a plain secret unless edit says
// otherwise. What it logs goes to the returned buffer.
func newClient(t *testing.T, f *fakeC1, edit ...func(*Options)) (*Client, *syncBuffer) {
	t.Helper()
	logged := &syncBuffer{}
	o := Options{
		URL: "https://acme.conductor.one", ClientID: testClientID, ClientSecret: testPassword,
		RequestTimeout: 10 * time.Second, MaxRetries: 3, Transport: f, UserAgent: "vault-plugin-c1/test",
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: logged}),
	}
	for _, e := range edit {
		e(&o)
	}
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, logged
}

func withKey(secret string) func(*Options)          { return func(o *Options) { o.ClientSecret = secret } }
func withRetries(n int) func(*Options)              { return func(o *Options) { o.MaxRetries = n } }
func withClock(now func() time.Time) func(*Options) { return func(o *Options) { o.Now = now } }

func withBearer(token string) func(*Options) {
	return func(o *Options) { o.ClientID, o.ClientSecret, o.AccessToken = "", "", token }
}

// newSecret makes a secret in C1's form and its public key.
func newSecret(t testing.TB) (string, ed25519.PublicKey) {
	t.Helper()
	return newSecretWith(t, nil)
}

// newSecretWith is newSecret with more members in the JWK.
func newSecretWith(t testing.TB, more map[string]any) (string, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	jwk := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "d": b64(private.Seed())}
	maps.Copy(jwk, more)
	return secretOf(t, jwk), public
}

// secretOf wraps a JWK, or what pretends to be one.
func secretOf(t testing.TB, jwk any) string {
	t.Helper()
	text, err := json.Marshal(jwk)
	require.NoError(t, err)
	return "secret-token:conductorone.com:v1:" + b64(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// syncBuffer is a bytes.Buffer for several writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// requireReason checks that a call failed for this reason.
func requireReason(t *testing.T, err error, want Reason) {
	t.Helper()
	require.NotNil(t, failedFor(t, err, want))
}

// failedFor is requireReason, and returns the error.
func failedFor(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	require.Error(t, err)
	e := AsError(err)
	require.NotNil(t, e, "not an *Error: %v", err)
	require.Equal(t, want, e.Reason, e.Error())
	require.NotEmpty(t, e.Op)
	require.NotEmpty(t, e.Message)
	return e
}

const (
	goodCredential = `{"credential":{"id":"cred1","appId":"app","connectorId":"conn","displayName":"d","clientId":"cid","clientSecret":"s3cr3t-value","createdAt":"2026-01-01T00:00:00Z","updatedAt":null,"deletedAt":null,"expiresTime":null,"lastUsedAt":null,"new":{"field":1}}}`
	goodDecoy      = `{"decoy":{"id":"decoy1","kind":"DECOY_KIND_NEW","displayName":null,"annotations":null,"disabled":null},"material":{"clientCredential":{"clientId":"cid","clientSecret":"s3cr3t-value"},"accessToken":null}}`
	goodConnector  = `{"connectorView":{"connector":{"id":"conn","appId":"app","displayName":"GitHub"}},"expanded":[]}`
)
