// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	soakFailovers = 20 // unless C1_E2E_FAILOVERS says otherwise
	soakBindings  = 200
	// afterwards is how long everything may take to be well again once nothing
	// fails any more: an outcome that was unknown is settled two request timeouts
	// after it began, at a full minute; what failed before that is tried again
	// within a retry's minute or two; and whatever came of it is looked at again.
	afterwards = 3 * time.Minute
)

// soakTarget is one scheduled binding of the soak.
type soakTarget struct {
	*vaulttest.Engine
	tenant    *c1test.Tenant
	name      string
	connector c1test.ConnectorRef
	decoy     string
}

func (s *soakTarget) object() string {
	if s.decoy != "" {
		return s.decoy
	}
	return s.connector.ConnectorID
}

func (s *soakTarget) binding() string {
	if s.decoy != "" {
		return "decoys/" + s.name
	}
	return "connectors/" + s.name
}

func (s *soakTarget) creds() string {
	if s.decoy != "" {
		return "decoy-creds/" + s.name
	}
	return "connector-creds/" + s.name
}

// TestAClusterKeepsEveryScheduleWhileItsLeadersDie: whatever dies, and whatever
// C1 does meanwhile, no binding ends with a credential that is dead at C1, none
// is left out for longer than said, and none is rotated without a record.
//
// It does not run beside other tests: they would starve.
func TestAClusterKeepsEveryScheduleWhileItsLeadersDie(t *testing.T) {
	failovers := soakFailovers
	if wanted := os.Getenv("C1_E2E_FAILOVERS"); wanted != "" {
		var err error
		failovers, err = strconv.Atoi(wanted)
		require.NoError(t, err)
	}
	cluster := vaulttest.NewCluster(t, 3)
	first := cluster.Nodes[0]
	var engines []*vaulttest.Engine
	for i, semantics := range []c1test.Semantics{c1test.Exclusive, c1test.Overlapping} {
		e := first.Engine(fmt.Sprintf("c1-%d", i), c1test.Options{Semantics: semantics})
		e.Configure(e.Mount, e.Tenant, object{"history_limit": 200, "rotation_workers": 8})
		engines = append(engines, e)
	}
	targets := bindSoak(t, engines, soakBindings)

	trouble, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for _, e := range engines {
		group.Go(func() { misbehave(trouble, e.Tenant) })
	}
	readers := startSoakReaders(trouble, &group, cluster, targets)

	started := time.Now()
	for i := range failovers {
		// Long enough for rotations to be under way, at any of their steps.
		until(time.Now().Add(time.Duration(rand.IntN(5000)) * time.Millisecond))
		if i%3 == 2 {
			cluster.StepDown()
			continue
		}
		cluster.KillLeader().Return()
	}
	t.Logf("%d failovers in %s", failovers, time.Since(started).Round(time.Second))
	stop()
	group.Wait()
	for _, e := range engines {
		e.Tenant.ClearFaults()
		e.Tenant.SetDown(false)
	}
	healthyFrom := time.Now()

	for _, node := range cluster.Nodes {
		node.Serves()
	}
	requireSoakHeals(t, cluster, targets, 0, healthyFrom)
	require.Empty(t, readers.wrong, "what readers were given meanwhile")
	t.Logf("readers were given %d answers meanwhile", readers.answers.Load())
	rotations, failed := 0, 0
	for _, target := range targets {
		n, m := requireSoakOnRecord(t, cluster.Leader(), target)
		rotations, failed = rotations+n, failed+m
	}
	t.Logf("%d rotations at C1 of %d bindings, %d attempts that failed or whose outcome was unknown", rotations, len(targets), failed)
	requireEachNodeSaysTheSame(t, cluster, engines, targets)
}

