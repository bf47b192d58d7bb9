// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionLeased   = "Rotating for a reader"
	sectionOverhead = "What Vault and the engine add to C1"

	barePlugin = "bare plugin"

	// leasedClients read at the same time, each a target of its own: one target
	// rotates for one caller at a time.
	leasedClients = 16
	// leasedWarmUp are reads per client that nobody counts: connections, a token,
	// and a history that is as long as it gets.
	leasedWarmUp = 25

	// defaultTimeout is what request_timeout is unless a test shortens it.
	defaultTimeout = "30s"

	// overheadDelay is how long C1 takes where that matters.
	overheadDelay = 50 * time.Millisecond
)

// leased is our engine on a server, with bindings that rotate when they are
// read.
type leased struct {
	*vaulttest.Engine
	clients []*api.Client
	refs    []c1test.ConnectorRef
}

// startLeased binds a connector per client. The bindings keep the credential
// when the lease ends: as with the bare plugin, the end of a lease is then
// nothing but Vault's.
func startLeased(b *testing.B, storage string) *leased {
	b.Helper()
	l := &leased{Engine: vaulttest.New(b, vaulttest.Options{Storage: storage, NoAudit: true, Measure: true})}
	l.Configure(l.Mount, l.Tenant, map[string]any{"request_timeout": defaultTimeout})
	for i := range leasedClients {
		ref := l.Tenant.NewConnector(fmt.Sprintf("Connector %d", i))
		l.BindConnector(l.Mount, fmt.Sprintf("x%02d", i), ref, map[string]any{"on_lease_end": "keep"})
		l.refs = append(l.refs, ref)
		l.clients = append(l.clients, l.Client(l.Root.Token()))
	}
	return l
}

// ours is what the client with this number reads from our engine.
func (l *leased) ours(i int) string { return l.Path(fmt.Sprintf("connector-creds/x%02d", i)) }

// bare mounts the bare plugin per client, each for the same connector as ours,
// and returns what the client with this number reads.
func (l *leased) bare(b *testing.B) func(i int) string {
	b.Helper()
	l.Install("bare", vaulttest.Program{Module: "e2e/bench", Main: "./rivals/bare"})
	token := l.Tenant.StaticToken()
	for i, ref := range l.refs {
		mount := fmt.Sprintf("bare%02d", i)
		if err := l.Root.Sys().Mount(mount, &api.MountInput{Type: "bare"}); err != nil {
			b.Fatal(err)
		}
		if _, err := l.Root.Logical().Write(mount+"/config", map[string]any{
			"url": l.Tenant.URL(), "ca_cert": l.Emulator.CACertPEM(), "token": token,
			"app_id": ref.AppID, "connector_id": ref.ConnectorID,
		}); err != nil {
			b.Fatal(err)
		}
	}
	return func(i int) string { return fmt.Sprintf("bare%02d/creds", i) }
}

// readLeased reads once and makes sure that it got a credential and a lease.
func readLeased(ctx context.Context, client *api.Client, path string) error {
	secret, err := client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return err
	}
	if secret == nil || secret.LeaseID == "" || secret.LeaseDuration == 0 || secret.Data["client_secret"] == nil {
		return fmt.Errorf("%s vended no leased credential", path)
	}
	return nil
}

// medianLatency is the middle of the times, in milliseconds, that each of n
// calls in a row took.
func medianLatency(b *testing.B, n int, call func() error) float64 {
	b.Helper()
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if err := call(); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return float64(times[n/2].Microseconds()) / 1000
}

// latency has one client read one path n times.
func (l *leased) latency(n int, path string) func(*testing.B) float64 {
	return func(b *testing.B) float64 {
		b.Helper()
		return medianLatency(b, n, func() error { return readLeased(b.Context(), l.clients[0], path) })
	}
}

// throughput has each client read its own path n times, and returns the reads
// per second of all.
func (l *leased) throughput(n int, path func(i int) string) func(*testing.B) float64 {
	return func(b *testing.B) float64 {
		b.Helper()
		failures := make([]error, len(l.clients))
		var group sync.WaitGroup
		began := time.Now()
		for i, client := range l.clients {
			group.Go(func() {
				for range n {
					if failures[i] = readLeased(b.Context(), client, path(i)); failures[i] != nil {
						return
					}
				}
			})
		}
		group.Wait()
		took := time.Since(began)
		if err := errors.Join(failures...); err != nil {
			b.Fatal(err)
		}
		return float64(n*len(l.clients)) / took.Seconds()
	}
}

