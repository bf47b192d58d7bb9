// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const (
	sectionReads = "Reading a scheduled binding"
	sectionProxy = "Reading a scheduled binding through Vault Proxy"

	// historyLimit is how many records a target keeps by default.
	historyLimit = 20

	readWarmUp = 500 * time.Millisecond

	builtInKV  = "kv"
	externalKV = "kv-external"
	noop       = "noop"

	nameOurs       = "scheduled binding"
	nameOursAsKV2  = "the same as KV v2"
	nameKV1        = "KV v1, external"
	nameKV2        = "KV v2, external"
	nameNoop       = "no-op plugin"
	nameKV2BuiltIn = "KV v2, built in"
)

// readSide is something to read the same data from.
type readSide struct{ name, path string }

// readable is a server with the same data in each of its engines.
type readable struct {
	*vaulttest.Engine
	token string
	sides []readSide // ours first
}

// startReadable starts a server whose scheduled binding is as old as it gets.
func startReadable(b *testing.B) *readable {
	b.Helper()
	e := vaulttest.New(b, vaulttest.Options{Measure: true, NoAudit: true})
	ref := e.Tenant.Connector()
	e.BindConnector(e.Mount, "app", ref, map[string]any{"rotate_on": "schedule", "rotation_period": "24h"})
	for range historyLimit {
		e.MustWrite("connectors/app/rotate", nil)
	}
	if n := len(e.Records("connectors/app")); n != historyLimit {
		b.Fatalf("the history has %d records", n)
	}
	r := &readable{Engine: e, sides: []readSide{{nameOurs, e.Path("connector-creds/app")}}}
	data := e.MustRead("connector-creds/app").Data

	e.Install(externalKV, vaulttest.Program{Module: "e2e/bench", Main: "./rivals/kv"})
	e.Install(noop, vaulttest.Program{Module: "e2e/bench", Main: "./rivals/noop"})
	r.mount(b, "kv1", externalKV, map[string]string{"kv_version": "1"})
	r.mount(b, "kv2", externalKV, map[string]string{"kv_version": "2"})
	r.mount(b, "kv2-builtin", builtInKV, map[string]string{"version": "2"})
	r.mount(b, "noop", noop, nil)

	r.add(b, nameKV1, "kv1/app", data)
	r.add(b, nameKV2, "kv2/data/app", map[string]any{"data": data})
	r.add(b, nameNoop, "noop/constant", data)
	r.add(b, nameKV2BuiltIn, "kv2-builtin/data/app", map[string]any{"data": data})
	r.sides = append(r.sides, readSide{nameOursAsKV2, e.Path("data/connector-creds/app")})
	r.token = r.reader(b)
	return r
}

// mount mounts an engine, and checks that it runs where it should.
func (r *readable) mount(b *testing.B, path, engine string, options map[string]string) {
	b.Helper()
	if err := r.Root.Sys().Mount(path, &api.MountInput{Type: engine, Options: options}); err != nil {
		b.Fatal(err)
	}
	mounts, err := r.Root.Sys().ListMounts()
	if err != nil {
		b.Fatal(err)
	}
	if hash := mounts[path+"/"].RunningSha256; (hash == "") != (engine == builtInKV) {
		b.Fatalf("%s runs a plugin with the hash %q", path, hash)
	}
}

// add writes what the side is to be read for, as soon as it takes writes: KV v2
// sets itself up after it was mounted.
func (r *readable) add(b *testing.B, name, path string, data map[string]any) {
	b.Helper()
	vaulttest.Eventually(b, time.Minute, func() error {
		_, err := r.Root.Logical().Write(path, data)
		return err
	})
	r.sides = append(r.sides, readSide{name, path})
}

// reader returns a token that may read what the sides hold, as an application
// has one.
func (r *readable) reader(b *testing.B) string {
	b.Helper()
	var rules string
	for _, side := range r.sides {
		rules += fmt.Sprintf("path %q { capabilities = [\"read\"] }\n", side.path)
	}
	if err := r.Root.Sys().PutPolicy("reader", rules); err != nil {
		b.Fatal(err)
	}
	secret, err := r.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"reader"}})
	if err != nil {
		b.Fatal(err)
	}
	return secret.Auth.ClientToken
}

// readSamples are what one side reached with one number of clients.
type readSamples struct{ throughput, p99 report.Sample }

