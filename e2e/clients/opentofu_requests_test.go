// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var recordRequests = flag.Bool("record", false, "write down what the Vault provider asks, for the replay")

// recordedRequests is what the Vault provider 5.11.0 asked in each step of the story:
// the status of the answer, the method, the path, and the body.
const recordedRequests = "testdata/opentofu-requests.txt"

const recordedHead = `# What the Vault provider asks for examples/terraform, step by step. Written by
#   C1_CLIENTS_VAULT_PROVIDER=… go test -run '^TestOpenTofuAppliesTheExample$' . -args -record
`

// providerSources says where the provider makes each of its requests, by files of
// github.com/hashicorp/terraform-provider-vault, release 5.11.0.
var providerSources = map[string]*regexp.Regexp{
	// The token is looked up, a child of it made, and that one used from then on.
	"internal/provider/meta.go, setClient":        regexp.MustCompile(`^GET auth/token/lookup-self$`),
	"internal/provider/meta.go, createChildToken": regexp.MustCompile(`^POST auth/token/create \{"display_name":"terraform",`),
	"internal/provider/meta.go, getVaultVersion":  regexp.MustCompile(`^GET sys/seal-status$`),

	"vault/resource_plugin.go":           regexp.MustCompile(`^(PUT|GET|DELETE) sys/plugins/catalog/secret/vault-plugin-c1\b`),
	"vault/resource_mount.go":            regexp.MustCompile(`^(POST|DELETE) sys/mounts/c1\b|^POST sys/mounts/c1/tune `),
	"util/mountutil/mountutil.go":        regexp.MustCompile(`^GET sys/mounts/c1$`),
	"vault/resource_policy.go":           regexp.MustCompile(`^(PUT|GET|DELETE) sys/policies/acl/(okta-reader|bait-planter)\b`),
	"vault/resource_generic_endpoint.go": regexp.MustCompile(`^(PUT|GET) c1/config\b|^(PUT|GET|DELETE) c1/(connectors/okta|decoys/bait)\b`),
	"vault/resource_kv_secret_v2.go":     regexp.MustCompile(`^(PUT|GET|DELETE) secret/(data|metadata)/connectors/okta\b`),

	// The data source asks first whether the path lies in a mount of KV version 2.
	"vault/data_source_generic_secret.go and vault/kv_helpers.go": regexp.MustCompile(`^GET (sys/internal/ui/mounts/)?c1/connectors/okta$`),

	"internal/vault/generic/generic_endpoint_ephemeral.go": regexp.MustCompile(`^PUT c1/config \{"ca_cert":`),
	"internal/vault/secrets/ephemeral/generic_secret.go":   regexp.MustCompile(`^GET c1/connector-creds/okta$`),
}

// requestLog is a way to the server on which each request is written down.
type requestLog struct {
	url   string
	mu    sync.Mutex
	names *names
	steps []recordedStep
}

// recordedStep is what was asked of the server in one step of the story.
type recordedStep struct {
	name     string
	requests []string
}

// record starts one. In what it writes down, names stand in the place of values.
func record(t *testing.T, server string, names *names) *requestLog {
	t.Helper()
	target, err := url.Parse(server)
	require.NoError(t, err)
	log, proxy := &requestLog{names: names}, httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r)
		log.write(r, body, answer)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // who has gone asks again
	}))
	t.Cleanup(front.Close)
	log.url = front.URL
	return log
}

// step begins one.
func (l *requestLog) step(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, recordedStep{name: name})
}

// forget drops the step that began last.
func (l *requestLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = l.steps[:len(l.steps)-1]
}

func (l *requestLog) write(r *http.Request, body []byte, answer *httptest.ResponseRecorder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Sprintf("%d %s %s", answer.Code, r.Method, strings.TrimPrefix(r.URL.RequestURI(), "/v1/"))
	if len(body) > 0 {
		line += " " + l.names.hide(body)
	}
	l.names.learn(r.URL.Path, answer.Body.Bytes())
	if len(l.steps) > 0 {
		last := &l.steps[len(l.steps)-1]
		last.requests = append(last.requests, line)
	}
}

func (l *requestLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text strings.Builder
	text.WriteString(recordedHead)
	for _, s := range l.steps {
		_, _ = fmt.Fprintf(&text, "\n== %s\n", s.name)
		for _, r := range s.requests {
			_, _ = fmt.Fprintln(&text, r)
		}
	}
	return text.String()
}

// readRecorded reads what was written down.
func readRecorded(t *testing.T) []recordedStep {
	t.Helper()
	raw, err := os.ReadFile(recordedRequests)
	require.NoError(t, err)
	var steps []recordedStep
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		name, begins := strings.CutPrefix(line, "== ")
		switch {
		case begins:
			steps = append(steps, recordedStep{name: name})
		case line != "" && !strings.HasPrefix(line, "#"):
			last := &steps[len(steps)-1]
			last.requests = append(last.requests, line)
		}
	}
	return steps
}

// requireRecorded checks that the provider asked what the replay asks, in whichever
// order where that is left to it; or writes it down for the replay.
func (l *requestLog) requireRecorded(t *testing.T) {
	t.Helper()
	if *recordRequests {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(recordedRequests, []byte(l.String()), 0o644))
		return
	}
	recorded := readRecorded(t)
	require.Len(t, l.steps, len(recorded))
	for i, s := range recorded {
		require.Equal(t, s.name, l.steps[i].name)
		require.Equal(t, slices.Sorted(slices.Values(s.requests)), slices.Sorted(slices.Values(l.steps[i].requests)), "in %q: if the provider is a newer one, record anew", s.name)
	}
}