// bindSoak makes the bindings: on each mount mostly connectors, and decoys of
// the two kinds whose fingerprint C1 shows.
func bindSoak(t *testing.T, engines []*vaulttest.Engine, bindings int) []*soakTarget {
	t.Helper()
	var targets []*soakTarget
	for i := range bindings {
		e := engines[i%len(engines)]
		s := &soakTarget{Engine: e, tenant: e.Tenant, name: fmt.Sprintf("b%03d", i)}
		switch {
		case i%10 < 8:
			s.connector = e.Tenant.NewConnector(s.name)
		case i%20 < 10:
			s.decoy = e.Tenant.NewDecoy(c1test.KindConnectorClient, s.name, nil)
		default:
			s.decoy = e.Tenant.NewDecoy(c1test.KindAccessToken, s.name, nil)
		}
		targets = append(targets, s)
	}
	require.NoError(t, inParallel(8, len(targets), func(i int) error {
		s := targets[i]
		fields := scheduled(object{"rotation_period": shortestPeriod})
		if s.decoy != "" {
			fields["decoy_id"] = s.decoy
		} else {
			fields["app_id"], fields["connector_id"] = s.connector.AppID, s.connector.ConnectorID
		}
		// On a busy machine a leader may be lost before the test kills one; what was
		// stored by then is written again.
		var err error
		for range 10 {
			if _, err = s.Write(s.binding(), fields); err == nil {
				return nil
			}
			until(time.Now().Add(2 * time.Second))
		}
		return fmt.Errorf("%s: %w", s.binding(), err)
	}))
	return targets
}

// misbehave makes C1 slow, drop what it is asked and what it answers, fail and
// go down, one after the other, until the context ends.
func misbehave(ctx context.Context, c1 *c1test.Tenant) {
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	rotations := []string{c1test.OpRotateConnector, c1test.OpRotateDecoy}
	for ctx.Err() == nil {
		var handles []*c1test.FaultHandle
		add := func(f c1test.Fault) {
			for _, f.Op = range rotations {
				handles = append(handles, c1.AddFault(f))
			}
		}
		switch rand.IntN(6) {
		case 0:
			add(c1test.Fault{Delay: time.Duration(200+rand.IntN(1500)) * time.Millisecond})
		case 1:
			add(c1test.Fault{DropBefore: true, Times: 1 + rand.IntN(3)})
		case 2:
			add(c1test.Fault{DropAfter: true, Times: 1 + rand.IntN(3)})
		case 3:
			add(c1test.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "2"})
		case 4:
			// Longer than request_timeout: it commits, and nobody waits for it.
			add(c1test.Fault{Delay: requestTimeout + time.Second, Times: 2})
		case 5:
			c1.SetDown(true)
			wait(time.Duration(2+rand.IntN(8)) * time.Second)
			c1.SetDown(false)
		}
		wait(time.Duration(1+rand.IntN(5)) * time.Second)
		for _, h := range handles {
			h.Clear()
		}
		wait(time.Duration(rand.IntN(8)) * time.Second)
	}
}

// soakReaders read at all nodes all the time, as a fleet would.
type soakReaders struct {
	answers atomic.Int64
	mu      sync.Mutex
	wrong   []error
}

func startSoakReaders(ctx context.Context, group *sync.WaitGroup, cluster *vaulttest.Cluster, targets []*soakTarget) *soakReaders {
	r := &soakReaders{}
	for _, node := range cluster.Nodes {
		client := node.Client(node.Root.Token())
		group.Go(func() {
			newest := map[string]int{}
			pause := time.NewTicker(150 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-pause.C:
				case <-ctx.Done():
					return
				}
				s := targets[rand.IntN(len(targets))]
				vended, err := client.Logical().ReadWithContext(ctx, s.Path(s.creds()))
				if err != nil || vended == nil {
					continue // nobody is active, or this node is dead
				}
				r.answers.Add(1)
				version := number(vended.Data["version"])
				err = s.complete(vended)
				if version < newest[s.Path(s.name)] {
					err = errors.Join(err, fmt.Errorf("version %d after %d", version, newest[s.Path(s.name)]))
				}
				newest[s.Path(s.name)] = version
				if err != nil {
					r.mu.Lock()
					r.wrong = append(r.wrong, fmt.Errorf("%s: %w", s.Path(s.name), err))
					r.mu.Unlock()
				}
			}
		})
	}
	return r
}

