// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// The model test plays random histories against the engine with its own worker
// and its own timers, in a bubble of fake time: requests, turns of the clock,
// rewritten configs, failing storage, a failing C1, and a crash between any two
// effects. Afterwards everything works again, and what Vault believes must be
// what C1's journal says.

const (
	// modelHistories is how many histories each of the shards plays; the flag
	// -rapid.checks overrides it.
	modelHistories = 1000
	// underRace is how many fewer they are with the race detector.
	underRace = 20

	modelRecords = 40 // history_limit

	timeOfDay = "02T15:04:05.000"
)

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	if histories := modelHistories; !chosen {
		if raceEnabled {
			histories /= underRace
		}
		_ = flag.Set("rapid.checks", strconv.Itoa(histories))
	}
	os.Exit(m.Run())
}

func TestNoHistoryLosesACredential(t *testing.T) {
	t.Parallel()
	for _, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		t.Run(string(semantics), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				w := &world{T: rt}
				var failed any
				synctest.Test(t, func(*testing.T) {
					// A failure unwinds by a panic, which must not end the bubble.
					defer func() { failed = recover() }()
					w.begin(semantics)
					defer w.close()
					w.play()
				})
				if failed != nil {
					w.explain(t, failed)
					panic(failed)
				}
			})
		})
	}
}

var errCrashed = errors.New("this process is dead")

// effects are what reaches the world outside of one process: storage and C1.
// Between any two of them the process may die; then nothing does any more.
type effects struct {
	logical.Storage
	tenant *c1test.Tenant

	mu       sync.Mutex
	dead     bool
	crashIn  int // effects until the crash; 0 is never
	failNext int // storage operations that fail
}

// step counts one moment between two effects, and reports whether the process
// still lives.
func (f *effects) step() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashIn > 0 {
		f.crashIn--
		f.dead = f.dead || f.crashIn == 0
	}
	return !f.dead
}

func (f *effects) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead
}

func (f *effects) fails() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return errCrashed
	case f.failNext > 0:
		f.failNext--
		return errStorage
	default:
		return nil
	}
}

func (f *effects) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Storage.Get(ctx, key)
}

func (f *effects) List(ctx context.Context, prefix string) ([]string, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Storage.List(ctx, prefix)
}

func (f *effects) Put(ctx context.Context, e *logical.StorageEntry) error {
	return f.change(func() error { return f.Storage.Put(ctx, e) })
}

func (f *effects) Delete(ctx context.Context, key string) error {
	return f.change(func() error { return f.Storage.Delete(ctx, key) })
}

func (f *effects) change(do func() error) error {
	if err := f.fails(); err != nil {
		return err
	}
	if !f.step() {
		return errCrashed
	}
	if err := do(); err != nil {
		return err
	}
	if !f.step() {
		return errCrashed
	}
	return nil
}

// RoundTrip is the way to C1.
func (f *effects) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.step() {
		return nil, errCrashed
	}
	res, err := f.tenant.RoundTrip(r)
	if !f.step() {
		return nil, errCrashed
	}
	return res, err
}

// subjectBinding is one binding of a history, and what must be true of it.
type subjectBinding struct {
	path, creds, op, object string
	ref                     target.Ref
	kind                    c1test.Kind // of a decoy
	scheduled               bool
	foreign                 bool // somebody else rotated it since this mount did
	seen                    int  // newest version that a reader was given
}

// world is one history.
type world struct {
	*rapid.T
	emulator  *c1test.Emulator
	c1        *c1test.Tenant
	disk      *logical.InmemStorage
	stored    *store.Store // what is on disk
	system    *system
	timeout   time.Duration
	subjects  []*subjectBinding
	identity  c1test.Identity // as it was written by hand
	principal string          // whose it is
	byHand    []string        // client IDs that were written by hand, now or before
	b         *backend
	fx        *effects
	abandoned []*backend
	delay     *c1test.FaultHandle // the one fault that delays, if there is one
	late      sync.WaitGroup      // commits that C1 makes late
	logs      lockedBuffer
	wrong     []string
}