// measure has the sides read in turns, and returns a result for each.
func (r *readable) measure(b *testing.B, address string, clients int, sides []readSide) []readSamples {
	b.Helper()
	rounds, duration := 3, 2*time.Second
	if *full {
		rounds, duration = 5, 4*time.Second
	}
	samples := make([]readSamples, len(sides))
	var turns []func(*testing.B) float64
	for i, side := range sides {
		l := load{
			url: address + "/v1/" + side.path, token: r.token, expect: `"client_secret":"`, clients: clients,
			warmUp: readWarmUp, duration: duration,
		}
		turns = append(turns, func(b *testing.B) float64 {
			b.Helper()
			got := l.run(b)
			samples[i].p99 = append(samples[i].p99, float64(got.p99)/float64(time.Millisecond))
			return got.throughput
		})
	}
	for i, throughput := range alternate(b, rounds, turns...) {
		samples[i].throughput = throughput
	}
	return samples
}

func clientsNamed(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// BenchmarkScheduledRead compares reads of a scheduled binding with reads of
// the same data from KV, and from a plugin that does nothing at all.
func BenchmarkScheduledRead(b *testing.B) {
	r := startReadable(b)
	counts := []int{1, 4, 16, 64}
	var all [][]readSamples // by count, then by side
	for _, clients := range counts {
		all = append(all, r.measure(b, r.Addr(), clients, r.sides))
	}
	b.ReportMetric(all[2][0].throughput.Median(), "reads/s")

	// How many times KV's throughput any plugin can reach is Vault's to say, so the
	// goal of throughput is a share of what the plugin reaches that does nothing.
	goals := map[string]struct{ throughput, p99 *report.Goal }{
		nameKV1:  {nil, &report.Goal{AtMost: 1}},
		nameKV2:  {nil, &report.Goal{AtMost: 1}},
		nameNoop: {&report.Goal{AtLeast: 0.95}, nil},
	}
	for i, rival := range r.sides[1:] {
		goal := goals[rival.name]
		for j, clients := range counts {
			ours, theirs := all[j][0], all[j][i+1]
			compare(report.Comparison{
				Section: sectionReads, Measure: "throughput, " + clientsNamed(clients), Unit: "reads/s",
				Ours: ours.throughput, Rival: rival.name, Theirs: theirs.throughput, Goal: goal.throughput,
			})
		}
		for j, clients := range counts {
			if goal.p99 == nil {
				break // the plot shows it
			}
			ours, theirs := all[j][0], all[j][i+1]
			compare(report.Comparison{
				Section: sectionReads, Measure: "p99 of latency, " + clientsNamed(clients), Unit: "ms",
				Ours: ours.p99, Rival: rival.name, Theirs: theirs.p99, Goal: goal.p99,
			})
		}
	}

	throughput := report.Plot{
		File: "reads-throughput.svg", Section: sectionReads, Title: "Reads of one secret",
		X: "clients", Y: "reads per second", LogX: true,
	}
	p99 := report.Plot{
		File: "reads-p99.svg", Section: sectionReads, Title: "Reads of one secret: 99th percentile of the latency",
		X: "clients", Y: "ms", LogX: true, LogY: true,
	}
	for i, side := range r.sides {
		fast, slow := report.Series{Name: side.name}, report.Series{Name: side.name}
		for j, clients := range counts {
			fast.X, fast.Y = append(fast.X, float64(clients)), append(fast.Y, all[j][i].throughput)
			slow.X, slow.Y = append(slow.X, float64(clients)), append(slow.Y, all[j][i].p99)
		}
		throughput.Series, p99.Series = append(throughput.Series, fast), append(p99.Series, slow)
	}
	plot(throughput)
	plot(p99)
	boundNotes(r.sides, counts, all)
	note(report.Note{Section: sectionReads, Text: readsNote})
}

// boundNotes say, for what stays short of its goal, how far any external plugin
// can come beside KV.
func boundNotes(sides []readSide, counts []int, all [][]readSamples) {
	named := func(samples []readSamples, name string) readSamples {
		return samples[slices.IndexFunc(sides, func(s readSide) bool { return s.name == name })]
	}
	for j, clients := range counts {
		limit, kv1, kv2 := named(all[j], nameNoop), named(all[j], nameKV1), named(all[j], nameKV2)
		times := func(kv readSamples) float64 {
			return report.Comparison{Ours: limit.throughput, Theirs: kv.throughput}.Ratio()
		}
		text := fmt.Sprintf("With %s the no-op plugin, which does nothing but answer, reaches %.2f times the throughput of KV v1 and %.2f times that of KV v2: "+
			"more than that Vault leaves to no external plugin, see the profile above. "+
			"What is short of the no-op plugin is not the plugin's own time, which differs by less in that profile.",
			clientsNamed(clients), times(kv1), times(kv2))
		for _, measure := range []string{"throughput, ", "p99 of latency, "} {
			note(report.Note{Section: sectionReads, Unmet: measure + clientsNamed(clients), Text: text})
		}
	}
}

const readsNote = `One server, storage in memory, no audit device. Each client has one connection
and sends its next read when it has the answer to the last one, with a token that
holds one narrow policy. All engines hold the same data; the binding has a full
history of 20 records. The clients share the machine's cores with the server.

"External" is HashiCorp's KV engine in a process of its own, as is every engine
that does not come with Vault. For each read KV v1 asks Vault for a lease, which
Vault spares its built-in KV only; here the external one does not ask for it
either, and is so much the faster. The no-op plugin answers from memory, past the
SDK's routing: it shows what Vault leaves to any external plugin.`

// BenchmarkScheduledReadThroughProxy has a Vault Proxy that caches between the
// clients and the server.
func BenchmarkScheduledReadThroughProxy(b *testing.B) {
	r := startReadable(b)
	proxy := startProxy(b, r)
	const clients = 16
	sides := slices.DeleteFunc(slices.Clone(r.sides), func(s readSide) bool {
		return s.name != nameOurs && s.name != nameKV2 && s.name != nameKV2BuiltIn
	})
	for _, side := range sides {
		passesThrough(b, proxy+"/v1/"+side.path, r.token)
	}
	samples := r.measure(b, proxy, clients, sides)
	b.ReportMetric(samples[0].throughput.Median(), "reads/s")
	for i, rival := range sides[1:] {
		compare(report.Comparison{
			Section: sectionProxy, Measure: "throughput, " + clientsNamed(clients), Unit: "reads/s",
			Ours: samples[0].throughput, Rival: rival.name, Theirs: samples[i+1].throughput,
		})
		compare(report.Comparison{
			Section: sectionProxy, Measure: "p99 of latency, " + clientsNamed(clients), Unit: "ms",
			Ours: samples[0].p99, Rival: rival.name, Theirs: samples[i+1].p99,
		})
	}
	note(report.Note{Section: sectionProxy, Text: proxyNote})
}

const proxyNote = `The same server behind a Vault Proxy with ` + "`cache {}`" + `, as the clients' only address.
Vault Proxy caches tokens and leased secrets, and static secrets of KV in Vault
Enterprise only. Neither side is one of these here, so every read passes through to
the server, and what the Proxy costs is much the same for all.`

const proxyConfig = `vault {
  address = %q
}

api_proxy {
  use_auto_auth_token = false
}

cache {}

listener "tcp" {
  address     = %q
  tls_disable = true
}
`

// proxyEnds is how long a proxy may take to stop.
const proxyEnds = 20 * time.Second

// startProxy runs a Vault Proxy until the benchmark ends, and returns its URL.
func startProxy(b *testing.B, r *readable) string {
	b.Helper()
	binary := vaulttest.ServerUnderTest(b).Path
	address := vaulttest.FreeAddress(b)
	dir := b.TempDir()
	config := filepath.Join(dir, "proxy.hcl")
	if err := os.WriteFile(config, fmt.Appendf(nil, proxyConfig, r.Addr(), address), 0o600); err != nil {
		b.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "proxy.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	//nolint:noctx // ended by the cleanup
	cmd := exec.Command(binary, "proxy", "-config="+config)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(proxyEnds, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // whether it stopped in order is not what this is about
		timer.Stop()
		if text, err := os.ReadFile(log.Name()); err == nil && b.Failed() {
			b.Logf("the Proxy's log:\n%s", text[:min(len(text), 8<<10)])
		}
	})
	proxy := "http://" + address
	vaulttest.Eventually(b, time.Minute, func() error {
		_, err := get(b, proxy+"/v1/sys/health", "")
		return err
	})
	return proxy
}

// passesThrough checks that the proxy answers nothing out of its cache.
func passesThrough(b *testing.B, url, token string) {
	b.Helper()
	for range 2 {
		header, err := get(b, url, token)
		if err != nil {
			b.Fatal(err)
		}
		if got := header.Get("X-Cache"); got != "MISS" {
			b.Fatalf("the Proxy says %q of %s in its cache", got, url)
		}
	}
}

// get returns the header of an answer 200.
func get(b *testing.B, url, token string) (http.Header, error) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return resp.Header, nil
}
