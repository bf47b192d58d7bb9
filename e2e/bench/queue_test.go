// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/bench/rivals/directory"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionScheduled = "Rotating by the clock"

	ldapPlugin = "OpenLDAP static roles, external"
	ldapName   = "openldap-external" // in Vault's catalog

	// targetDelay is how long C1 and the directory take for one rotation.
	targetDelay = 100 * time.Millisecond

	defaultWorkers = 8
	manyWorkers    = 32
	// manyRequests is the least max_concurrent_requests of which manyWorkers may
	// use three quarters.
	manyRequests = 44

	// How many are overdue at once. Whole batches: as many as are rotated at the
	// same time, several times over.
	overdueDefault = 64 * defaultWorkers
	overdueMany    = 32 * manyWorkers
	overdueRoles   = 100

	rolesPeriod = 5 * time.Second // the shortest that it takes

	// plannedAhead is how long before their time ours are planned, which is
	// about what the directory's turn takes.
	plannedAhead = 25 * time.Second
	drainTimeout = 3 * time.Minute
	manyClients  = 16
)

// clock is a mount of our engine with many bindings that are due at once.
type clock struct {
	*vaulttest.Engine
	workers  int
	bindings int
	clients  []*api.Client
	refs     []c1test.ConnectorRef
	held     *c1test.Barrier // the first rotations that are due, one per worker
	before   int             // rotations at C1 when they came
}

func startClock(b *testing.B, s *vaulttest.Server, mount string, workers, bindings int, settings map[string]any) *clock {
	b.Helper()
	c := &clock{Engine: s.Engine(mount, c1test.Options{}), workers: workers, bindings: bindings, clients: clientsOf(s)}
	s.Configure(mount, c.Tenant, settings)
	c.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: targetDelay})
	for i := range bindings {
		c.refs = append(c.refs, c.Tenant.NewConnector(fmt.Sprintf("Connector %d", i)))
	}
	return c
}

// plan makes all of the bindings due at a minute, and has C1 hold the first of
// their rotations until drain.
func (c *clock) plan(b *testing.B, at time.Time) {
	b.Helper()
	bindDueAt(b, c.Engine, c.clients, c.refs, at)
	if !time.Now().Before(at) {
		b.Fatal("the bindings were due before all of them were planned")
	}
	c.before = len(rotationTimes(c.Tenant))
	c.held = c.Tenant.HoldNext(c1test.OpRotateConnector, "", c1test.BeforeCommit, c.workers)
}

// bindDueAt binds connectors that have a turn each day, the next at this minute.
func bindDueAt(b *testing.B, e *vaulttest.Engine, clients []*api.Client, refs []c1test.ConnectorRef, at time.Time) {
	b.Helper()
	writeMany(b, clients, len(refs), func(i int) (string, map[string]any) {
		return e.Path(fmt.Sprintf("connectors/s%05d", i)), map[string]any{
			"app_id": refs[i].AppID, "connector_id": refs[i].ConnectorID, "verify": false,
			"rotate_on": "schedule", "skip_initial_rotation": true,
			"rotation_schedule": fmt.Sprintf("%d %d * * *", at.Minute(), at.Hour()),
		}
	})
}

// drain lets C1 go on and returns the rotations per second.
func (c *clock) drain(b *testing.B) float64 {
	b.Helper()
	select {
	case <-c.held.Arrived():
	case <-time.After(drainTimeout):
		b.Fatalf("only %d rotations began", c.held.Held())
	}
	c.held.Release()
	vaulttest.Eventually(b, drainTimeout, func() error {
		if n := len(rotationTimes(c.Tenant)) - c.before; n < c.bindings {
			return fmt.Errorf("%d of %d have rotated", n, c.bindings)
		}
		return nil
	})
	return steadyRate(rotationTimes(c.Tenant)[c.before:], c.workers)
}

// rotationTimes are when C1 rotated connectors, in order.
func rotationTimes(tenant *c1test.Tenant) []time.Time {
	var times []time.Time
	for _, entry := range tenant.Journal() {
		if entry.Op == c1test.OpRotateConnector {
			times = append(times, entry.Time)
		}
	}
	return times
}

// steadyRate is how many per second there were from the end of the first batch,
// of as many as run at the same time, to the last.
func steadyRate(times []time.Time, batch int) float64 {
	slices.SortFunc(times, time.Time.Compare)
	first, last := times[batch-1], times[len(times)-1]
	return float64(len(times)-batch) / last.Sub(first).Seconds()
}

// clientsOf returns clients for work that would take long one by one.
func clientsOf(s *vaulttest.Server) []*api.Client {
	clients := make([]*api.Client, manyClients)
	for i := range clients {
		clients[i] = s.Client(s.Root.Token())
	}
	return clients
}

// writeMany makes n writes, as many at the same time as there are clients.
func writeMany(b *testing.B, clients []*api.Client, n int, write func(i int) (path string, data map[string]any)) {
	b.Helper()
	failures := make([]error, len(clients))
	var group sync.WaitGroup
	for k, client := range clients {
		group.Go(func() {
			for i := k; i < n && failures[k] == nil; i += len(clients) {
				path, data := write(i)
				_, failures[k] = client.Logical().WriteWithContext(b.Context(), path, data)
			}
		})
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		b.Fatal(err)
	}
}