// complete reports material whose secret and fingerprint do not belong together.
func (s *soakTarget) complete(vended *api.Secret) error {
	if s.decoy == "" {
		return complete(vended)
	}
	secret := text(vended.Data["client_secret"]) + text(vended.Data["access_token"])
	switch {
	case fingerprint(secret) != vended.Data["fingerprint_sha256"]:
		return errors.New("the fingerprint is not the secret's")
	case number(vended.Data["ttl"]) < 1:
		return fmt.Errorf("ttl %v", vended.Data["ttl"])
	default:
		return nil
	}
}

// alive reports stored material that is not what C1 holds.
func (s *soakTarget) alive(ctx context.Context, vended *api.Secret) error {
	if s.decoy == "" {
		return s.tenant.Login(ctx, text(vended.Data["client_id"]), text(vended.Data["client_secret"]))
	}
	if s.tenant.DecoyFingerprint(s.decoy) != vended.Data["fingerprint_sha256"] {
		return errors.New("C1 holds another secret")
	}
	return nil
}

// requireSoakHeals says that within the time stated every binding is ready, was
// rotated in its turn, and holds what is alive at C1. Each mount has so many bindings
// beside these.
func requireSoakHeals(t *testing.T, cluster *vaulttest.Cluster, targets []*soakTarget, beside int, from time.Time) {
	t.Helper()
	leader := cluster.Leader()
	deadline := from.Add(afterwards)
	// What was settled is rotated in its turn again: a period and what a turn may
	// be late.
	const inTurn = shortestPeriod*time.Second + begins
	well := func(i int) error {
		s := targets[i]
		e := on(s.Engine, leader)
		// A rotation between the reads shows in the version.
		shown, err := e.Read(s.binding())
		if err != nil {
			return err
		}
		if state := shown.Data["state"]; state != "ready" && state != "rotating" {
			return fmt.Errorf("%s is %s: %v", s.Path(s.binding()), state, shown.Data["problems"])
		}
		vended, err := e.Read(s.creds())
		if err != nil {
			return err
		}
		if err := errors.Join(s.complete(vended), s.alive(t.Context(), vended)); err != nil {
			return fmt.Errorf("%s is %v and holds version %v: %w", s.Path(s.binding()), shown.Data["state"], vended.Data["version"], err)
		}
		last := parseTime(t, vended.Data["last_vault_rotation"])
		if age := time.Since(last); age > inTurn {
			return fmt.Errorf("%s was rotated %s ago last", s.Path(s.binding()), age.Round(time.Second))
		}
		return nil
	}
	pending := make([]int, len(targets))
	for i := range pending {
		pending[i] = i
	}
	// Whoever is well once may rotate again, which is well too.
	said := time.Now()
	eventuallyWithin(t, time.Until(deadline), func() error {
		var mu sync.Mutex
		var still []int
		var errs []error
		_ = inParallel(4, len(pending), func(i int) error {
			if err := well(pending[i]); err != nil {
				mu.Lock()
				defer mu.Unlock()
				still, errs = append(still, pending[i]), append(errs, err)
			}
			return nil
		})
		if pending = still; len(pending) > 0 {
			if time.Since(said) > 20*time.Second {
				said = time.Now()
				t.Logf("after %s %d bindings are not well yet, the first: %v", time.Since(from).Round(time.Second), len(pending), errs[0])
			}
			return fmt.Errorf("%d bindings are not well, the first: %w", len(pending), errs[0])
		}
		return nil
	})
	t.Logf("every binding was seen well within %s", time.Since(from).Round(time.Second))
	// All of them at the same time, and so does status say.
	eventuallyWithin(t, time.Until(deadline)+inTurn, func() error {
		for _, mount := range mountsOf(targets) {
			status, err := read(t.Context(), leader.Root, mount+"/status")
			if err != nil {
				return err
			}
			if status["healthy"] != true || number(status["failing"])+number(status["overdue"]) > 0 || number(status["bindings"]) != len(targets)/2+beside {
				return fmt.Errorf("%s: %v", mount, without(status, "note", "version", "tenant"))
			}
		}
		return inParallel(4, len(targets), func(i int) error {
			err := well(i)
			if err != nil {
				err = well(i) // it rotated between two of the reads
			}
			return err
		})
	})
	t.Logf("everything was well at once within %s", time.Since(from).Round(time.Second))
}

