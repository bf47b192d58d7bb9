// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package heapdump has a plugin write what is on its heap when it gets a
// SIGUSR1, for a benchmark that explains the memory of a process.
package heapdump

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
)

const (
	// Env names the file that the profile goes to. Without it nothing happens.
	Env = "C1_BENCH_HEAP"
	// StatsSuffix is that of the file with the Stats, written before the profile.
	StatsSuffix = ".json"

	// rate is fine enough for a heap of some megabytes, which the usual 512 kB
	// would show a dozen samples of.
	rate = 8 << 10
)

// Stats is what the Go runtime holds, in bytes.
type Stats struct {
	HeapInUse uint64 // live objects, dead ones that were not collected yet, and gaps
	HeapIdle  uint64 // kept for later and not returned to the system
	Stacks    uint64
	Runtime   uint64 // for itself, with what the profiler takes
	Profiler  uint64 // what the profiler takes
	Routines  int    // goroutines
}

// What a package allocates while it is initialised is on the heap, too. Without
// a profile to write, nothing is sampled, as in a plugin that has no profiler.
var _ = setRate()

func setRate() struct{} {
	runtime.MemProfileRate = 0
	if os.Getenv(Env) != "" {
		runtime.MemProfileRate = rate
	}
	return struct{}{}
}

// OnSignal writes the profile at each SIGUSR1 from now on.
func OnSignal(failed func(error)) {
	path := os.Getenv(Env)
	if path == "" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			if err := write(path); err != nil {
				failed(fmt.Errorf("writing the heap profile: %w", err))
			}
		}
	}()
}

func write(path string) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	stats, err := json.Marshal(Stats{
		HeapInUse: m.HeapInuse, HeapIdle: m.HeapIdle - m.HeapReleased, Stacks: m.StackInuse,
		Runtime:  m.MSpanSys + m.MCacheSys + m.BuckHashSys + m.GCSys + m.OtherSys,
		Profiler: m.BuckHashSys, Routines: runtime.NumGoroutine(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+StatsSuffix, stats, 0o600); err != nil {
		return err
	}
	// Renamed when complete: whoever waits for the file reads all of it.
	file, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	if err := pprof.WriteHeapProfile(file); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
