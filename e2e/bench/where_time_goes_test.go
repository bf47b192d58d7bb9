// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"debug/gosym"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/heapdump"
	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	profiled  = "profiled"
	wrappedKV = "kv-wrapped"

	traceEnv = "C1_BENCH_TRACE" // as e2e/bench/profiled has it

	// The sides take turns, as everywhere.
	profiledReads, profiledTurns = 100, 5
	// heapSettle is how long a process idles before its heap is looked at.
	heapSettle = 15 * time.Second
)

// installProfiled installs the engine with the clock, built with the same tags as
// the engine itself.
func installProfiled(b *testing.B, s *vaulttest.Server) {
	b.Helper()
	s.Install(profiled, vaulttest.Program{Module: "e2e/bench", Main: "./profiled", Tagged: true})
}

func mountProfiled(b *testing.B, s *vaulttest.Server, mount string) {
	b.Helper()
	if err := s.Root.Sys().Mount(mount, &api.MountInput{Type: profiled}); err != nil {
		b.Fatal(err)
	}
}

// markdownTable returns a table, numbers to the right of the first n columns.
func markdownTable(n int, head []string, rows ...[]string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "| %s |\n|%s%s\n", strings.Join(head, " | "), strings.Repeat("---|", n), strings.Repeat("---:|", len(head)-n))
	for _, row := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// traced is one read as the profiled plugin writes it down; times are µs since
// its start.
type traced struct {
	Calls []tracedCall `json:"calls"`
	Total int64        `json:"total"`
}

type tracedCall struct {
	Name       string `json:"name"`
	Begin, End int64
}

// The phases of a leased rotation, in the order in which they follow each other.
const (
	beforeWrites = iota
	attemptRound
	betweenRounds
	outcomeRound
	afterWrites
	phases
)

var phaseNames = [phases]string{
	"until the first round", "first round: the attempt", "the call to C1, and the engine's own work", "second round: the outcome", "until the answer",
}

const (
	putTarget = "put target"
	sendEvent = "SendEvent"
	dropOld   = "delete fingerprint" // of a record that is kept no longer
)

// phased is one read, by phase.
type phased struct {
	took  [phases]int64
	calls [phases][]string
}

// phaseOf says which phase a call belongs to by its name, or -1: the target is
// written once per round.
func phaseOf(name string, targetWritten bool) int {
	switch name {
	case putTarget:
		if targetWritten {
			return outcomeRound
		}
		return attemptRound
	case "put due", "DefaultLeaseTTL", "MaxLeaseTTL":
		return attemptRound
	case "put fingerprint", "Tainted":
		return outcomeRound
	case sendEvent, dropOld:
		return afterWrites // whatever they overlap with: nobody waits for them
	}
	return -1
}

func (r traced) phases() (phased, error) {
	var (
		p       phased
		written bool
		began   = [phases]int64{attemptRound: -1, outcomeRound: -1}
		ended   [phases]int64
		others  []tracedCall
	)
	slices.SortFunc(r.Calls, func(x, y tracedCall) int { return cmp.Compare(x.Begin, y.Begin) })
	for _, c := range r.Calls {
		phase := phaseOf(c.Name, written)
		written = written || c.Name == putTarget
		if phase < 0 {
			others = append(others, c)
			continue
		}
		p.calls[phase] = append(p.calls[phase], c.Name)
		if began[phase] < 0 {
			began[phase] = c.Begin
		}
		ended[phase] = max(ended[phase], c.End)
	}
	if began[attemptRound] < 0 || began[outcomeRound] < 0 || began[outcomeRound] < ended[attemptRound] {
		return p, errors.New("a read has no two rounds of writes")
	}
	p.took = [phases]int64{
		began[attemptRound], ended[attemptRound] - began[attemptRound], began[outcomeRound] - ended[attemptRound],
		ended[outcomeRound] - began[outcomeRound], r.Total - ended[outcomeRound],
	}
	for _, c := range others {
		switch {
		case c.Begin < began[attemptRound]:
			p.calls[beforeWrites] = append(p.calls[beforeWrites], c.Name)
		case c.Begin < began[outcomeRound]:
			p.calls[betweenRounds] = append(p.calls[betweenRounds], c.Name)
		default:
			p.calls[afterWrites] = append(p.calls[afterWrites], c.Name)
		}
	}
	return p, nil
}

