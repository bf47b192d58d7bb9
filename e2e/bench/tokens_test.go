// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/report"
	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	sectionTokens = "Access tokens"

	mintCallers = 1000
)

// BenchmarkTokenMints counts the access tokens that C1 issues to a fresh mount
// whose first callers all come at once.
func BenchmarkTokenMints(b *testing.B) {
	rounds := 2
	if *full {
		rounds = 5
	}
	s := vaulttest.Start(b, vaulttest.Options{Measure: true, NoAudit: true})
	s.RegisterPlugin()
	var mints, least report.Sample
	for round := range rounds {
		mints = append(mints, measureMints(b, s, fmt.Sprintf("mint-%d", round)))
		least = append(least, 1)
	}
	compare(report.Comparison{
		Section: sectionTokens, Unit: "requests to the token endpoint",
		Measure: fmt.Sprintf("%d first callers at once, on a fresh mount", mintCallers),
		Ours:    mints, Rival: "the least possible", Theirs: least, Goal: &report.Goal{AtMost: 1},
	})
	b.Logf("requests to the token endpoint: %v", mints)
}

// measureMints holds the first request for a token until every caller has sent
// its own, so that none finds a token in place.
func measureMints(b *testing.B, s *vaulttest.Server, mount string) float64 {
	b.Helper()
	tenant := s.Emulator(c1test.Options{}).Default()
	s.Mount(mount)
	configure := func() {
		s.Configure(mount, tenant, map[string]any{
			"verify_connection": false, "request_timeout": "30s", "max_concurrent_requests": mintCallers,
		})
	}
	configure()
	for i := range mintCallers {
		name := fmt.Sprintf("caller-%d", i)
		s.BindConnector(mount, name, tenant.NewConnector(name), map[string]any{"verify": false})
	}
	// A new mount looks once when its credential expires; its client is a new one with
	// the next write of the config.
	vaulttest.Eventually(b, time.Minute, func() error {
		if tenant.Requests(c1test.OpListServicePrincipalCredentials) == 0 {
			return errors.New("the mount has not looked yet")
		}
		return nil
	})
	configure()
	before := tenant.Requests(c1test.OpToken)

	held := tenant.Hold(c1test.OpToken, c1test.BeforeCommit)
	client := s.Client(s.Root.Token())
	var sent, answered atomic.Int64
	ctx := httptrace.WithClientTrace(b.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { sent.Add(1) },
	})
	errs := make(chan error, mintCallers)
	var group sync.WaitGroup
	for i := range mintCallers {
		group.Go(func() {
			_, err := client.Logical().ReadWithContext(ctx, fmt.Sprintf("%s/connector-creds/caller-%d", mount, i))
			answered.Add(1)
			errs <- err
		})
	}
	vaulttest.Eventually(b, time.Minute, func() error {
		if n := sent.Load(); n < mintCallers {
			return fmt.Errorf("%d callers have sent their requests", n)
		}
		return nil
	})
	<-held.Arrived()
	<-time.After(time.Second) // for Vault to hand on what it has received
	if n := answered.Load(); n > 0 {
		b.Errorf("%d callers were answered before there was a token", n)
	}
	held.Release()
	group.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		b.Fatal(failed)
	}
	return float64(tenant.Requests(c1test.OpToken) - before)
}
