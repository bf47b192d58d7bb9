// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var exits struct {
	mu    sync.Mutex
	funcs []func()
}

// OnExit runs f when the test process ends by way of Main.
func OnExit(f func()) {
	exits.mu.Lock()
	defer exits.mu.Unlock()
	exits.funcs = append(exits.funcs, f)
}

func cleanUp() {
	exits.mu.Lock()
	funcs := slices.Clone(exits.funcs)
	exits.funcs = nil
	exits.mu.Unlock()
	for _, f := range slices.Backward(funcs) {
		f()
	}
}

// parallelTests is how many tests run at once unless -parallel says otherwise:
// more than there are cores, since most of them wait for a process to start, or
// for the minute in which the engine settles.
const parallelTests = 6

// Main runs the tests of a package, and ends what they left running even when
// they are interrupted. What is to be done after them learns whether all passed,
// and fails the run by an error.
func Main(m *testing.M, after ...func(passed bool) error) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", strconv.Itoa(max(parallelTests, runtime.GOMAXPROCS(0))))
	}
	// Whatever the caller uses Vault for must not reach the tests.
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") {
			_ = os.Unsetenv(name)
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		cleanUp()
		os.Exit(130)
	}()
	code := m.Run()
	cleanUp()
	for _, f := range after {
		if err := f(code == 0); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
