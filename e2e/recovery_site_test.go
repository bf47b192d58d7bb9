// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	// requestTimeout is what every mount of these tests allows one call to C1.
	requestTimeout = 2 * time.Second
	// settled is how long the engine may take to settle an unknown outcome:
	// twice the request timeout, the rest of a minute, and a margin.
	settled = 2*requestTimeout + time.Minute + 15*time.Second

	bindingName = "app" // of every site that newSites makes
)

// subject is the kind of target that a case is about.
type subject struct {
	name      string
	semantics c1test.Semantics // of a connector
	decoy     c1test.Kind      // of a decoy
}

var (
	exclusiveConnector   = subject{name: "connector, exclusive", semantics: c1test.Exclusive}
	overlappingConnector = subject{name: "connector, overlapping", semantics: c1test.Overlapping}
	decoyWithFingerprint = subject{name: "decoy", decoy: c1test.KindUserClientCredential}
	decoyWithoutSecret   = subject{name: "decoy without a fingerprint", decoy: c1test.KindWorkloadFederation}
)

// site is one mount with one binding and a C1 tenant of its own, so that
// whatever is counted there was caused there.
type site struct {
	subject
	server    *vaulttest.Server
	c1        *c1test.Tenant
	mount     string
	binding   string
	connector c1test.ConnectorRef
	decoyID   string
}

// startServer runs a server of the test's own, with the plugin registered.
func startServer(t *testing.T, o vaulttest.Options) *vaulttest.Server {
	t.Helper()
	server := vaulttest.Start(t, o)
	server.RegisterPlugin()
	return server
}

// newSites makes one site per subject, on one server and one emulator.
func newSites(t *testing.T, server *vaulttest.Server, subjects []subject) []*site {
	t.Helper()
	sites := unboundSites(t, server, subjects, nil)
	for _, s := range sites {
		s.bind(nil)
	}
	return sites
}

// unboundSites is newSites without the bindings, and with more in each config.
func unboundSites(t *testing.T, server *vaulttest.Server, subjects []subject, config map[string]any) []*site {
	t.Helper()
	var tenants []string
	for i := range subjects {
		tenants = append(tenants, fmt.Sprintf("tenant-%d", i))
	}
	emulator := server.Emulator(c1test.Options{Tenants: tenants})
	var sites []*site
	for i, what := range subjects {
		s := &site{subject: what, server: server, c1: emulator.Tenants()[i], mount: fmt.Sprintf("c1-%d", i), binding: bindingName}
		if what.semantics != "" {
			s.c1.SetSemantics(what.semantics)
		}
		s.connector, s.decoyID = s.c1.Connector(), s.c1.Decoy(what.decoy)
		server.Mount(s.mount)
		fields := map[string]any{"history_limit": 200}
		maps.Copy(fields, config)
		server.Configure(s.mount, s.c1, fields)
		sites = append(sites, s)
	}
	return sites
}

func (s *site) isDecoy() bool { return s.decoy != "" }

func (s *site) bind(extra map[string]any) {
	fields := map[string]any{"rotate_on": "read"}
	maps.Copy(fields, extra)
	if s.isDecoy() {
		s.server.BindDecoy(s.mount, s.binding, s.decoyID, fields)
	} else {
		s.server.BindConnector(s.mount, s.binding, s.connector, fields)
	}
}

func (s *site) bindingPath() string {
	if s.isDecoy() {
		return s.mount + "/decoys/" + s.binding
	}
	return s.mount + "/connectors/" + s.binding
}

func (s *site) credsPath() string {
	if s.isDecoy() {
		return s.mount + "/decoy-creds/" + s.binding
	}
	return s.mount + "/connector-creds/" + s.binding
}

func (s *site) rotateOp() string {
	if s.isDecoy() {
		return c1test.OpRotateDecoy
	}
	return c1test.OpRotateConnector
}

// asked counts the rotations that C1 was asked for, whatever became of them.
func (s *site) asked() int { return s.c1.Requests(s.rotateOp()) }

// committed counts the rotations that C1 carried out.
func (s *site) committed() int { return s.c1.Changes(s.rotateOp()) }