func mountsOf(targets []*soakTarget) []string {
	var mounts []string
	for _, s := range targets {
		if !slices.Contains(mounts, s.Mount) {
			mounts = append(mounts, s.Mount)
		}
	}
	return mounts
}

// requireSoakOnRecord says that each rotation which C1 carried out is on record,
// or one of those whose outcome is said to have been unknown, and that none was
// carried out before its turn without a reason. It returns the rotations, and
// the attempts that did not succeed. It asks the leader: a standby of OpenBao answers
// by itself, and may be a moment behind C1.
func requireSoakOnRecord(t *testing.T, leader *vaulttest.Server, s *soakTarget) (atC1, failed int) {
	t.Helper()
	// A rotation between the two looks would be in one of them only.
	var entries []c1test.Entry
	var data map[string]any
	vaulttest.Eventually(t, 20*time.Second, func() error {
		entries = slices.DeleteFunc(rotated(s.tenant), func(entry c1test.Entry) bool { return entry.Object != s.object() })
		var err error
		if data, err = read(t.Context(), leader.Root, s.Path(s.binding()+"/history")); err != nil {
			return err
		}
		after := slices.DeleteFunc(rotated(s.tenant), func(entry c1test.Entry) bool { return entry.Object != s.object() })
		shown, err := read(t.Context(), leader.Root, s.Path(s.binding()))
		if err == nil && (len(after) != len(entries) || shown["state"] != "ready") {
			err = fmt.Errorf("%s is %v", s.name, shown["state"])
		}
		return err
	})
	var records []record
	require.NoError(t, convert(data["records"], &records))
	list, _ := data["records"].([]any)
	require.Less(t, len(records), 200, "the history is whole")

	byFingerprint := map[string]record{}
	unknown := 0
	var before time.Time
	for i, r := range slices.Backward(records) {
		details := list[i].(map[string]any)
		started := parseTime(t, details["started_at"])
		switch r.Outcome {
		case "stored":
			require.NotEmpty(t, r.Fingerprint)
			require.NotContains(t, byFingerprint, r.Fingerprint)
			byFingerprint[r.Fingerprint] = r
			if r.Reason == "schedule" && !before.IsZero() {
				// The record's times are whole seconds.
				require.GreaterOrEqual(t, started.Sub(before), earliest-2*time.Second,
					"%s: version %d came before its turn", s.Path(s.name), r.Version)
			}
			before = parseTime(t, details["finished_at"])
		case "superseded":
			unknown++
			failed++
		case "failed":
			failed++
		default:
			t.Fatalf("%s: outcome %q", s.Path(s.name), r.Outcome)
		}
	}
	lost := 0
	atRecord := map[string]bool{}
	var when []string // C1 carried out what is not on record
	for _, entry := range entries {
		if _, onRecord := byFingerprint[entry.Fingerprint]; onRecord {
			atRecord[entry.Fingerprint] = true
		} else {
			lost++
			when = append(when, entry.Time.Format(time.RFC3339Nano))
		}
	}
	require.LessOrEqual(t, lost, unknown, "%s: C1 rotated more often than is on record or said to be unknown: at %s; on record: %v", s.Path(s.name), when, records)
	require.Len(t, atRecord, len(byFingerprint), "%s: a record of a rotation that C1 did not carry out", s.Path(s.name))
	return len(entries), failed
}