// callsText lists the calls of a phase in no order: they overlap.
func callsText(names []string) string {
	counts := map[string]int{}
	for _, name := range names {
		counts[name]++
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		text := "`" + name + "`"
		if n := counts[name]; n > 1 {
			text += fmt.Sprintf(" ×%d", n)
		}
		if name == sendEvent || name == dropOld {
			text += " (nobody waits for it)"
		}
		list = append(list, text)
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

// readTraces returns the last n reads of a trace.
func readTraces(b *testing.B, path string, n int) []traced {
	b.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	if len(lines) < n {
		b.Fatalf("%d reads were traced, want %d", len(lines), n)
	}
	reads := make([]traced, n)
	for i, line := range lines[len(lines)-n:] {
		if err := json.Unmarshal(line, &reads[i]); err != nil {
			b.Fatal(err)
		}
	}
	return reads
}

// leasedProfile is where the time of a leased read goes, in ms.
type leasedProfile struct {
	took                        [phases]float64
	calls                       [phases]string // of most reads
	byCall                      map[string]float64
	handler, client, bare, toC1 float64
}

func median(values []int64) float64 {
	sample := make(report.Sample, len(values))
	for i, µs := range values {
		sample[i] = float64(µs) / 1000
	}
	return sample.Median()
}

// profileLeased has one client read, since the trace cannot tell reads apart.
func profileLeased(b *testing.B, storage string) leasedProfile {
	b.Helper()
	trace := filepath.Join(b.TempDir(), "trace")
	s := vaulttest.Start(b, vaulttest.Options{Storage: storage, NoAudit: true, Measure: true, Env: []string{traceEnv + "=" + trace}})
	installProfiled(b, s)
	mountProfiled(b, s, "c1")
	emulator := s.Emulator(c1test.Options{})
	l := &leased{Engine: &vaulttest.Engine{Server: s, Mount: "c1", Emulator: emulator, Tenant: emulator.Default()}}
	l.Configure(l.Mount, l.Tenant, map[string]any{"request_timeout": defaultTimeout})
	l.refs = []c1test.ConnectorRef{l.Tenant.NewConnector("Profiled")}
	l.BindConnector(l.Mount, "x00", l.refs[0], map[string]any{"on_lease_end": "keep"})
	l.clients = []*api.Client{l.Client(l.Root.Token())}
	bare := l.bare(b)

	client, token := c1Client(b, l.Emulator.CACertPEM()), l.Tenant.StaticToken()
	direct := func(n int) float64 {
		return medianLatency(b, n, func() error { return directRotation(b.Context(), client, l.Tenant.URL(), token, l.refs[0]) })
	}
	l.latency(leasedWarmUp, l.ours(0))(b)
	l.latency(leasedWarmUp, bare(0))(b)
	direct(leasedWarmUp)

	p := leasedProfile{byCall: map[string]float64{}}
	turns := alternate(b, profiledTurns, l.latency(profiledReads/profiledTurns, l.ours(0)), l.latency(profiledReads/profiledTurns, bare(0)),
		func(*testing.B) float64 { return direct(profiledReads / profiledTurns) })
	p.client, p.bare, p.toC1 = turns[0].Median(), turns[1].Median(), turns[2].Median()

	var (
		took    [phases][]int64
		seen    [phases]map[string]int
		handler []int64
		byCall  = map[string][]int64{}
	)
	for _, read := range readTraces(b, trace, profiledReads) {
		handler = append(handler, read.Total)
		for _, c := range read.Calls {
			if c.End > 0 {
				byCall[c.Name] = append(byCall[c.Name], c.End-c.Begin)
			}
		}
		split, err := read.phases()
		if err != nil {
			b.Fatalf("%v: %+v", err, read)
		}
		for i := range phases {
			if seen[i] == nil {
				seen[i] = map[string]int{}
			}
			took[i] = append(took[i], split.took[i])
			seen[i][callsText(split.calls[i])]++
		}
	}
	p.handler = median(handler)
	for i := range phases {
		p.took[i] = median(took[i])
		p.calls[i] = slices.MaxFunc(slices.Sorted(maps.Keys(seen[i])), func(x, y string) int { return cmp.Compare(seen[i][x], seen[i][y]) })
	}
	for name, times := range byCall {
		if len(times) >= profiledReads/2 { // an event is sent within the read once in a while
			p.byCall[name] = median(times)
		}
	}
	return p
}

// BenchmarkProfileLeasedRotation says where the time of a read goes that
// rotates.
func BenchmarkProfileLeasedRotation(b *testing.B) {
	var profiles []leasedProfile
	for _, storage := range []string{vaulttest.Inmem, vaulttest.Raft} {
		b.Run(storage, func(b *testing.B) { profiles = append(profiles, profileLeased(b, storage)) })
	}
	if len(profiles) != 2 {
		return // one was not asked for, or failed
	}
	inmem, raft := profiles[0], profiles[1]
	row := func(phase, calls string, of func(leasedProfile) float64) []string {
		return []string{phase, calls, fmt.Sprintf("%.2f", of(inmem)), fmt.Sprintf("%.2f", of(raft))}
	}
	var rows [][]string
	for i := range phases {
		rows = append(rows, row(phaseNames[i], inmem.calls[i], func(p leasedProfile) float64 { return p.took[i] }))
	}
	rows = append(rows,
		row("**in the engine**", "", func(p leasedProfile) float64 { return p.handler }),
		row("around it: Vault itself, the lease, the plugin protocol", "", func(p leasedProfile) float64 { return p.client - p.handler }),
		row("**for the client**", "", func(p leasedProfile) float64 { return p.client }),
		row("*beside it:* the bare plugin, for the client", "", func(p leasedProfile) float64 { return p.bare }),
		row("*beside it:* the call to C1 alone", "", func(p leasedProfile) float64 { return p.toC1 }),
	)
	var calls [][]string // without the column of the calls
	for _, name := range slices.Sorted(maps.Keys(inmem.byCall)) {
		if _, ok := raft.byCall[name]; ok {
			calls = append(calls, slices.Delete(row("`"+name+"`", "", func(p leasedProfile) float64 { return p.byCall[name] }), 1, 2))
		}
	}
	text := fmt.Sprintf("**Profile of one leased rotation**: medians of %d reads by one client, with a full history, "+
		"of a build of the engine that times its calls to Vault. What a round calls, it calls at the same time.\n\n%s\n\n"+
		"Each of these calls by itself:\n\n%s", profiledReads,
		markdownTable(2, []string{"phase", "calls to Vault in it", "ms, in memory", "ms, Raft"}, rows...),
		markdownTable(1, []string{"call to Vault", "ms, in memory", "ms, Raft"}, calls...))
	b.Log("\n" + text)
	note(report.Note{Section: sectionLeased, Text: text})
}

// BenchmarkProfileProcess says what the disk, the memory and the start of the
// process are spent on.
func BenchmarkProfileProcess(b *testing.B) {
	ours, theirs := profileOurs(b), profileTheirs(b)
	profileSize(b, ours.binary, theirs.binary)
	profileStart(b, ours, theirs)
	<-time.After(time.Until(theirs.since.Add(heapSettle)))
	profileHeap(b, ours, theirs)
}

// heapSide is a process that writes its heap profile when asked to, beside the
// binary that is measured.
type heapSide struct {
	*processSide
	heap string // the file of the profile
}

func startHeapSide(b *testing.B) *heapSide {
	b.Helper()
	heap := filepath.Join(b.TempDir(), "heap")
	s := vaulttest.Start(b, vaulttest.Options{Measure: true, NoAudit: true, Env: []string{heapdump.Env + "=" + heap}})
	return &heapSide{&processSide{server: s}, heap}
}

func profileOurs(b *testing.B) *heapSide {
	b.Helper()
	p := startHeapSide(b)
	s := p.server
	installProfiled(b, s)
	tenant := s.Emulator(c1test.Options{}).Default()
	for i := range processMounts {
		mount := fmt.Sprintf("c1-%d", i)
		mountProfiled(b, s, mount)
		s.Configure(mount, tenant, nil)
		s.BindConnector(mount, "idle", tenant.NewConnector(mount), map[string]any{"rotate_on": "schedule", "rotation_period": "24h"})
	}
	p.binary, p.since = filepath.Join(s.Dir(), "plugins", vaulttest.PluginName), time.Now()
	return p
}

func profileTheirs(b *testing.B) *heapSide {
	b.Helper()
	p := startHeapSide(b)
	s := p.server
	s.Install(wrappedKV, vaulttest.Program{Module: "e2e/bench", Main: "./rivals/kv"})
	for i := range processMounts {
		mount := fmt.Sprintf("kv-%d", i)
		if err := s.Root.Sys().Mount(mount, &api.MountInput{Type: wrappedKV, Options: map[string]string{"kv_version": "2"}}); err != nil {
			b.Fatal(err)
		}
		// A new mount refuses writes until it has set itself up.
		vaulttest.Eventually(b, 10*time.Second, func() error {
			_, err := s.Root.Logical().Write(mount+"/data/idle", map[string]any{
				"data": map[string]any{"client_id": "idle", "client_secret": strings.Repeat("s", 64)},
			})
			return err
		})
	}
	p.since = time.Now()
	p.binary = s.Install(processKV, vaulttest.Program{
		Module: "e2e/bench", Main: "github.com/hashicorp/vault-plugin-secrets-kv/cmd/vault-plugin-secrets-kv",
	})
	return p
}

// anatomy is what a binary consists of, in bytes.
type anatomy struct {
	sections map[string]uint64
	origins  map[string]uint64 // machine code by where it comes from
	zones    uint64            // of them, the embedded time zones
	total    uint64
}

const otherSections = "other"

var binarySections = []string{".text", ".rodata", ".gopclntab", ".data", ".noptrdata", otherSections}

const (
	originEngine  = "the engine itself"
	originSDK     = "Vault's SDK and API"
	originGRPC    = "gRPC and Protocol Buffers"
	originLibrary = "Go's runtime and standard library"
	originOthers  = "other libraries"
)

var origins = []string{originEngine, originSDK, originGRPC, originLibrary, originOthers}

// originOf says where a Go package comes from.
func originOf(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	under := func(roots ...string) bool {
		return slices.ContainsFunc(roots, func(root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") })
	}
	switch {
	case under("main", "github.com/c1-community/vault-plugin-c1", "github.com/hashicorp/vault-plugin-secrets-kv"):
		return originEngine
	case under("github.com/hashicorp/vault"):
		return originSDK
	case under("google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", "github.com/golang/protobuf"):
		return originGRPC
	case !strings.Contains(first, "."):
		return originLibrary
	default:
		return originOthers
	}
}

func dissect(b *testing.B, binary string) anatomy {
	b.Helper()
	file, err := elf.Open(binary)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatal(err)
	}
	a := anatomy{sections: map[string]uint64{}, origins: map[string]uint64{}, total: uint64(info.Size())}
	a.sections[otherSections] = a.total
	for _, s := range file.Sections {
		if slices.Contains(binarySections, s.Name) {
			a.sections[s.Name] = s.FileSize
			a.sections[otherSections] -= s.FileSize
		}
	}
	// What Go needs to print stacks is there however a binary was stripped.
	lines, err := file.Section(".gopclntab").Data()
	if err != nil {
		b.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, file.Section(".text").Addr))
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range table.Funcs {
		a.origins[originOf(f.PackageName())] += f.End - f.Entry
	}
	a.zones = embeddedZones(b, binary)
	return a
}

// embeddedZones returns the size of the time zones in a binary, 0 if they are
// not in it: time/tzdata is one constant, a copy of a file of Go's.
func embeddedZones(b *testing.B, binary string) uint64 {
	b.Helper()
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	zones, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		b.Fatal(err)
	}
	raw, err := os.ReadFile(binary)
	if err != nil {
		b.Fatal(err)
	}
	if !bytes.Contains(raw, zones) {
		return 0
	}
	return uint64(len(zones))
}

func profileSize(b *testing.B, ours, theirs string) {
	b.Helper()
	mine, other := dissect(b, ours), dissect(b, theirs)
	kilo := func(name string, x, y uint64) []string {
		return []string{name, fmt.Sprintf("%.0f", float64(x)/1000), fmt.Sprintf("%.0f", float64(y)/1000), fmt.Sprintf("%+.0f", (float64(x)-float64(y))/1000)}
	}
	var sections, code [][]string
	for _, name := range binarySections {
		label := name
		if name != otherSections {
			label = "`" + name + "`"
		}
		sections = append(sections, kilo(label, mine.sections[name], other.sections[name]))
	}
	sections = append(sections, kilo("**in all**", mine.total, other.total), kilo("of it, embedded time zones", mine.zones, other.zones))
	for _, name := range origins {
		code = append(code, kilo(name, mine.origins[name], other.origins[name]))
	}
	text := "**Profile of the binaries** by section:\n\n" +
		markdownTable(1, []string{"section", "ours, kB", "theirs, kB", "difference"}, sections...) +
		"\n\nTheir machine code, by where it comes from; what was inlined counts where it was inlined:\n\n" +
		markdownTable(1, []string{"origin", "ours, kB", "theirs, kB", "difference"}, code...)
	b.Log("\n" + text)
	note(report.Note{Section: sectionProcess, Unmet: "size of the binary", Text: text})
}

// initialised is one start of a binary, up to its handshake.
type initialised struct {
	took, clock, kB float64 // ms in all, ms in package initialisation, what that allocated
	packages        int
	faults          float64 // pages
	cpu             float64 // ms
	byPackage       map[string]float64
}

// initialise starts a binary as coldStart does, and has Go time the packages.
func initialise(b *testing.B, binary string, env []string) initialised {
	b.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(b.Context(), binary)
	cmd.Env, cmd.Stderr = append(slices.Clone(env), "GODEBUG=inittrace=1"), &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	r := initialised{took: time.Since(began).Seconds() * 1000, byPackage: map[string]float64{}}
	_ = cmd.Process.Kill() // it serves until then
	_ = cmd.Wait()
	if err != nil || !strings.Contains(line, "|grpc|") {
		b.Fatalf("no handshake but %q: %v", line, err)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.faults = float64(usage.Minflt + usage.Majflt)
		r.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() * 1000
	}
	for line := range strings.Lines(stderr.String()) {
		var (
			name          string
			at, clock, kB float64
		)
		if n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %f bytes", &name, &at, &clock, &kB); n == 4 {
			r.packages, r.clock, r.kB, r.byPackage[name] = r.packages+1, r.clock+clock, r.kB+kB/1000, clock
		}
	}
	if r.packages == 0 {
		b.Fatal("no package was initialised")
	}
	return r
}

