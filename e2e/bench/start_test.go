// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionStart = "Starting with many bindings"

	firstTimeout = 10 * time.Minute
	firstPolls   = 5 * time.Millisecond // so often that the time says something
	// settledAfter is how long after its first rotation a plugin is done with
	// what a start sets off.
	settledAfter = 3 * time.Second
	idleWindow   = time.Minute

	// notDuePeriod is far enough for nothing to be due while it is measured.
	notDuePeriod = 30 * 24 * time.Hour
	// ticksPerSecond is the unit of /proc/<pid>/stat, fixed in Linux.
	ticksPerSecond = 100
)

// started is a server with one engine and many bindings or roles that are not
// due, one that is due whenever the server starts, and one to read.
type started struct {
	*vaulttest.Server
	client   *api.Client // for reading beside the unseal
	readPath string
	duePath  string
	rotated  func() []time.Time // when something was rotated, in order

	firstRotation, firstRead, memory, idle report.Sample
}

func startServer(b *testing.B) *vaulttest.Server {
	b.Helper()
	return vaulttest.Start(b, vaulttest.Options{NoAudit: true, Measure: true})
}

// startOurs binds n connectors. None but two of them exist at C1, which nobody
// asks about the others.
func startOurs(b *testing.B, n int) *started {
	b.Helper()
	s := startServer(b)
	s.RegisterPlugin()
	e := s.Engine("c1", c1test.Options{})
	s.Configure(e.Mount, e.Tenant, map[string]any{"request_timeout": defaultTimeout})
	scheduled := map[string]any{"rotate_on": "schedule", "rotation_period": int(notDuePeriod.Seconds())}
	s.BindConnector(e.Mount, "read", e.Tenant.NewConnector("read"), scheduled)
	writeMany(b, clientsOf(s), n-2, func(i int) (string, map[string]any) {
		return e.Path(fmt.Sprintf("connectors/s%06d", i)), map[string]any{
			"app_id": "app", "connector_id": fmt.Sprintf("connector-%06d", i), "verify": false,
			"rotate_on": "schedule", "rotation_period": int(notDuePeriod.Seconds()), "skip_initial_rotation": true,
		}
	})
	due := e.Tenant.NewConnector("due")
	s.BindConnector(e.Mount, "due", due, map[string]any{"rotate_on": "schedule", "rotation_schedule": "* * * * *"})
	return &started{
		Server: s, client: s.Client(s.Root.Token()),
		readPath: e.Path("connector-creds/read"), duePath: e.Path("connectors/due"),
		rotated: func() []time.Time { return rotationTimes(e.Tenant) },
	}
}

// startRoles makes n static roles of the OpenLDAP engine.
func startRoles(b *testing.B, n int) *started {
	b.Helper()
	s := startServer(b)
	installLDAP(s)
	r := mountRoles(b, s, "ldap", 0)
	r.create(b, n-2, notDuePeriod)
	for name, period := range map[string]time.Duration{"read": notDuePeriod, "due": rolesPeriod} {
		if _, err := s.Root.Logical().Write("ldap/static-role/"+name, map[string]any{
			"username": name, "dn": dnOf(name), "rotation_period": int(period.Seconds()),
		}); err != nil {
			b.Fatal(err)
		}
	}
	return &started{
		Server: s, client: s.Client(s.Root.Token()),
		readPath: "ldap/static-cred/read", duePath: "ldap/static-role/due",
		rotated: r.rotationTimes,
	}
}

// unseal opens the sealed server, and measures how long it takes until the one
// rotation that is due has been carried out and until a read is answered.
func (s *started) unseal(b *testing.B) {
	b.Helper()
	var (
		group   sync.WaitGroup
		read    time.Time
		failure error
	)
	before, began := len(s.rotated()), time.Now()
	group.Go(func() { read, failure = s.readAsSoonAsPossible() })
	s.Unseal()
	rotated, err := s.rotatedAfter(before)
	group.Wait()
	if err := errors.Join(err, failure); err != nil {
		b.Fatal(err)
	}
	s.firstRotation = append(s.firstRotation, rotated.Sub(began).Seconds())
	s.firstRead = append(s.firstRead, read.Sub(began).Seconds())
}

func (s *started) readAsSoonAsPossible() (time.Time, error) {
	var answered time.Time
	err := vaulttest.Poll(firstPolls, firstTimeout, func() error {
		secret, err := s.client.Logical().Read(s.readPath)
		if err == nil && secret == nil {
			err = errors.New("nothing to read")
		}
		answered = time.Now()
		return err
	})
	return answered, err
}

// rotatedAfter returns when the first rotation after so many was carried out.
func (s *started) rotatedAfter(before int) (time.Time, error) {
	var at time.Time
	err := vaulttest.Poll(firstPolls, firstTimeout, func() error {
		times := s.rotated()
		if len(times) == before {
			return errors.New("nothing was rotated")
		}
		at = times[before]
		return nil
	})
	return at, err
}

// plugin returns the process of the engine, the only one that the server runs.
func (s *started) plugin(b *testing.B) int {
	b.Helper()
	pids := s.PluginPIDs()
	if len(pids) != 1 {
		b.Fatalf("%d plugin processes, want one", len(pids))
	}
	return pids[0]
}