// vended is what a vend handed out.
type vended struct {
	LeaseID      string
	Version      int
	CredentialID string
	Fingerprint  string
	TrustID      string // of workload federation, which has no fingerprint
	Warnings     []string
}

// vend reads the material once.
func (s *site) vend(ctx context.Context) (vended, error) { return s.vendWith(ctx, s.server.Root) }

func (s *site) vendWith(ctx context.Context, client *api.Client) (vended, error) {
	secret, err := client.Logical().ReadWithContext(ctx, s.credsPath())
	if err != nil {
		return vended{}, err
	}
	return vended{
		LeaseID: secret.LeaseID, Version: number(secret.Data["version"]), CredentialID: text(secret.Data["credential_id"]),
		Fingerprint: text(secret.Data["fingerprint_sha256"]), TrustID: text(secret.Data["workload_federation_trust_id"]),
		Warnings: secret.Warnings,
	}, nil
}

func (s *site) mustVend(t testing.TB) vended {
	t.Helper()
	v, err := s.vend(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, v.LeaseID)
	return v
}

// alive says whether the vended material is good at C1 now; a decoy's is while
// it is the decoy's current one.
func (s *site) alive(v vended) bool {
	if !s.isDecoy() {
		return slices.ContainsFunc(s.c1.AliveCredentials(s.connector), func(c c1test.Credential) bool { return c.ID == v.CredentialID })
	}
	return s.c1.DecoyFingerprint(s.decoyID) == v.Fingerprint
}

// health is what the binding and the mount's status say.
type health struct {
	State       string
	Problems    []string
	Version     int
	LiveLeases  int
	Fingerprint string

	Healthy                                bool
	Ambiguous, Drifted, Retiring, Rotating int
	Attention                              []attention
}