func profileStart(b *testing.B, ours, theirs *heapSide) {
	b.Helper()
	const starts = 7
	sides := []*heapSide{ours, theirs}
	runs := make([][]initialised, len(sides))
	envs := make([][]string, len(sides))
	for i, side := range sides {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", side.pids(b)[0]))
		if err != nil {
			b.Fatal(err)
		}
		envs[i] = append(strings.Split(strings.Trim(string(raw), "\x00"), "\x00"), "TMPDIR="+b.TempDir(), "PLUGIN_UNIX_SOCKET_DIR=")
	}
	for range starts {
		for i, side := range sides {
			runs[i] = append(runs[i], initialise(b, side.binary, envs[i]))
		}
	}
	row := func(name, format string, of func(initialised) float64) []string {
		cells := []string{name}
		for _, side := range runs {
			var sample report.Sample
			for _, run := range side {
				sample = append(sample, of(run))
			}
			cells = append(cells, fmt.Sprintf(format, sample.Median()))
		}
		return cells
	}
	dearest := func(side []initialised) string {
		medians := map[string]float64{}
		for name := range side[0].byPackage {
			var sample report.Sample
			for _, run := range side {
				sample = append(sample, run.byPackage[name])
			}
			medians[name] = sample.Median()
		}
		names := slices.SortedFunc(maps.Keys(medians), func(x, y string) int {
			return cmp.Or(cmp.Compare(medians[y], medians[x]), strings.Compare(x, y))
		})
		var list []string
		for _, name := range names[:min(4, len(names))] {
			list = append(list, fmt.Sprintf("`%s` %.2f ms", name, medians[name]))
		}
		return strings.Join(list, ", ")
	}
	text := fmt.Sprintf("**Profile of a start**: medians of %d, with `GODEBUG=inittrace=1`, which itself takes its time to print:\n\n%s\n\nThe dearest packages: ours %s; theirs %s.", starts,
		markdownTable(1, []string{"", "ours", "theirs"},
			row("from exec to the handshake, ms", "%.1f", func(r initialised) float64 { return r.took }),
			row("CPU time until it is killed, ms", "%.1f", func(r initialised) float64 { return r.cpu }),
			row("initialisation of all packages, ms", "%.2f", func(r initialised) float64 { return r.clock }),
			row("packages with one", "%.0f", func(r initialised) float64 { return float64(r.packages) }),
			row("allocated by it, kB", "%.0f", func(r initialised) float64 { return r.kB }),
			row("page faults", "%.0f", func(r initialised) float64 { return r.faults }),
		), dearest(runs[0]), dearest(runs[1]))
	b.Log("\n" + text)
	note(report.Note{Section: sectionProcess, Unmet: "cold start: from exec to the handshake", Text: text})
}