// residentMemory is what a process has in RAM, in MiB.
func residentMemory(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// cpuTime is what a process has used so far, in seconds.
func cpuTime(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name, in brackets, may hold spaces; utime and stime are the 14th and
	// 15th field of all, the 12th and 13th behind it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	utime, err1 := strconv.ParseFloat(fields[11], 64)
	stime, err2 := strconv.ParseFloat(fields[12], 64)
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return (utime + stime) / ticksPerSecond
}

// startRound seals all servers, waits until what is due is so, and unseals one
// after the other.
func startRound(b *testing.B, all []*started) {
	b.Helper()
	for _, s := range all {
		if err := s.Root.Sys().Seal(); err != nil {
			b.Fatal(err)
		}
	}
	// Ours are due with each minute; the roles will be by then.
	now := time.Now()
	<-time.After(now.Truncate(time.Minute).Add(time.Minute + rolesPeriod).Sub(now))
	for _, s := range all {
		s.unseal(b)
	}
	<-time.After(settledAfter)
	for _, s := range all {
		s.memory = append(s.memory, residentMemory(b, s.plugin(b)))
	}
}

// idleMinute has nothing be due any more, and measures all at the same time:
// they hardly do anything.
func idleMinute(b *testing.B, all []*started) {
	b.Helper()
	before := make([]float64, len(all))
	for _, s := range all {
		if _, err := s.Root.Logical().Delete(s.duePath); err != nil {
			b.Fatal(err)
		}
	}
	<-time.After(settledAfter)
	for i, s := range all {
		before[i] = cpuTime(b, s.plugin(b))
	}
	<-time.After(idleWindow)
	for i, s := range all {
		s.idle = append(s.idle, cpuTime(b, s.plugin(b))-before[i])
	}
}

// compareStart adds a row, and what to say if its goal is not met.
func compareStart(c report.Comparison, bound string) {
	c.Section = sectionStart
	compare(c)
	if c.Goal != nil {
		note(report.Note{Section: sectionStart, Unmet: c.Measure, Text: bound})
	}
}

// BenchmarkStart measures what becomes of a start, of memory and of idling as
// the bindings grow in number.
func BenchmarkStart(b *testing.B) {
	rounds, sizes := 2, []int{1_000, 10_000}
	if *full {
		sizes = []int{1_000, 10_000, 100_000}
	}
	var ours, theirs, all []*started
	for _, n := range sizes {
		ours, theirs = append(ours, startOurs(b, n)), append(theirs, startRoles(b, n))
		all = append(all, ours[len(ours)-1], theirs[len(theirs)-1])
	}
	for range rounds {
		startRound(b, all)
	}
	idleMinute(b, all)

	for _, what := range []struct {
		measure, unit string
		of            func(*started) report.Sample
		flat, beside  *report.Goal // flat: the most bindings beside the fewest
		bound         string       // said when a goal is not met
		file, title   string       // of the plot; "" for none
	}{
		{
			measure: "from unseal to the first due rotation", unit: "s", of: func(s *started) report.Sample { return s.firstRotation },
			flat: &report.Goal{AtMost: 1.5}, beside: &report.Goal{AtMost: 0.02},
			bound: "Nearly all of ours is what Vault takes to open its storage and to start a process, whatever that process does.",
			file:  "start-time.svg", title: "From unseal to the first due rotation",
		},
		{measure: "from unseal to the first read answered", unit: "s", of: func(s *started) report.Sample { return s.firstRead }},
		{
			measure: "memory of the plugin process (RSS)", unit: "MiB", of: func(s *started) report.Sample { return s.memory },
			flat:  &report.Goal{AtMost: 1.5},
			bound: "What grows is what the engine has read since it started.",
			file:  "start-memory.svg", title: "Memory of the plugin process after a start",
		},
		{measure: "CPU time of the plugin process, idle", unit: "s/min", of: func(s *started) report.Sample { return s.idle }},
	} {
		lines := []report.Series{{Name: "ours"}, {Name: ldapPlugin}}
		for i, n := range sizes {
			var goal *report.Goal
			if n == 100_000 {
				goal = what.beside
			}
			mine, other := what.of(ours[i]), what.of(theirs[i])
			compareStart(report.Comparison{
				Measure: fmt.Sprintf("%s, %d bindings", what.measure, n), Unit: what.unit,
				Ours: mine, Rival: ldapPlugin, Theirs: other, Goal: goal,
			}, what.bound)
			b.Logf("%s, %d bindings, ours and OpenLDAP in %s: %.3f %.3f", what.measure, n, what.unit, mine, other)
			for k, sample := range []report.Sample{mine, other} {
				lines[k].X, lines[k].Y = append(lines[k].X, float64(n)), append(lines[k].Y, sample)
			}
		}
		if what.flat != nil {
			last := len(sizes) - 1
			compareStart(report.Comparison{
				Measure: fmt.Sprintf("%s, %d bindings beside %d", what.measure, sizes[last], sizes[0]), Unit: what.unit,
				Ours: what.of(ours[last]), Rival: fmt.Sprintf("ours with %d", sizes[0]), Theirs: what.of(ours[0]), Goal: what.flat,
			}, what.bound)
		}
		if what.file != "" {
			plot(report.Plot{
				File: what.file, Section: sectionStart, Title: what.title,
				X: "bindings", Y: what.unit, LogX: true, LogY: true, Series: lines,
			})
		}
	}
	note(report.Note{Section: sectionStart, Text: fmt.Sprintf(
		"Bindings and static roles are scheduled and not due, but for one that fell due while the server was sealed; storage is in memory. "+
			"The time begins with the call that unseals and ends when C1 or the directory, which answer at once, have carried that rotation out. "+
			"It includes what Vault takes to open its storage and to start the plugin. The OpenLDAP engine reads in every role before it is ready, "+
			"and then looks at its queue every 5 s; ours reads what is due in a minute. Idle is one window of %s.", idleWindow)})
}
