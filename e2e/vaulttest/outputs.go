// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// outputs is what one test wrote or printed beside the files of its server, and
// the emulators whose secrets must not be in any of it.
type outputs struct {
	mu        sync.Mutex
	texts     []output
	emulators []*c1test.Emulator
}

type output struct {
	where string
	text  []byte
}

// Leak says where a secret was found, and never which.
type Leak struct {
	Where  string
	Offset int
}

func (l Leak) String() string { return fmt.Sprintf("a secret in %s, at byte %d", l.Where, l.Offset) }

// Collect adds something that was printed to what is searched for secrets.
func (s *Server) Collect(where string, text []byte) { s.outputs.add(where, text) }

func (o *outputs) add(where string, text []byte) {
	if len(text) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.texts = append(o.texts, output{where, bytes.Clone(text)})
}

// Watch has the secrets of an emulator searched for, and lets Configure know
// its CA.
func (s *Server) Watch(e *c1test.Emulator) {
	s.outputs.mu.Lock()
	defer s.outputs.mu.Unlock()
	s.outputs.emulators = append(s.outputs.emulators, e)
}

func (o *outputs) watched() []*c1test.Emulator {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.emulators)
}

// emulatorOf returns the watched emulator that a tenant belongs to.
func (o *outputs) emulatorOf(tenant *c1test.Tenant) *c1test.Emulator {
	for _, e := range o.watched() {
		if slices.Contains(e.Tenants(), tenant) {
			return e
		}
	}
	return nil
}

// searchForSecrets fails the test for every secret that is anywhere but in the
// answer that it was vended with.
func (s *Server) searchForSecrets() {
	s.t.Helper()
	var secrets []string
	for _, e := range s.outputs.watched() {
		secrets = append(secrets, e.Secrets()...)
	}
	for _, leak := range s.Leaks(secrets) {
		s.t.Errorf("leaked: %s", leak)
	}
}

// Leaks searches all that this server, its plugins and its clients wrote or
// printed for secrets: every file in the server's directory (logs, audit log,
// storage), every answer but those that vend, what Collect was given, and the
// arguments and environment of the processes.
func (s *Server) Leaks(secrets []string) []Leak {
	s.outputs.mu.Lock()
	all := slices.Clone(s.outputs.texts)
	s.outputs.mu.Unlock()
	all = append(all, s.files()...)
	all = append(all, processes(append(s.PluginPIDs(), s.PID()))...)
	find := newFinder(secrets)
	var leaks []Leak
	for _, out := range all {
		// One is enough to know where to look.
		if i := find.in(out.text); i >= 0 {
			leaks = append(leaks, Leak{out.where, i})
		}
	}
	return leaks
}

func (s *Server) files() []output {
	var out []output
	_ = filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() == "plugins" {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			if text, err := os.ReadFile(path); err == nil {
				out = append(out, output{path, text})
			}
		}
		return nil
	})
	return out
}

func processes(pids []int) []output {
	var out []output
	for _, pid := range pids {
		for _, name := range []string{"cmdline", "environ"} {
			path := filepath.Join("/proc", strconv.Itoa(pid), name)
			if text, err := os.ReadFile(path); err == nil {
				out = append(out, output{path, text})
			}
		}
	}
	return out
}

// mostRead is how many bindings of one kind readEverything reads: the same code
// answers for each of them.
const mostRead = 400

// readEverything reads what the engine at this mount shows, so that its answers
// are searched too.
func (s *Server) readEverything(mount string) {
	read := func(path string) { _, _ = s.Root.Logical().Read(mount + "/" + path) }
	read("config")
	read("status")
	for _, kind := range []string{"connectors", "decoys"} {
		list, err := s.Root.Logical().List(mount + "/" + kind)
		if err != nil || list == nil {
			continue // there is none, or the test unmounted it
		}
		names, _ := list.Data["keys"].([]any)
		for _, name := range names[:min(len(names), mostRead)] {
			read(fmt.Sprintf("%s/%s", kind, name))
			read(fmt.Sprintf("%s/%s/history", kind, name))
		}
	}
}

// vending matches the requests whose answers may hold a secret, and the metadata of the
// KV API, which must not.
var vending = regexp.MustCompile(`^/v1/(.+/(connector|decoy)-creds/.+|sys/wrapping/unwrap)$`)

// recorder keeps every answer but those that vend.
type recorder struct {
	outputs *outputs
	next    http.RoundTripper
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	vends := vending.MatchString(req.URL.Path) && !strings.Contains(req.URL.Path, "/metadata/")
	if resp.StatusCode < 300 && vends || strings.HasPrefix(req.URL.Path, "/v1/sys/health") {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	r.outputs.add(fmt.Sprintf("the answer %d to %s %s", resp.StatusCode, req.Method, req.URL.Path), body)
	return resp, nil
}