// heap is what a process holds, in MiB, and its profile.
type heap struct {
	stats        heapdump.Stats
	total, files float64 // RSS, and what of it are pages of the binary
	top          string
}

func (p *heapSide) profile(b *testing.B) heap {
	b.Helper()
	pid := p.pids(b)[0]
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	h := heap{total: residentMemory(b, pid)}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	kib, err := strconv.ParseFloat(strings.Fields(rest + " none")[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	h.files = kib / 1024
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		b.Fatal(err)
	}
	vaulttest.Eventually(b, 10*time.Second, func() error {
		_, err := os.Stat(p.heap)
		return err
	})
	raw, err := os.ReadFile(p.heap + heapdump.StatsSuffix)
	if err == nil {
		err = json.Unmarshal(raw, &h.stats)
	}
	if err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), "go", "tool", "pprof", "-symbolize=none", "-sample_index=inuse_space", "-top", "-nodecount=12", p.heap).Output()
	if err != nil {
		b.Fatal(err)
	}
	h.top = topLines(string(out))
	return h
}

// topLines leaves of pprof's table what is held where, and by which function.
func topLines(text string) string {
	var out strings.Builder
	table := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Showing nodes"):
			out.WriteString(line)
		case len(fields) > 0 && fields[0] == "flat":
			table = true
		case table && len(fields) > 5: // flat, flat%, sum%, cum, cum%, function
			fmt.Fprintf(&out, "%10s %7s  %s\n", fields[0], fields[1], strings.Join(fields[5:], " "))
		}
	}
	return strings.TrimSpace(out.String())
}