// Errorf keeps what is wrong for explain: goroutines make no history quite like
// another, so that rapid may not see it again.
func (w *world) Errorf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	w.T.Errorf(format, args...)
}

// note writes what happens in the history into the engine's log.
func (w *world) note(what string) {
	_, _ = fmt.Fprintf(&w.logs, "%s ---- %s\n", time.Now().Format(timeOfDay), what)
}

// explain prints what is wrong, and the end of the history that led there.
func (w *world) explain(t *testing.T, failed any) {
	lines := strings.Split(w.logs.String(), "\n")
	t.Logf("%v\n%s\nthe end of its history:\n%s", failed, strings.Join(w.wrong, "\n"), strings.Join(lines[max(0, len(lines)-400):], "\n"))
}

func (w *world) begin(semantics c1test.Semantics) {
	revoked := rapid.SampledFrom([]c1test.RevokedAnswer{c1test.RevokedNotFound, c1test.RevokedShown}).Draw(w.T, "revoked credentials")
	emulator, err := c1test.Start(c1test.Options{Offline: true, Semantics: semantics, RevokedAnswer: revoked})
	require.NoError(w, err)
	w.emulator, w.c1, w.disk = emulator, emulator.Default(), &logical.InmemStorage{}
	w.stored = onDisk(w.disk)
	w.system = newSystem()
	w.byHandIs(w.c1.NewIdentity(c1test.ExpiresIn(90 * day)))
	w.timeout = time.Duration(rapid.IntRange(2, 30).Draw(w.T, "request_timeout")) * time.Second
	w.start()
	w.mustWrite("config", w.config())
	w.addConnector("plain", fields("rotate_on", "schedule", "rotation_period", 3600))
	w.addConnector("graceful", fields("rotate_on", "schedule", "rotation_period", 900, "grace_period", 60))
	w.addDecoy("bait", c1test.KindAccessToken, fields("rotate_on", "schedule", "rotation_period", 1200))
	w.addDecoy("trust", c1test.KindWorkloadFederation, fields("rotate_on", "schedule"))
	w.addConnector("adopted", fields("rotate_on", "schedule", "rotation_period", 1800, "grace_period", 60, "skip_initial_rotation", true))
	w.addConnector("leased", fields("rotate_on", "read", "ttl", 600, "max_ttl", 1200))
	w.addDecoy("planted", c1test.KindUserClientCredential, fields("rotate_on", "read", "on_lease_end", "rotate", "ttl", 600, "max_ttl", 1200))
}

func (w *world) byHandIs(id c1test.Identity) {
	w.identity, w.byHand = id, append(w.byHand, id.ClientID)
	for _, c := range w.c1.LiveCredentials() {
		if c.ClientID == id.ClientID {
			w.principal = c.ServicePrincipalID
		}
	}
}

func (w *world) config() map[string]any {
	id := w.identity
	return fields("client_id", id.ClientID, "client_secret", id.ClientSecret, "url", w.c1.URL(),
		"request_timeout", int(w.timeout.Seconds()), "max_retries", 0, "history_limit", modelRecords, "verify_connection", false)
}

func (w *world) addConnector(name string, data map[string]any) {
	ref := w.c1.NewConnector(name)
	s := &subjectBinding{
		path: "connectors/" + name, creds: "connector-creds/" + name, op: c1test.OpRotateConnector, object: ref.ConnectorID,
		ref: connectorTarget(ref), scheduled: data["rotate_on"] == "schedule",
	}
	w.subjects = append(w.subjects, s)
	w.mustWrite(s.path, merge(data, "app_id", ref.AppID, "connector_id", ref.ConnectorID))
}

func (w *world) addDecoy(name string, kind c1test.Kind, data map[string]any) {
	id := w.c1.NewDecoy(kind, name, nil)
	s := &subjectBinding{
		path: "decoys/" + name, creds: "decoy-creds/" + name, op: c1test.OpRotateDecoy, object: id, kind: kind,
		ref: decoyTarget(id), scheduled: data["rotate_on"] == "schedule",
	}
	w.subjects = append(w.subjects, s)
	w.mustWrite(s.path, merge(data, "decoy_id", id))
}