// names stand for what differs in each run, and for secrets.
type names struct {
	mu     sync.Mutex
	values map[string]string
}

// hide is a JSON document with names in the place of values.
func (n *names) hide(body []byte) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return rewrite(body, func(text string) string {
		for name, value := range n.values {
			text = strings.ReplaceAll(text, value, name)
		}
		return text
	})
}

var aName = regexp.MustCompile(`\$[A-Z][A-Z0-9_]*`)

// show is a JSON document with values in the place of names.
func (n *names) show(body string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return rewrite([]byte(body), func(text string) string {
		return aName.ReplaceAllStringFunc(text, func(name string) string { return n.values[name] })
	})
}

// learn takes from a read what is written elsewhere afterwards.
func (n *names) learn(path string, answer []byte) {
	if !strings.HasPrefix(path, "/v1/c1/connector-creds/") {
		return
	}
	var vended struct{ Data fields }
	if json.Unmarshal(answer, &vended) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for field, name := range map[string]string{"client_id": "$OKTA_CLIENT_ID", "client_secret": "$OKTA_CLIENT_SECRET"} {
		if value, ok := vended.Data[field].(string); ok {
			n.values[name] = value
		}
	}
}

// rewrite changes every text of a JSON document.
func rewrite(body []byte, change func(string) string) string {
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		return "no JSON"
	}
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			return change(v)
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case fields:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(walk(document)); err != nil {
		return "no JSON"
	}
	return strings.TrimSpace(out.String())
}

// replay sends what the provider sent, and sees to it that the provider would have
// found what it had written.
type replay struct {
	*terraform
	steps   []recordedStep
	child   string            // the token in use
	written map[string]fields // by the path
}

func newReplay(f *terraform) *replay {
	f.t.Helper()
	return &replay{terraform: f, steps: readRecorded(f.t), written: map[string]fields{}}
}

// play sends the requests of the next step.
func (r *replay) play(name string) {
	r.t.Helper()
	require.NotEmpty(r.t, r.steps, "the step %q was not recorded", name)
	next := r.steps[0]
	r.steps = r.steps[1:]
	require.Equal(r.t, name, next.name)
	for _, request := range next.requests {
		status, request, _ := strings.Cut(request, " ")
		requireSource(r.t, request)
		want, err := strconv.Atoi(status)
		require.NoError(r.t, err)
		method, rest, _ := strings.Cut(request, " ")
		path, body, _ := strings.Cut(rest, " ")
		r.send(want, method, path, body)
	}
}

func requireSource(t *testing.T, request string) {
	t.Helper()
	for _, made := range providerSources {
		if made.MatchString(request) {
			return
		}
	}
	t.Fatalf("where does the provider ask %q?", request)
}

func (r *replay) send(want int, method, path, body string) {
	r.t.Helper()
	if body != "" {
		body = r.requests.names.show(body)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.requests.url+"/v1/"+path, strings.NewReader(body))
	require.NoError(r.t, err)
	token := r.child
	if strings.HasPrefix(path, "auth/token/") {
		token = r.token
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	if resp.StatusCode >= http.StatusBadRequest { // else it may hold a secret
		require.Equal(r.t, want, resp.StatusCode, "%s %s: %s", method, path, raw)
	}
	require.Equal(r.t, want, resp.StatusCode, "%s %s", method, path)
	r.look(method, path, body, raw)
}

// look compares what is read with what was written, as the provider does.
func (r *replay) look(method, path, body string, raw []byte) {
	r.t.Helper()
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		}
		Data fields
	}
	if len(raw) > 0 {
		require.NoError(r.t, json.Unmarshal(raw, &answer), "%s %s", method, path)
	}
	if path == "auth/token/create" {
		r.child = answer.Auth.Token
		return
	}
	path, _, _ = strings.Cut(path, "?")
	switch method {
	case http.MethodDelete:
		delete(r.written, path)
	case http.MethodPut, http.MethodPost:
		var sent fields
		require.NoError(r.t, json.Unmarshal([]byte(body), &sent))
		if sent["client_secret"] == nil { // the ephemeral endpoint compares nothing
			r.written[path] = sent
		}
	case http.MethodGet:
		r.requireReadBack(path, answer.Data)
	}
}

// requireReadBack checks each field that was written of what the example declares.
func (r *replay) requireReadBack(path string, data fields) {
	r.t.Helper()
	sent := r.written[path]
	if strings.HasPrefix(path, "secret/") || sent == nil || data == nil {
		return // write-only: the provider compares nothing but versions
	}
	if config, ok := sent["config"].(fields); ok { // of a mount
		read := data["config"].(fields)
		for _, field := range []string{"audit_non_hmac_request_keys", "audit_non_hmac_response_keys"} {
			require.Equal(r.t, config[field], read[field], path)
		}
		require.Equal(r.t, sent["type"], data["type"])
		return
	}
	for field, value := range sent {
		if path == "sys/plugins/catalog/secret/vault-plugin-c1" && field == "type" {
			continue // part of the path
		}
		// Without the values: who knows which field it is.
		require.True(r.t, reflect.DeepEqual(value, data[field]), "%s of %s reads back as something else, and each plan shows a difference", field, path)
	}
}