func profileHeap(b *testing.B, ours, theirs *heapSide) {
	b.Helper()
	mine, other := ours.profile(b), theirs.profile(b)
	row := func(name string, of func(heap) float64) []string {
		return []string{name, fmt.Sprintf("%.1f", of(mine)), fmt.Sprintf("%.1f", of(other))}
	}
	mib := func(of func(heapdump.Stats) uint64) func(heap) float64 {
		return func(h heap) float64 { return float64(of(h.stats)) / (1 << 20) }
	}
	text := fmt.Sprintf("**Profile of the memory** %s after the last write, sooner than above. The engine is the build that times its calls, and KV the one of “%s”, "+
		"since these write profiles; what the profiler itself takes is a row of its own. In MiB:\n\n%s\n\n"+
		"The heap as of the last collection, by the function that allocated it. Ours:\n\n```text\n%s\n```\n\nTheirs:\n\n```text\n%s\n```",
		heapSettle, sectionReads,
		markdownTable(1, []string{"", "ours", "theirs"},
			row("RSS", func(h heap) float64 { return h.total }),
			row("of it, pages of the binary", func(h heap) float64 { return h.files }),
			row("of it, everything else", func(h heap) float64 { return h.total - h.files }),
			row("the heap in use", mib(func(s heapdump.Stats) uint64 { return s.HeapInUse })),
			row("the heap kept for later", mib(func(s heapdump.Stats) uint64 { return s.HeapIdle })),
			row("stacks", mib(func(s heapdump.Stats) uint64 { return s.Stacks })),
			row("Go's runtime, less the profiler", mib(func(s heapdump.Stats) uint64 { return s.Runtime - s.Profiler })),
			row("the profiler", mib(func(s heapdump.Stats) uint64 { return s.Profiler })),
			[]string{"goroutines", strconv.Itoa(mine.stats.Routines), strconv.Itoa(other.stats.Routines)},
		), mine.top, other.top)
	b.Log("\n" + text)
	note(report.Note{Section: sectionProcess, Unmet: fmt.Sprintf("memory (RSS), idle with %d mounts", processMounts), Text: text})
}