// start runs a new process on what is on disk.
func (w *world) start() {
	w.fx = &effects{Storage: w.disk, tenant: w.c1}
	w.b = newBackend(testVersion, seams{transport: w.fx})
	ctx := context.Background()
	require.NoError(w, w.b.Setup(ctx, &logical.BackendConfig{
		StorageView: w.fx, System: w.system,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &w.logs, TimeFormat: timeOfDay}),
	}))
	require.NoError(w, w.b.Initialize(ctx, &logical.InitializationRequest{Storage: w.fx}))
}

// crash drops all memory at once.
func (w *world) crash() {
	w.note("crash")
	w.fx.mu.Lock()
	w.fx.dead = true
	w.fx.mu.Unlock()
	w.b.end()
	w.abandoned = append(w.abandoned, w.b)
	w.start()
}

func (w *world) close() {
	w.b.Cleanup(context.Background())
	for _, b := range w.abandoned {
		b.work.Drain(time.Hour)
	}
	w.late.Wait() // or a failure would be told as a deadlock
	_ = w.emulator.Close()
	synctest.Wait()
}

func (w *world) send(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	req := newRequest(op, path, data)
	req.Storage = w.fx
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	resp, err := w.b.HandleRequest(ctx, req)
	if err == nil && resp.IsError() {
		err = resp.Error()
	}
	w.note(fmt.Sprintf("%s %s: %v", op, path, err))
	return resp, err
}

func (w *world) mustWrite(path string, data map[string]any) {
	_, err := w.send(logical.UpdateOperation, path, data)
	require.NoError(w, err, path)
}

// play is the history.
func (w *world) play() {
	w.Repeat(map[string]func(*rapid.T){
		"read":           func(t *rapid.T) { w.read(w.pick(t)) },
		"read again":     func(t *rapid.T) { w.read(w.pick(t)) },
		"write":          func(t *rapid.T) { _, _ = w.send(logical.UpdateOperation, w.pick(t).creds, nil) },
		"rotate":         func(t *rapid.T) { _, _ = w.send(logical.UpdateOperation, w.pick(t).path+"/rotate", nil) },
		"hang up":        func(t *rapid.T) { w.hangUp(w.pick(t)) },
		"wait":           func(t *rapid.T) { w.wait(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second) },
		"wait long":      func(t *rapid.T) { w.wait(time.Duration(rapid.IntRange(2, 90).Draw(t, "minutes")) * time.Minute) },
		"rotate root":    func(*rapid.T) { _, _ = w.send(logical.UpdateOperation, "config/rotate-root", nil) },
		"write identity": w.writeIdentity,
		"rewrite config": func(*rapid.T) { _, _ = w.send(logical.UpdateOperation, "config", fields("max_retries", 0)) },
		"change period":  w.changePeriod,
		"change window":  w.changeWindow,
		"pause": func(t *rapid.T) {
			_, _ = w.send(logical.UpdateOperation, w.pick(t).path+"/pause", fields("reason", "x"))
		},
		"resume":         func(t *rapid.T) { _, _ = w.send(logical.UpdateOperation, w.pick(t).path+"/resume", nil) },
		"adopt":          func(*rapid.T) { w.adopt() },
		"rotate outside": w.rotateOutside,
		"restart":        func(*rapid.T) { w.crash() },
		"crash soon":     func(t *rapid.T) { w.within(func(f *effects) { f.crashIn = rapid.IntRange(1, 40).Draw(t, "effects") }) },
		"fail storage": func(t *rapid.T) {
			w.within(func(f *effects) { f.failNext = rapid.IntRange(1, 30).Draw(t, "operations") })
		},
		"fail C1":     w.failC1,
		"commit late": w.commitLate,
		"C1 down":     func(t *rapid.T) { w.c1.SetDown(rapid.Bool().Draw(t, "down")) },
		"":            func(*rapid.T) { w.check() },
	})
	w.heal()
	w.agree()
}

func (w *world) pick(t *rapid.T) *subjectBinding {
	return w.subjects[rapid.IntRange(0, len(w.subjects)-1).Draw(t, "binding")]
}

