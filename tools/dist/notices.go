// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/build"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-licenses/v2/licenses"
	"k8s.io/klog/v2"
)

// platforms are those of .goreleaser.yaml; collect compares.
var platforms = []platform{
	{os: "linux", arch: "amd64"},
	{os: "linux", arch: "arm64"},
	{os: "linux", arch: "arm", arm: "7"},
	{os: "darwin", arch: "amd64"},
	{os: "darwin", arch: "arm64"},
	{os: "windows", arch: "amd64"},
	{os: "windows", arch: "arm64"},
	{os: "freebsd", arch: "amd64"},
	{os: "freebsd", arch: "arm64"},
}

// library is code of others that some binary links: packages under one licence file.
type library struct {
	Name, Version string
	Licences      []string
	text          string
}

func (l library) String() string {
	return fmt.Sprintf("%s %s (%s)", l.Name, l.Version, strings.Join(l.Licences, ", "))
}

// linkedLibraries lists what any platform's binary links, sorted by name. It
// fails on a licence that is unknown, or that MPL-2.0 code cannot be shipped with.
func linkedLibraries() ([]library, error) {
	goroot, err := exec.CommandContext(context.Background(), "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	// go-licenses knows the standard library by it, and a binary built with -trimpath has none.
	build.Default.GOROOT = strings.TrimSpace(string(goroot))
	klog.LogToStderr(false) // it warns about each assembly file
	klog.SetOutput(new(bytes.Buffer))

	classifier, err := licenses.NewClassifier()
	if err != nil {
		return nil, err
	}
	libraries := map[string]library{}
	for _, p := range platforms {
		for name, value := range map[string]string{"GOOS": p.os, "GOARCH": p.arch, "GOARM": p.arm, "CGO_ENABLED": "0"} {
			if err := os.Setenv(name, value); err != nil {
				return nil, err
			}
		}
		found, err := licenses.Libraries(context.Background(), classifier, false, []string{module}, "./cmd/"+plugin)
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", p, err)
		}
		for _, f := range found {
			l, err := checkLibrary(f)
			if err != nil {
				return nil, err
			}
			libraries[l.Name] = l
		}
	}
	return slices.SortedFunc(maps.Values(libraries), func(a, b library) int { return strings.Compare(a.Name, b.Name) }), nil
}

func checkLibrary(f *licenses.Library) (library, error) {
	l := library{Name: f.Name(), Version: f.Version()}
	if len(f.Licenses) == 0 {
		return l, fmt.Errorf("%s %s: no licence that is known in %q", l.Name, l.Version, f.LicenseFile)
	}
	for _, licence := range f.Licenses {
		switch licence.Type {
		case licenses.Unknown, licenses.Forbidden, licenses.Restricted, licenses.ByExceptionOnly:
			return l, fmt.Errorf("%s %s: its licence %s is %s", l.Name, l.Version, licence.Name, licence.Type)
		}
		l.Licences = append(l.Licences, licence.Name)
	}
	slices.Sort(l.Licences)
	text, err := os.ReadFile(f.LicenseFile)
	if err != nil {
		return l, err
	}
	l.text = strings.TrimSpace(string(text))

	// Apache-2.0 wants the NOTICE file to come along.
	notices, err := filepath.Glob(filepath.Join(filepath.Dir(f.LicenseFile), "NOTICE*"))
	if err != nil {
		return l, err
	}
	for _, n := range notices {
		if n == f.LicenseFile {
			continue
		}
		text, err := os.ReadFile(n)
		if err != nil {
			return l, err
		}
		l.text += "\n\n" + strings.TrimSpace(string(text))
	}
	return l, nil
}

const noticesHead = `Third-party software in vault-plugin-c1
=======================================

The binaries link the Go standard library and the libraries below, unmodified, under
these licences. The source of each is at https://pkg.go.dev/NAME@VERSION. The images
also hold the root certificates of Mozilla (MPL-2.0), as
golang.org/x/crypto/x509roots/fallback publishes them.
`

// writeNotices also writes NAME.json for the SBOMs.
func writeNotices(name string) error {
	libraries, err := linkedLibraries()
	if err != nil {
		return err
	}
	list, err := json.Marshal(libraries)
	if err != nil {
		return err
	}
	if err := writeFile(name+".json", list, 0o644); err != nil {
		return err
	}
	golang, err := os.ReadFile(filepath.Join(build.Default.GOROOT, "LICENSE"))
	if err != nil {
		return fmt.Errorf("the licence of Go: %w", err)
	}
	libraries = append([]library{{"The Go standard library", strings.TrimPrefix(runtime.Version(), "go"), []string{"BSD-3-Clause"}, strings.TrimSpace(string(golang))}}, libraries...)

	// Many share a text to the letter.
	users := map[string][]library{}
	var texts []string
	for _, l := range libraries {
		if users[l.text] == nil {
			texts = append(texts, l.text)
		}
		users[l.text] = append(users[l.text], l)
	}
	var out strings.Builder
	out.WriteString(noticesHead)
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n", strings.Repeat("-", 80))
		for _, l := range users[text] {
			fmt.Fprintln(&out, l)
		}
		fmt.Fprintf(&out, "\n%s\n", text)
	}
	return writeFile(name, []byte(out.String()), 0o644)
}