// BenchmarkProfileScheduledRead says whose CPU time a read takes.
func BenchmarkProfileScheduledRead(b *testing.B) {
	const clients = 16
	duration := 3 * time.Second
	if *full {
		duration = 10 * time.Second
	}
	r := startReadable(b)
	processes := []struct {
		name string
		pid  func(plugin string) int
	}{
		{"the Vault server", func(string) int { return r.PID() }},
		{"the plugin", func(plugin string) int { return r.running(b, plugin) }},
		{"the clients", func(string) int { return os.Getpid() }},
	}
	sides := []struct{ name, plugin string }{{nameOurs, vaulttest.PluginName}, {nameNoop, noop}}
	perRead := make([][]float64, len(sides)) // µs, by process
	for i, side := range sides {
		at := slices.IndexFunc(r.sides, func(s readSide) bool { return s.name == side.name })
		l := load{
			url: r.Addr() + "/v1/" + r.sides[at].path, token: r.token, expect: `"client_secret":"`, clients: clients,
			duration: readWarmUp,
		}
		l.run(b)
		l.duration = duration // and no warm-up, so that all that is spent is counted
		var before []float64
		for _, p := range processes {
			before = append(before, cpuTime(b, p.pid(side.plugin)))
		}
		reads := l.run(b).throughput * duration.Seconds()
		for k, p := range processes {
			perRead[i] = append(perRead[i], (cpuTime(b, p.pid(side.plugin))-before[k])/reads*1e6)
		}
	}
	var rows [][]string
	var ours, theirs float64
	for k, p := range processes {
		rows = append(rows, []string{p.name, fmt.Sprintf("%.0f", perRead[0][k]), fmt.Sprintf("%.0f", perRead[1][k])})
		ours, theirs = ours+perRead[0][k], theirs+perRead[1][k]
	}
	rows = append(rows, []string{"**in all**", fmt.Sprintf("%.0f", ours), fmt.Sprintf("%.0f", theirs)})
	text := fmt.Sprintf("**Profile of one read**: the CPU time that it takes, in µs, over %s of %s. All share the machine, so the sum is what bounds the throughput.\n\n%s",
		duration, clientsNamed(clients), markdownTable(1, []string{"process", nameOurs, nameNoop}, rows...))
	b.Log("\n" + text)
	note(report.Note{Section: sectionReads, Text: text})
}

// running finds the process of a plugin by its binary.
func (r *readable) running(b *testing.B, plugin string) int {
	b.Helper()
	for _, pid := range r.PluginPIDs() {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == plugin {
			return pid
		}
	}
	b.Fatalf("no process runs %s", plugin)
	return 0
}