func (w *world) within(do func(*effects)) {
	w.fx.mu.Lock()
	defer w.fx.mu.Unlock()
	do(w.fx)
}

func (w *world) wait(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// read is a reader, who is never given half of a credential, nor an older one
// than he has had.
func (w *world) read(s *subjectBinding) {
	resp, err := w.send(logical.ReadOperation, s.creds, nil)
	if err != nil {
		return
	}
	w.whole(s, resp)
}

func (w *world) whole(s *subjectBinding, resp *logical.Response) {
	version := resp.Data["version"].(int)
	require.GreaterOrEqual(w, version, s.seen, "%s: an older version than was read before", s.path)
	s.seen = version
	secret, _ := resp.Data["client_secret"].(string)
	if token, ok := resp.Data["access_token"].(string); ok {
		secret = token
	}
	require.Equal(w, target.Fingerprint(secret), resp.Data["fingerprint_sha256"], "%s: fields of two rotations", s.path)
	if s.scheduled {
		require.Positive(w, resp.Data["ttl"], s.path)
		require.Nil(w, resp.Secret)
	}
}

func (w *world) hangUp(s *subjectBinding) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	req := newRequest(logical.UpdateOperation, s.creds, nil)
	req.Storage = w.fx
	_, _ = w.b.HandleRequest(ctx, req)
}

func (w *world) changePeriod(t *rapid.T) {
	s := w.subjects[0]
	data := fields("rotation_period", rapid.SampledFrom([]int{600, 3600, 86400}).Draw(t, "period"), "verify", false)
	_, _ = w.send(logical.UpdateOperation, s.path, data)
}

// changeWindow has the clock rotate a binding in a window, or by a period again.
func (w *world) changeWindow(t *rapid.T) {
	schedule := rapid.SampledFrom([][]any{
		{"rotation_period", 1200},
		{"rotation_schedule", "0 */2 * * *", "rotation_window", 3600},
		{"rotation_schedule", "0 */2 * * *", "rotation_window", 0},
	}).Draw(t, "schedule")
	_, _ = w.send(logical.UpdateOperation, "decoys/bait", merge(fields("verify", false), schedule...))
}

// writeIdentity has somebody write a new credential of the same principal into config,
// or once more the one that was written before.
func (w *world) writeIdentity(t *rapid.T) {
	if rapid.Bool().Draw(t, "another one") {
		w.byHandIs(w.c1.NewIdentity(c1test.Beside(w.identity), c1test.ExpiresIn(60*day)))
	}
	if !slices.Contains(w.ownAlive(), w.identity.ClientID) {
		return // the mount has replaced it, and ended it
	}
	_, _ = w.send(logical.UpdateOperation, "config", w.config())
}

// ownAlive are the client IDs of the principal of the mount's identity that are alive
// at C1.
func (w *world) ownAlive() (ids []string) {
	for _, c := range w.c1.LiveCredentials() {
		if c.ServicePrincipalID == w.principal {
			ids = append(ids, c.ClientID)
		}
	}
	return ids
}

// checkIdentity says that the credential in config works at any time.
func (w *world) checkIdentity() {
	cfg, err := readConfig(context.Background(), w.stored)
	require.NoError(w, err)
	require.True(w, slices.ContainsFunc(w.c1.LiveCredentials(), func(c c1test.OwnCredential) bool {
		return c.ClientID == cfg.ClientID && c.Fingerprint == target.Fingerprint(cfg.ClientSecret)
	}), "the credential in config is dead at C1")
	t, err := readState(context.Background(), w.stored, identityRef)
	require.NoError(w, err)
	if t != nil {
		w.checkMarks(&subjectBinding{path: "config", ref: identityRef}, t)
	}
}