// requireEachNodeSaysTheSame asks every endpoint of every node.
func requireEachNodeSaysTheSame(t *testing.T, cluster *vaulttest.Cluster, engines []*vaulttest.Engine, targets []*soakTarget) {
	t.Helper()
	vaulttest.Eventually(t, 20*time.Second, func() error {
		active := 0
		for _, node := range cluster.Nodes {
			if node.Active() {
				active++
			}
		}
		if active != 1 {
			return fmt.Errorf("%d nodes are active", active)
		}
		return nil
	})

	for i, e := range engines {
		s := targets[i] // on that mount, and a connector
		require.Equal(t, e.Mount, s.Mount)
		decoy := targets[8+i]
		require.Equal(t, e.Mount, decoy.Mount)
		require.NotEmpty(t, decoy.decoy)
		for _, path := range []string{
			"config", s.creds(), s.binding(), s.binding() + "/history",
			decoy.creds(), decoy.binding(), decoy.binding() + "/history", "status",
		} {
			// A rotation may come in between.
			vaulttest.Eventually(t, 20*time.Second, func() error {
				var answers []object
				for _, node := range cluster.Nodes {
					answer, err := on(e, node).Read(path)
					if err != nil {
						return fmt.Errorf("%s of %s: %w", path, node.Dir(), err)
					}
					answers = append(answers, sameOnAllNodes(path, answer.Data))
				}
				for _, other := range answers[1:] {
					if fmt.Sprint(answers[0]) != fmt.Sprint(other) {
						return fmt.Errorf("%s: the nodes say different things: %v and %v", path, answers[0], other)
					}
				}
				return nil
			})
		}
		var keys []any
		for _, node := range cluster.Nodes {
			list, err := node.Root.Logical().List(e.Path("connectors"))
			require.NoError(t, err)
			if keys == nil {
				keys, _ = list.Data["keys"].([]any)
			}
			require.Equal(t, keys, list.Data["keys"])
			require.Len(t, keys, soakBindings/2*8/10)
		}
	}
	for _, node := range cluster.Nodes {
		requireNodeServes(t, on(engines[0], node), targets[0])
	}
}

// sameOnAllNodes leaves out what is different from one second to the next, and what
// is about the connection and not the bindings.
func sameOnAllNodes(path string, data object) object {
	if path != "status" {
		return without(data, "ttl")
	}
	counts := object{}
	for _, name := range []string{
		"healthy", "configured", "version", "tenant", "bindings", "ready", "failing", "overdue",
		"ambiguous", "drifted", "retiring", "paused_reason",
	} {
		counts[name] = data[name]
	}
	return counts
}

// requireNodeServes says that this node does all that a client may want.
func requireNodeServes(t *testing.T, e *vaulttest.Engine, s *soakTarget) {
	t.Helper()
	// Look-up, wrapping, and a rotation by hand, of a scheduled binding.
	current := e.MustRead(s.creds())
	found := e.MustWrite("lookup", object{"fingerprint_sha256": current.Data["fingerprint_sha256"]}).Data
	require.Equal(t, s.name, found["binding"])
	require.Equal(t, current.Data["last_vault_rotation"], found["valid_from"])
	client := e.Client(e.Root.Token())
	client.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped, err := client.Logical().Read(e.Path(s.creds()))
	require.NoError(t, err)
	require.Empty(t, wrapped.Data)
	opened, err := e.Root.Logical().Unwrap(wrapped.WrapInfo.Token)
	require.NoError(t, err)
	require.NoError(t, s.complete(opened))
	rotated := e.MustWrite(s.binding()+"/rotate", nil).Data
	require.Greater(t, integer(t, rotated["version"]), integer(t, current.Data["version"]))
	e.Shows(func() error {
		if shown := e.MustRead(s.creds()).Data; shown["fingerprint_sha256"] != rotated["fingerprint_sha256"] {
			return fmt.Errorf("it shows version %v, and %v is what was rotated to", shown["version"], rotated["version"])
		}
		return nil
	})
	written := e.MustWrite(s.creds(), nil)
	require.Empty(t, written.LeaseID)
	require.NoError(t, s.alive(t.Context(), written))

	// And a binding with leases, from its making to its end.
	ref := e.Tenant.NewConnector("Leased")
	e.BindConnector(e.Mount, "leased", ref, nil)
	leased := e.MustRead("connector-creds/leased")
	require.NoError(t, e.Login(leased))
	renewed, err := e.Root.Sys().Renew(leased.LeaseID, 120)
	require.NoError(t, err)
	require.Positive(t, renewed.LeaseDuration)
	revoke(t, e, leased)
	require.Error(t, e.Login(leased))
	_, err = e.Root.Logical().Delete(e.Path("connectors/leased"))
	require.NoError(t, err)
}