type attention struct {
	Kind    string `json:"kind"`
	Binding string `json:"binding"`
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`
}

func (s *site) health(ctx context.Context) (health, error) {
	binding, err := read(ctx, s.server.Root, s.bindingPath())
	if err != nil {
		return health{}, err
	}
	status, err := read(ctx, s.server.Root, s.mount+"/status")
	if err != nil {
		return health{}, err
	}
	h := health{
		State: text(binding["state"]), Version: number(binding["version"]), LiveLeases: number(binding["live_leases"]),
		Fingerprint: text(binding["fingerprint_sha256"]),
		Healthy:     status["healthy"] == true,
		Ambiguous:   number(status["ambiguous"]), Drifted: number(status["drifted"]),
		Retiring: number(status["retiring"]), Rotating: number(status["rotating"]),
	}
	return h, errors.Join(convert(binding["problems"], &h.Problems), convert(status["attention"], &h.Attention))
}

func (s *site) mustHealth(t testing.TB) health {
	t.Helper()
	h, err := s.health(t.Context())
	require.NoError(t, err)
	return h
}

// requireHealthy says that nothing needs a person and that this was vended last.
func (s *site) requireHealthy(t testing.TB, last vended) {
	t.Helper()
	h := s.mustHealth(t)
	require.Equal(t, "ready", h.State, "problems: %v", h.Problems)
	require.True(t, h.Healthy, "attention: %v", h.Attention)
	require.Empty(t, h.Attention)
	require.Zero(t, h.Ambiguous+h.Drifted+h.Retiring)
	require.Equal(t, last.Version, h.Version)
	require.True(t, s.alive(last), "what was vended last is dead at C1, and the binding looks healthy")
}

// requireAmbiguous says that both places where a person looks show it.
func (s *site) requireAmbiguous(t testing.TB) health {
	t.Helper()
	h := s.mustHealth(t)
	require.Equal(t, "ambiguous", h.State)
	require.False(t, h.Healthy)
	require.Equal(t, 1, h.Ambiguous)
	return h
}

// record is a rotation record as history shows it.
type record struct {
	Version      int    `json:"version"`
	Outcome      string `json:"outcome"`
	Reason       string `json:"reason"`
	RequestID    string `json:"request_id"`
	CredentialID string `json:"credential_id"`
	Fingerprint  string `json:"fingerprint_sha256"`
	EndsAt       string `json:"ends_at"`
	EndedAt      string `json:"ended_at"`
	StartedAt    string `json:"started_at"`
	FinishedAt   string `json:"finished_at"`
	Error        string `json:"error"`
}

// history returns the records, newest first.
func (s *site) history(t testing.TB) []record {
	t.Helper()
	data, err := read(t.Context(), s.server.Root, s.bindingPath()+"/history")
	require.NoError(t, err)
	var records []record
	require.NoError(t, convert(data["records"], &records))
	return records
}

// outcomes are those of the records, newest first.
func (s *site) outcomes(t testing.TB) []string {
	t.Helper()
	var outcomes []string
	for _, r := range s.history(t) {
		outcomes = append(outcomes, r.Outcome)
	}
	return outcomes
}

// leases are the IDs of the binding's leases.
func (s *site) leases(t testing.TB) []string {
	t.Helper()
	secret, err := s.server.Root.Logical().ListWithContext(t.Context(), "sys/leases/lookup/"+s.credsPath())
	require.NoError(t, err)
	if secret == nil {
		return nil
	}
	var keys []string
	require.NoError(t, convert(secret.Data["keys"], &keys))
	return keys
}

// underWay is a vend that C1 holds at a barrier.
type underWay struct {
	*site
	barrier *c1test.Barrier
	answer  chan error
	got     vended
}

// vendAndHold begins a vend and returns once C1 holds it.
func (s *site) vendAndHold(ctx context.Context, t testing.TB, when c1test.When, client *api.Client) *underWay {
	t.Helper()
	u := &underWay{site: s, barrier: s.c1.Hold(s.rotateOp(), when), answer: make(chan error, 1)}
	go func() {
		var err error
		u.got, err = s.vendWith(ctx, client)
		u.answer <- err
	}()
	select {
	case <-u.barrier.Arrived():
	case err := <-u.answer:
		t.Fatalf("%s: the vend was answered before it reached C1: %v", s.name, err)
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: the vend did not reach C1", s.name)
	}
	return u
}

// wait returns the caller's answer.
func (u *underWay) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-u.answer:
		return err
	case <-time.After(100 * time.Second):
		t.Fatalf("%s: the caller was never answered", u.name)
		return nil
	}
}

// statusOf returns the HTTP status of Vault's answer, and 0 when there was none.
func statusOf(err error) int {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// untilSettled waits for what the engine does by itself at a full minute.
func untilSettled(t testing.TB, try func() error) {
	t.Helper()
	eventuallyWithin(t, settled, try)
}

// eventuallyWithin looks once a second, since a minute is what it waits for.
func eventuallyWithin(t testing.TB, timeout time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", timeout, err)
		}
		<-ticker.C
	}
}

// untilBack waits until requests reach the plugin's next process: those that
// come while Vault has not noticed the death of the last one are answered 500.
func untilBack(t testing.TB, sites []*site) {
	t.Helper()
	for _, s := range sites {
		vaulttest.Eventually(t, 10*time.Second, func() error {
			_, err := s.health(t.Context())
			return err
		})
	}
}

// audited counts the lines of the audit log that hold each of these texts.
func audited(server *vaulttest.Server, texts ...string) int {
	n := 0
	for line := range strings.Lines(server.AuditLog()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// untilAudited waits for at least so many lines in the audit log.
func untilAudited(t testing.TB, server *vaulttest.Server, atLeast int, texts ...string) {
	t.Helper()
	vaulttest.Eventually(t, 20*time.Second, func() error {
		if n := audited(server, texts...); n < atLeast {
			return fmt.Errorf("the audit log has %d lines with %q, and not %d", n, texts, atLeast)
		}
		return nil
	})
}

// ordinaryClient repeats requests by itself, as Vault's Go clients do.
func ordinaryClient(t testing.TB, s *vaulttest.Server) *api.Client {
	t.Helper()
	client := s.Client(s.Root.Token())
	client.SetMaxRetries(api.DefaultConfig().MaxRetries)
	return client
}

func read(ctx context.Context, client *api.Client, path string) (map[string]any, error) {
	secret, err := client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, &api.ResponseError{StatusCode: http.StatusNotFound, URL: path}
	}
	return secret.Data, nil
}

func convert(from, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) int {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return int(i)
}