// agreeOnIdentity says that nothing that the mount has made is alive but what is in
// config.
func (w *world) agreeOnIdentity() {
	cfg, err := readConfig(context.Background(), w.stored)
	require.NoError(w, err)
	for _, id := range w.ownAlive() {
		require.True(w, id == cfg.ClientID || slices.Contains(w.byHand, id), "%s is alive and nobody will end it", id)
	}
	t, err := readState(context.Background(), w.stored, identityRef)
	require.NoError(w, err)
	require.Equal(w, cfg.ClientID, t.Current.ClientID)
	require.Nil(w, t.Attempt)
	require.Empty(w, t.Retire)
	_, err = w.send(logical.UpdateOperation, "config/rotate-root", nil)
	require.NoError(w, err)
	w.checkIdentity()
}

// adopt gives Vault a credential that somebody had C1 make, of a connector that Vault has
// not rotated yet.
func (w *world) adopt() {
	i := slices.IndexFunc(w.subjects, func(s *subjectBinding) bool { return s.path == "connectors/adopted" })
	s := w.subjects[i]
	if w.state(s).Version > 0 {
		return
	}
	c := w.c1.RotateConnector(c1test.ConnectorRef{AppID: s.ref.AppID, ConnectorID: s.ref.ConnectorID})
	s.foreign = true // a rotation of this mount's may be under way
	resp, err := w.send(logical.UpdateOperation, s.path+"/adopt", fields(
		"client_id", c.ClientID, "client_secret", c.ClientSecret, "credential_id", c.ID, "login", len(c.ID)%2 == 0))
	if err != nil {
		return
	}
	s.foreign = false
	require.Equal(w, 1, resp.Data["version"])
	require.Equal(w, target.Fingerprint(c.ClientSecret), resp.Data["fingerprint_sha256"])
}

func (w *world) rotateOutside(t *rapid.T) {
	s := w.pick(t)
	if s.ref.Kind == target.Decoy {
		w.c1.RotateDecoy(s.object)
	} else {
		w.c1.RotateConnector(c1test.ConnectorRef{AppID: s.ref.AppID, ConnectorID: s.ref.ConnectorID})
	}
	s.foreign = true
	w.note(s.path + " is rotated outside")
}

func (w *world) failC1(t *rapid.T) {
	f := rapid.SampledFrom([]c1test.Fault{
		{Status: 500},
		{Status: 403},
		{Status: 404},
		{Status: 409},
		{Status: 401},
		{Status: 429, RetryAfter: "20"},
		{Status: 503, RetryAfter: "5"},
		{DropBefore: true},
		{DropAfter: true},
		{StatusAfter: 502},
		{Truncate: true},
		{OmitMaterial: true},
		{Delay: w.timeout / 2},
		{Delay: w.latest() - time.Millisecond},
	}).Draw(t, "fault")
	f.Times = rapid.IntRange(1, 4).Draw(t, "times")
	f.Op = rapid.SampledFrom([]string{
		"", c1test.OpRotateConnector, c1test.OpRotateDecoy, c1test.OpCreateServicePrincipalCredential, c1test.OpListServicePrincipalCredentials,
	}).Draw(t, "operation")
	if f.Status == http.StatusNotFound && f.Op == "" {
		return // in C1's own form it says that a credential is gone, which would be a lie
	}
	if f.Delay > 0 && w.delay != nil {
		w.delay.Clear() // added up, delays would be longer than the engine allows for
	}
	if handle := w.c1.AddFault(f); f.Delay > 0 {
		w.delay = handle
	}
	w.note(fmt.Sprintf("C1 fails: %+v", f))
}

// latest is how long after C1 got a rotate it may still carry it out: it is sent
// within three quarters of the timeout, and settled after twice the timeout.
func (w *world) latest() time.Duration { return w.timeout * 5 / 4 }

