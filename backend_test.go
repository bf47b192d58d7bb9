// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-uuid"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const testVersion = "v0.0.0-test"

// clock is a time that tests move; engine and emulator share it.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// errStorage is what a failing storage answers; over gRPC Vault's own errors
// are bare strings as well.
var errStorage = errors.New("storage is broken")

// faultyStorage counts operations and can fail them.
type faultyStorage struct {
	logical.Storage
	mu     sync.Mutex
	puts   []string
	count  operations
	failIf func(op, key string) bool
}

// operations are what storage was asked for.
type operations struct{ gets, puts, deletes, lists int }

func (s *faultyStorage) fails(op, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock() // also when failIf panics
	if strings.Contains(key, "..") {
		return true // as Vault's storage does, which takes no relative paths
	}
	switch op {
	case "get":
		s.count.gets++
	case "put":
		s.count.puts++
		s.puts = append(s.puts, key)
	case "delete":
		s.count.deletes++
	case "list":
		s.count.lists++
	}
	return s.failIf != nil && s.failIf(op, key)
}

func (s *faultyStorage) under() logical.Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Storage
}

// swap puts another storage in the place of the one that holds everything.
func (s *faultyStorage) swap(other logical.Storage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Storage = other
}

func (s *faultyStorage) failWhen(f func(op, key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failIf = f
}

// operations returns what was asked for since the last call.
func (s *faultyStorage) operations() operations {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.count
	s.count = operations{}
	return count
}

// written returns the keys written since the last call.
func (s *faultyStorage) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.puts
	s.puts = nil
	return keys
}

func (s *faultyStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if s.fails("get", key) {
		return nil, errStorage
	}
	return s.under().Get(ctx, key)
}

func (s *faultyStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if s.fails("list", prefix) {
		return nil, errStorage
	}
	return s.under().List(ctx, prefix)
}

func (s *faultyStorage) Put(ctx context.Context, e *logical.StorageEntry) error {
	if s.fails("put", e.Key) {
		return errStorage
	}
	return s.under().Put(ctx, e)
}

func (s *faultyStorage) Delete(ctx context.Context, key string) error {
	if s.fails("delete", key) {
		return errStorage
	}
	return s.under().Delete(ctx, key)
}

// system is what Vault tells of itself; tests change it while the worker asks.
type system struct {
	logical.StaticSystemView
	mu    sync.Mutex
	asked int // how often, each a call from the plugin to Vault
}

func newSystem() *system {
	return &system{StaticSystemView: logical.StaticSystemView{
		DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour,
		PluginEnvironment: &logical.PluginEnvironment{VaultVersion: "1.21.1"},
	}}
}

func (s *system) taint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.TaintedVal = true
}

func (s *system) become(state consts.ReplicationState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ReplicationStateVal = state
}

// ask counts a call; the caller must unlock.
func (s *system) ask() *sync.Mutex {
	s.mu.Lock()
	s.asked++
	return &s.mu
}

// questions returns how often it was asked since the last call.
func (s *system) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked
	s.asked = 0
	return n
}

func (s *system) Tainted() bool {
	defer s.ask().Unlock()
	return s.TaintedVal
}

func (s *system) ReplicationState() consts.ReplicationState {
	defer s.ask().Unlock()
	return s.ReplicationStateVal
}

func (s *system) LocalMount() bool {
	defer s.ask().Unlock()
	return s.LocalMountVal
}

func (s *system) DefaultLeaseTTL() time.Duration {
	defer s.ask().Unlock()
	return s.DefaultLeaseTTLVal
}

func (s *system) MaxLeaseTTL() time.Duration {
	defer s.ask().Unlock()
	return s.MaxLeaseTTLVal
}