// BenchmarkLeasedRotation measures what a read costs that rotates, with C1
// answering at once: all that is left is Vault, the plugin protocol and what the
// engine writes down.
func BenchmarkLeasedRotation(b *testing.B) {
	rounds, reads := 5, 200 // a tenth of them per client when all read together
	if *full {
		rounds, reads = 9, 500
	}
	for _, on := range []struct {
		storage, name string
		goal          float64
		bound         string // said when the goal is not met
	}{
		{vaulttest.Inmem, "in memory", 1.5, "What is left are calls from the plugin's process to Vault's, which the bare plugin does without: " +
			"two rounds of writes, with the questions for the mount's lease times and its state beside them. Each round waits for a process to wake up and to answer; see the profile above."},
		{vaulttest.Raft, "Raft", 2, "Vault waits for the disk twice by itself, for the lease and for its place in the token's list. " +
			"Ours waits twice more: before it asks C1, and before it answers. The slower the disk, the closer the ratio comes to 2."},
	} {
		reads := reads
		if on.storage == vaulttest.Raft {
			reads /= 2 // each waits for the disk several times
		}
		b.Run(on.storage, func(b *testing.B) {
			l := startLeased(b, on.storage)
			bare := l.bare(b)
			l.throughput(leasedWarmUp, l.ours)(b)
			l.throughput(leasedWarmUp, bare)(b)

			alone := alternate(b, rounds, l.latency(reads, l.ours(0)), l.latency(reads, bare(0)))
			latency := "latency (p50), one client, storage " + on.name
			compare(report.Comparison{
				Section: sectionLeased, Measure: latency, Unit: "ms",
				Ours: alone[0], Rival: barePlugin, Theirs: alone[1], Goal: &report.Goal{AtMost: on.goal},
			})
			note(report.Note{Section: sectionLeased, Unmet: latency, Text: on.bound})
			together := alternate(b, rounds, l.throughput(reads/10, l.ours), l.throughput(reads/10, bare))
			compare(report.Comparison{
				Section: sectionLeased, Measure: fmt.Sprintf("throughput, %d clients, storage %s", leasedClients, on.name), Unit: "reads/s",
				Ours: together[0], Rival: barePlugin, Theirs: together[1],
			})
			b.Logf("p50 in ms, ours and bare: %.3f", alone)
			b.Logf("reads/s of %d clients, ours and bare: %.0f", leasedClients, together)
		})
	}
	note(report.Note{Section: sectionLeased, Text: "Each read rotates the connector at C1, which answers at once, and makes a lease. " +
		"The bare plugin sends the same request and answers with the same fields under the same lease, and writes nothing: " +
		"it is what Vault itself costs, and forgets what it rotated. " +
		"Ours stores the attempt before it asks C1 and the outcome after, so that nothing is lost when a process dies in between. " +
		"Bindings are `on_lease_end=keep`; of several clients, each reads a target of its own."})
}

// directRotation makes the call that rotates a connector, as the engine does,
// without Vault.
func directRotation(ctx context.Context, client *http.Client, url, token string, ref c1test.ConnectorRef) error {
	body, err := json.Marshal(map[string]string{"appId": ref.AppID, "connectorId": ref.ConnectorID})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/apps/connectors/credentials", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // the answer has been read
	answer, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !json.Valid(answer)) {
		err = fmt.Errorf("C1 answered %s", res.Status)
	}
	return err
}

// c1Client trusts the emulator, and keeps one HTTP/2 connection as the engine's
// client does.
func c1Client(b *testing.B, caCert string) *http.Client {
	b.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(caCert)) {
		b.Fatal("the emulator has no CA certificate")
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
	}}
	b.Cleanup(client.CloseIdleConnections)
	return client
}

// BenchmarkOverheadOverC1 measures a read that rotates beside the same call to
// C1 without Vault, with C1 as far away as a service on the Internet.
func BenchmarkOverheadOverC1(b *testing.B) {
	rounds, reads := 5, 20
	if *full {
		rounds, reads = 9, 50
	}
	for _, on := range []struct {
		storage, name string
		goal          *report.Goal
	}{
		{vaulttest.Inmem, "in memory", &report.Goal{AtMost: 1.10}},
		{vaulttest.Raft, "Raft", nil}, // Vault waits for the disk by itself for longer than that
	} {
		latency := "latency (p50), one client, storage " + on.name
		b.Run(on.storage, func(b *testing.B) {
			l := startLeased(b, on.storage)
			l.latency(leasedWarmUp, l.ours(0))(b)
			l.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Delay: overheadDelay})
			client, token := c1Client(b, l.Emulator.CACertPEM()), l.Tenant.StaticToken()
			direct := func(b *testing.B) float64 {
				b.Helper()
				return medianLatency(b, reads, func() error {
					return directRotation(b.Context(), client, l.Tenant.URL(), token, l.refs[1])
				})
			}
			samples := alternate(b, rounds, l.latency(reads, l.ours(0)), direct)
			compare(report.Comparison{
				Section: sectionOverhead, Measure: latency, Unit: "ms",
				Ours: samples[0], Rival: "the call to C1 alone", Theirs: samples[1], Goal: on.goal,
			})
			note(report.Note{Section: sectionOverhead, Unmet: latency, Text: "What comes on top of C1 is what a rotation takes with C1 answering at once, see “" + sectionLeased + "”."})
			b.Logf("p50 in ms, ours and direct: %.3f", samples)
		})
	}
	note(report.Note{Section: sectionOverhead, Text: fmt.Sprintf(
		"C1 takes %d ms to rotate. The call alone is the same HTTPS request over a connection that is kept, from the benchmark itself. "+
			"On Raft there is no goal here: the bare plugin adds about as much to C1 as the goal in memory allows, because Vault waits for the disk; beside that plugin there is one, see “%s”.", overheadDelay.Milliseconds(), sectionLeased)})
}