// roles are static roles of the OpenLDAP engine, mounted at a path.
type roles struct {
	server    *vaulttest.Server
	mount     string
	directory *directory.Directory
	clients   []*api.Client
}

// installLDAP builds the OpenLDAP engine as an external plugin, which is how
// ours runs.
func installLDAP(s *vaulttest.Server) {
	s.Install(ldapName, vaulttest.Program{
		Module: "e2e/bench", Main: "github.com/hashicorp/vault-plugin-secrets-openldap/cmd/vault-plugin-secrets-openldap",
	})
}

func mountRoles(b *testing.B, s *vaulttest.Server, mount string, delay time.Duration) *roles {
	b.Helper()
	r := &roles{server: s, mount: mount, directory: directory.Start(b, delay), clients: clientsOf(s)}
	if err := s.Root.Sys().Mount(mount, &api.MountInput{Type: ldapName}); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Root.Logical().Write(mount+"/config", map[string]any{
		"url": r.directory.URL(), "schema": "openldap", "binddn": "cn=admin,dc=example,dc=org", "bindpass": "none is wrong",
	}); err != nil {
		b.Fatal(err)
	}
	return r
}

// create makes n roles of a period that are not rotated now.
func (r *roles) create(b *testing.B, n int, period time.Duration) {
	b.Helper()
	writeMany(b, r.clients, n, func(i int) (string, map[string]any) {
		name := fmt.Sprintf("s%06d", i)
		return r.mount + "/static-role/" + name, map[string]any{
			"username": name, "dn": dnOf(name), "rotation_period": int(period.Seconds()), "skip_import_rotation": true,
		}
	})
}

func dnOf(name string) string { return "uid=" + name + ",ou=people,dc=example,dc=org" }

// drainRoles measures overdue roles on a mount of their own, which is gone when
// it returns: their period is so short that they would go on for ever.
func drainRoles(b *testing.B, s *vaulttest.Server, mount string) float64 {
	b.Helper()
	r := mountRoles(b, s, mount, targetDelay)
	r.create(b, overdueRoles, rolesPeriod)
	vaulttest.Eventually(b, drainTimeout, func() error {
		if n := len(r.directory.Changes()); n < overdueRoles {
			return fmt.Errorf("%d of %d have rotated", n, overdueRoles)
		}
		return nil
	})
	times := r.rotationTimes()[:overdueRoles]
	if err := s.Root.Sys().Unmount(mount); err != nil {
		b.Fatal(err)
	}
	return steadyRate(times, 1)
}

// rotationTimes are when the directory changed passwords, in order.
func (r *roles) rotationTimes() []time.Time {
	var times []time.Time
	for _, change := range r.directory.Changes() {
		times = append(times, change.Time)
	}
	return times
}

// BenchmarkScheduledRotations measures how fast overdue rotations are carried
// out by the clock, when what they rotate takes its time to answer.
func BenchmarkScheduledRotations(b *testing.B) {
	rounds := 2
	if *full {
		rounds = 4
	}
	s := vaulttest.Start(b, vaulttest.Options{NoAudit: true, Measure: true})
	s.RegisterPlugin()
	installLDAP(s)
	byDefault := startClock(b, s, "c1-default", defaultWorkers, overdueDefault, map[string]any{"request_timeout": defaultTimeout})
	many := startClock(b, s, "c1-many", manyWorkers, overdueMany, map[string]any{
		"request_timeout": defaultTimeout, "rotation_workers": manyWorkers, "max_concurrent_requests": manyRequests,
	})

	round := 0
	samples := alternate(b, rounds,
		func(b *testing.B) float64 {
			round++
			at := time.Now().Add(plannedAhead).Truncate(time.Minute).Add(time.Minute).UTC()
			byDefault.plan(b, at)
			many.plan(b, at)
			return drainRoles(b, s, fmt.Sprintf("ldap-%d", round))
		},
		byDefault.drain,
		many.drain,
	)
	for i, c := range []*clock{byDefault, many} {
		settings, goal := fmt.Sprintf("rotation_workers=%d", c.workers), &report.Goal{AtLeast: 20}
		if c == byDefault {
			settings, goal = "default settings", nil
		}
		measure := "overdue rotations, " + settings
		compare(report.Comparison{
			Section: sectionScheduled, Measure: measure, Unit: "rotations/s",
			Ours: samples[i+1], Rival: ldapPlugin, Theirs: samples[0], Goal: goal,
		})
		note(report.Note{Section: sectionScheduled, Unmet: measure, Text: "Short of what the workers allow, it is the processors that bound ours: " +
			"Vault, the plugin and the emulated C1 share them."})
	}
	b.Logf("rotations/s, OpenLDAP, ours by default, ours with %d workers: %.1f", manyWorkers, samples)
	note(report.Note{Section: sectionScheduled, Text: fmt.Sprintf(
		"C1 and the directory take %d ms per rotation. %d, %d and %d are overdue; "+
			"measured from the first batch to the last rotation, so that waiting for the clock does not count. "+
			"What bounds ours is `rotation_workers` divided by C1's latency: with the default of %d that is %.0f/s, with %d it is %.0f/s. "+
			"The OpenLDAP engine rotates one role at a time, whatever its settings.",
		targetDelay.Milliseconds(), overdueRoles, overdueDefault, overdueMany,
		defaultWorkers, defaultWorkers/targetDelay.Seconds(), manyWorkers, manyWorkers/targetDelay.Seconds())})
}