// engine is one mount on a storage that can fail, with an emulated C1 over TLS.
type engine struct {
	*testing.T
	b       *backend
	clock   *clock
	storage *faultyStorage
	system  *system
	events  *logical.MockEventSender
	emu     *c1test.Emulator
	c1      *c1test.Tenant
	logs    *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newEngine returns a mount without a config.
func newEngine(t *testing.T, o ...func(*c1test.Options)) *engine {
	t.Helper()
	c := &clock{}
	options := c1test.Options{TLS: true, Now: c.now, Tenants: []string{"acme", "globex"}}
	for _, f := range o {
		f(&options)
	}
	emu := c1test.StartT(t, options)
	e := &engine{
		T: t, clock: c, emu: emu, c1: emu.Default(),
		storage: &faultyStorage{Storage: &logical.InmemStorage{}},
		system:  newSystem(),
		events:  logical.NewMockEventSender(),
		logs:    &lockedBuffer{},
	}
	e.restart()
	t.Cleanup(func() { e.b.Cleanup(context.Background()) })
	return e
}

// restart drops all memory, as a crash of the plugin does.
func (e *engine) restart() {
	e.Helper()
	if e.b != nil {
		e.b.end()
	}
	e.b = newBackend(testVersion, seams{now: e.clock.now, lockWait: 5 * time.Minute})
	require.NoError(e, e.b.Setup(context.Background(), &logical.BackendConfig{
		StorageView:  e.storage,
		System:       e.system,
		EventsSender: e.events,
		Logger:       hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: e.logs}),
	}))
	e.b.mayWrite() // as Initialize, but without a worker
}

// configured returns a mount with a config that works.
func configured(t *testing.T, o ...func(*c1test.Options)) *engine {
	t.Helper()
	e := newEngine(t, o...)
	e.configure(e.c1)
	return e
}

func (e *engine) configure(tenant *c1test.Tenant, extra ...any) {
	e.Helper()
	id := tenant.Identity()
	data := map[string]any{
		"client_id": id.ClientID, "client_secret": id.ClientSecret, "url": tenant.URL(), "ca_cert": e.emu.CACertPEM(),
	}
	merge(data, extra...)
	e.must(logical.UpdateOperation, "config", data)
}

// configureStatic has the mount log in with a token, so that nothing is done on behalf
// of its own credential.
func (e *engine) configureStatic(extra ...any) {
	e.Helper()
	e.write("config", append([]any{"access_token", e.c1.StaticToken(), "url", e.c1.URL(), "ca_cert", e.emu.CACertPEM()}, extra...)...)
}

// merge puts name, value pairs into data.
func merge(data map[string]any, pairs ...any) map[string]any {
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i].(string)] = pairs[i+1]
	}
	return data
}

func fields(pairs ...any) map[string]any { return merge(map[string]any{}, pairs...) }