// commitLate has C1 carry out a rotation after its caller was cut off, within
// the time that the engine allows for that.
func (w *world) commitLate(t *rapid.T) {
	gate := make(chan struct{})
	op := rapid.SampledFrom([]string{c1test.OpRotateConnector, c1test.OpRotateDecoy, c1test.OpCreateServicePrincipalCredential}).Draw(t, "operation")
	late := time.Duration(rapid.IntRange(1, int((w.latest()-time.Second/5)/time.Second)).Draw(t, "late")) * time.Second
	fault := w.c1.AddFault(c1test.Fault{Op: op, CommitLate: gate, Times: 1})
	w.late.Go(func() {
		defer close(gate)
		defer fault.Clear()
		for range 600 { // the request may never come
			if fault.Hits() > 0 {
				time.Sleep(late)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// state reads a target as it is on disk.
func (w *world) state(s *subjectBinding) *target.State {
	t, err := readState(context.Background(), w.stored, s.ref)
	require.NoError(w, err)
	return t
}

// good reports whether the newest credential that Vault knows of is alive at C1.
func (w *world) good(s *subjectBinding, t *target.State) bool {
	if s.ref.Kind == target.Decoy {
		return !target.Differs(w.c1.DecoyFingerprint(s.object), t.Current.Fingerprint)
	}
	alive := w.c1.AliveCredentials(c1test.ConnectorRef{AppID: s.ref.AppID, ConnectorID: s.ref.ConnectorID})
	return slices.ContainsFunc(alive, func(c c1test.Credential) bool {
		return c.ID == t.Current.CredentialID && c.Fingerprint == t.Current.Fingerprint
	})
}

// checkMemory says that what is remembered is what is on disk, to the byte.
func (w *world) checkMemory() {
	for key, value := range w.b.store.Remembered() {
		entry, err := w.disk.Get(context.Background(), key)
		require.NoError(w, err)
		require.NotNil(w, entry, "%s is remembered and not stored", key)
		remembered, err := json.Marshal(value)
		require.NoError(w, err)
		require.Equal(w, `{"format":1,`+string(remembered[1:]), string(entry.Value), key)
	}
}

// checkMarks says that whatever needs a person is marked before the state says so,
// or status would not tell.
func (w *world) checkMarks(s *subjectBinding, t *target.State) {
	for _, reason := range target.AttentionReasons {
		_, problem := t.Problems()[reason]
		if problem {
			require.True(w, w.marked(s, reason), "%s: %s is not marked", s.path, reason)
		}
	}
}

// checkPause says that the clock has not begun to rotate what is paused.
func (w *world) checkPause(s *subjectBinding, t *target.State) {
	if t.Paused == nil {
		return
	}
	require.Zero(w, t.RotationAt(), s.path)
	for _, r := range recordsOf(w, w.stored, t) {
		byClock := r.Reason == target.ReasonSchedule || r.Reason == target.ReasonRecovery
		require.False(w, byClock && r.StartedAt.After(t.Paused.At), "%s: the clock rotated it at %s, paused since %s", s.path, r.StartedAt, t.Paused.At)
	}
}

func (w *world) marked(s *subjectBinding, reason string) bool {
	name, err := w.stored.Name(context.Background(), stateKey(s.ref))
	require.NoError(w, err)
	there, err := w.stored.Has(context.Background(), markKey(reason, name))
	require.NoError(w, err)
	return there
}

// check runs after every step: no binding looks healthy with a dead credential
// in it, unless the engine is going to look at it by itself.
func (w *world) check() {
	synctest.Wait()
	if !w.fx.alive() {
		w.crash()
		synctest.Wait()
	}
	w.checkMemory()
	w.checkIdentity()
	for _, s := range w.subjects {
		t := w.state(s)
		if t != nil {
			w.checkMarks(s, t)
			w.checkPause(s, t)
		}
		if t == nil || t.Current == nil || s.foreign || !s.scheduled {
			continue
		}
		if t.Health(time.Now()) == target.Ready && !w.good(s, t) {
			require.True(w, followsUnknown(t), "%s is ready, version %d is dead, and nobody will look", s.path, t.Version)
		}
	}
}

// heal lets everything work again, for long enough.
func (w *world) heal() {
	w.c1.ClearFaults()
	w.c1.SetDown(false)
	w.crash()
	for _, s := range w.subjects {
		if s.scheduled {
			_, err := w.send(logical.UpdateOperation, s.path+"/resume", nil)
			require.NoError(w, err, s.path)
		}
	}
	for range 6 {
		w.wait(30 * time.Minute)
	}
	for _, s := range w.subjects {
		if !s.scheduled || s.foreign {
			resp, err := w.send(logical.UpdateOperation, s.creds, nil)
			require.NoError(w, err, s.path)
			w.whole(s, resp)
			s.foreign = false
		}
	}
	w.wait(5 * time.Minute)
}

// agree compares what Vault believes with C1's journal.
func (w *world) agree() {
	for _, s := range w.subjects {
		t := w.state(s)
		require.NotNil(w, t, s.path)
		require.Equal(w, target.Ready, t.Health(time.Now()), "%s: %v", s.path, t.ProblemList())
		require.True(w, w.good(s, t), "%s: version %d is dead at C1", s.path, t.Version)
		if s.scheduled {
			resp, err := w.send(logical.ReadOperation, s.creds, nil)
			require.NoError(w, err)
			require.Empty(w, resp.Warnings)
			w.whole(s, resp)
		}
		w.accounts(s, t)
	}
	w.agreeOnIdentity()
	status, err := w.send(logical.ReadOperation, "status", nil)
	require.NoError(w, err)
	require.Equal(w, true, status.Data["healthy"], "%v", status.Data)
	marks, err := logical.CollectKeysWithPrefix(context.Background(), w.disk, attentionPrefix)
	require.NoError(w, err)
	require.Empty(w, marks, "everything has passed, and status drops what is stray")
	due, err := logical.CollectKeysWithPrefix(context.Background(), w.disk, agenda.Prefix)
	require.NoError(w, err)
	require.LessOrEqual(w, len(due), 4*len(w.subjects)+4, "due entries pile up: %v", due)
}

// recordsSince is from when on all records are kept: what began before may be
// pruned, and C1 may have carried it out late.
func (w *world) recordsSince(t *target.State) (since time.Time) {
	for handedOut, most := range map[bool]int{true: modelRecords, false: target.OthersKept(modelRecords)} {
		var oldest time.Time
		n := 0
		for _, r := range slices.Backward(recordsOf(w, w.stored, t)) {
			if r.HandedOut() == handedOut {
				oldest, n = r.StartedAt, n+1
			}
		}
		if n == most {
			if begins := oldest.Add(2 * w.timeout); begins.After(since) {
				since = begins
			}
		}
	}
	return since
}

// accounts says that each rotation of C1's is on record, or one of those whose
// outcome is said to have been unknown, and that what must have ended has.
func (w *world) accounts(s *subjectBinding, t *target.State) {
	known, unknown := map[string]target.Record{}, 0
	for _, r := range recordsOf(w, w.stored, t) {
		switch r.Outcome {
		case target.OutcomeFailed:
		case target.OutcomeSuperseded:
			unknown++
		default:
			known[r.Fingerprint+r.CredentialID] = r
			if r.Outcome == target.OutcomeUndelivered {
				unknown += r.Repeats // counted in this one
			}
		}
	}
	var lost []string
	since := w.recordsSince(t)
	for _, entry := range w.c1.Journal() {
		if entry.Time.Before(since) || entry.Op != s.op || entry.Object != s.object || strings.Contains(entry.Detail, "outside") || entry.Fingerprint == "" {
			continue
		}
		if _, ok := known[entry.Fingerprint+entry.CredentialID]; !ok {
			lost = append(lost, entry.Time.Format(timeOfDay))
		}
	}
	require.LessOrEqual(w, len(lost), unknown, "%s: C1 rotated more often than is on record or said to be unknown; not on record, of those since %s: %v",
		s.path, since.Format(timeOfDay), lost)
	if s.ref.Kind == target.Decoy {
		return
	}
	for _, c := range w.c1.AliveCredentials(c1test.ConnectorRef{AppID: s.ref.AppID, ConnectorID: s.ref.ConnectorID}) {
		r, ok := known[c.Fingerprint+c.ID]
		if !ok || r.Version == t.Version || s.path == "connectors/plain" {
			continue // unknown to anybody, current, or C1's to decide about
		}
		require.GreaterOrEqual(w, t.PlannedEnd(r.Version), 0, "%s: version %d is alive and nobody will end it", s.path, r.Version)
	}
}