// bindConnector binds a name to the seeded connector.
func (e *engine) bindConnector(name string, extra ...any) c1test.ConnectorRef {
	e.Helper()
	ref := e.c1.Connector()
	e.must(logical.CreateOperation, "connectors/"+name,
		merge(fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", "read"), extra...))
	return ref
}

// bindDecoy binds a name to the seeded decoy of a kind.
func (e *engine) bindDecoy(name string, k c1test.Kind, extra ...any) string {
	e.Helper()
	id := e.c1.Decoy(k)
	e.must(logical.CreateOperation, "decoys/"+name, merge(fields("decoy_id", id, "rotate_on", "write"), extra...))
	return id
}

func newRequest(op logical.Operation, path string, data map[string]any) *logical.Request {
	id, _ := uuid.GenerateUUID()
	return &logical.Request{
		ID: id, Operation: op, Path: path, Data: data, MountPoint: "c1/",
		EntityID: "entity-1", DisplayName: "approle-billing",
		Connection: &logical.Connection{RemoteAddr: "192.0.2.7"},
	}
}

// do sends a request and proves that a successful answer has the declared form.
func (e *engine) do(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	e.Helper()
	req.Storage = e.storage
	resp, err := e.b.HandleRequest(ctx, req)
	if err == nil && resp != nil && !resp.IsError() && req.Operation != logical.HelpOperation {
		e.checkSchema(req, resp)
	}
	return resp, err
}

func (e *engine) checkSchema(req *logical.Request, resp *logical.Response) {
	e.Helper()
	if req.Operation == logical.RenewOperation || req.Operation == logical.RevokeOperation {
		return
	}
	path := e.b.Route(req.Path)
	require.NotNil(e, path, req.Path)
	schema.ValidateResponse(e.T, schema.GetResponseSchema(e.T, path, req.Operation), resp, true)
}

func (e *engine) must(op logical.Operation, path string, data map[string]any) *logical.Response {
	e.Helper()
	resp, err := e.do(context.Background(), newRequest(op, path, data))
	require.NoError(e, err)
	if resp != nil {
		require.NoError(e, resp.Error())
	}
	return resp
}

func (e *engine) read(path string) *logical.Response {
	e.Helper()
	return e.must(logical.ReadOperation, path, nil)
}

func (e *engine) write(path string, pairs ...any) *logical.Response {
	e.Helper()
	return e.must(logical.UpdateOperation, path, fields(pairs...))
}

// failure is a refused request as Vault would answer it.
type failure struct {
	status  int
	message string
}

// refused sends a request that must fail, and says how.
func (e *engine) refused(op logical.Operation, path string, data map[string]any) failure {
	e.Helper()
	return e.refusedRequest(context.Background(), newRequest(op, path, data))
}

func (e *engine) refusedRequest(ctx context.Context, req *logical.Request) failure {
	e.Helper()
	resp, err := e.do(ctx, req)
	if err == nil {
		require.NotNil(e, resp, "answered nothing instead of an error")
		require.True(e, resp.IsError(), "succeeded: %v", resp.Data)
		return failure{http.StatusBadRequest, resp.Error().Error()}
	}
	var coded logical.HTTPCodedError
	if errors.As(err, &coded) {
		_, bare := err.(logical.HTTPCodedError) //nolint:errorlint // a wrapped one loses its status over gRPC
		require.True(e, bare, "the coded error is wrapped: %v", err)
		return failure{coded.Code(), err.Error()}
	}
	return failure{http.StatusInternalServerError, err.Error()}
}

// vend reads a binding's credential.
func (e *engine) vend(path string) *logical.Response {
	e.Helper()
	resp := e.read(path)
	require.NotNil(e, resp.Secret, "no lease")
	return resp
}

// alive reports whether a vended credential still logs in at C1.
func (e *engine) alive(resp *logical.Response) bool {
	e.Helper()
	return e.c1.Login(context.Background(), resp.Data["client_id"].(string), resp.Data["client_secret"].(string)) == nil
}

func (e *engine) revoke(lease *logical.Secret) (*logical.Response, error) {
	e.Helper()
	return e.do(context.Background(), &logical.Request{
		Operation: logical.RevokeOperation, Path: "connector-creds/hr", Secret: lease,
		Data: fields("client_secret", "as it was answered", "version", 1.0, "material_type", nil),
	})
}

// after moves the clock and settles what has become due.
func (e *engine) after(d time.Duration) {
	e.Helper()
	e.clock.advance(d)
	require.NoError(e, e.b.tick(context.Background()))
}

// onDisk is a store that remembers nothing, so that a test sees what is stored.
func onDisk(s logical.Storage) *store.Store { return newStore(s, testVersion, time.Now) }

// disk is what is stored. Reading and writing it never fails, and is not counted.
func (e *engine) disk() *store.Store { return onDisk(e.storage.under()) }

// keyOf returns the key under which storage holds an entry.
func (e *engine) keyOf(key store.Key) string {
	e.Helper()
	raw, err := e.disk().KeyOf(context.Background(), key)
	require.NoError(e, err)
	return raw
}

// nameOf returns the name under which storage knows a target.
func (e *engine) nameOf(ref target.Ref) string {
	e.Helper()
	return strings.TrimPrefix(e.keyOf(stateKey(ref)), targetPrefix)
}

// asked counts the requests to C1, but for those that ask whether it is there, and
// when the mount's own credential expires.
func (e *engine) asked() int {
	return e.c1.Requests("") - e.c1.Requests(c1test.OpToken) - e.c1.Requests(c1test.OpIntrospect) -
		e.c1.Requests(c1test.OpListServicePrincipalCredentials)
}

// changes counts what changed at C1, logins aside.
func (e *engine) changes() (n int) {
	for _, entry := range e.c1.Journal() {
		if entry.Op != c1test.OpToken {
			n++
		}
	}
	return n
}

// state reads a target's state from storage.
func (e *engine) state(ref target.Ref) *target.State {
	e.Helper()
	t, err := readState(context.Background(), e.disk(), ref)
	require.NoError(e, err)
	require.NotNil(e, t, "no state of %s", ref)
	return t
}

// retryMax is the longest wait between two tries, but for what keeps targets apart.
const retryMax = time.Hour

// writeState stores a state and its marks for attention, as the engine does.
func writeState(ctx context.Context, s *store.Store, t *target.State) error {
	name, err := nameOf(ctx, s, t.Ref)
	if err != nil {
		return err
	}
	for reason := range t.Problems() {
		if err := s.Mark(ctx, markKey(reason, name)); err != nil {
			return err
		}
	}
	return storedState.Write(ctx, s, stateKey(t.Ref), t)
}

// recordsOf reads the records of a target, oldest first.
func recordsOf(t require.TestingT, s *store.Store, state *target.State) []target.Record {
	h, err := historyOf(context.Background(), s, state)
	require.NoError(t, err)
	var records []target.Record
	for r, err := range h.all(context.Background()) {
		require.NoError(t, err)
		records = append(records, *r)
	}
	slices.Reverse(records)
	return records
}

func (e *engine) records(ref target.Ref) []target.Record {
	e.Helper()
	return recordsOf(e, e.disk(), e.state(ref))
}

// recheckAt is when a look is planned, or zero.
func recheckAt(t *target.State) time.Time {
	if t.Recheck == nil {
		return time.Time{}
	}
	return t.Recheck.At
}

// followsUnknown reports whether the look after a late commit is still to come.
func followsUnknown(t *target.State) bool {
	return t.Recheck != nil && t.Recheck.Why == target.LateCommit
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// nextAt is when there is something to do for a target, or zero.
func nextAt(t *target.State) time.Time { return t.Next(time.Time{}).At }

// tick does at once what the worker does over time: it settles all that is due
// now.
func (b *backend) tick(ctx context.Context) error {
	for range 1_000_000 {
		e, next, err := b.agenda.Take(ctx)
		switch {
		case err != nil:
			return err
		case e != nil:
			b.agenda.Settle(ctx, e)
		case next.After(b.now()):
			return nil
		}
	}
	return errors.New("settling does not come to an end")
}

func connectorTarget(ref c1test.ConnectorRef) target.Ref {
	return target.Ref{Kind: target.Connector, AppID: ref.AppID, ConnectorID: ref.ConnectorID}
}

func decoyTarget(id string) target.Ref { return target.Ref{Kind: target.Decoy, DecoyID: id} }

// onStandby makes the node one that may not write.
func (e *engine) onStandby() {
	e.system.become(consts.ReplicationPerformanceStandby)
	e.b.mayWrite() // as Vault opens the mount there
}

// noSecretsIn proves that none of the emulator's secrets stands in a text.
func (e *engine) noSecretsIn(what, text string) {
	e.Helper()
	for _, secret := range e.emu.Secrets() {
		if strings.Contains(text, secret) {
			e.Errorf("%s holds a secret", what)
		}
	}
}

func TestFactoryReportsTheVersionItWasBuiltFor(t *testing.T) {
	t.Parallel()
	b, err := Factory("v1.2.3")(context.Background(), &logical.BackendConfig{
		StorageView: &logical.InmemStorage{}, System: &logical.StaticSystemView{},
	})
	require.NoError(t, err)
	require.Equal(t, "v1.2.3", b.(*backend).PluginVersion().Version)
	require.Equal(t, logical.TypeLogical, b.Type())
	require.Contains(t, b.SpecialPaths().SealWrapStorage, "config")
	require.Contains(t, b.SpecialPaths().SealWrapStorage, "target/")
}

// Every path of the engine, walked: what changes something is forwarded, each
// operation declares its answer, each field and path has help.
func TestEveryPathIsDeclaredWhole(t *testing.T) {
	t.Parallel()
	changes := map[logical.Operation]bool{
		logical.CreateOperation: true, logical.UpdateOperation: true, logical.PatchOperation: true, logical.DeleteOperation: true,
	}
	readsOnly := map[string]bool{"^lookup$": true}
	for _, path := range New(testVersion).Paths {
		require.NotEmpty(t, path.HelpSynopsis, path.Pattern)
		require.NotEmpty(t, path.HelpDescription, path.Pattern)
		require.Equal(t, operationPrefix, path.DisplayAttrs.OperationPrefix, path.Pattern)
		require.NotEmpty(t, path.DisplayAttrs.OperationSuffix, path.Pattern)
		for name, field := range path.Fields {
			require.NotEmpty(t, field.Description, "%s: %s", path.Pattern, name)
		}
		for op, handler := range path.Operations {
			p := handler.Properties()
			require.NotEmpty(t, p.Summary, "%s %s", op, path.Pattern)
			require.NotEmpty(t, p.Responses, "%s %s", op, path.Pattern)
			if changes[op] && !readsOnly[path.Pattern] {
				require.True(t, p.ForwardPerformanceStandby && p.ForwardPerformanceSecondary, "%s %s is not forwarded", op, path.Pattern)
			}
			for _, responses := range p.Responses {
				for _, r := range responses {
					for name, field := range r.Fields {
						require.NotEmpty(t, field.Description, "%s %s: %s", op, path.Pattern, name)
					}
				}
			}
		}
	}
}
