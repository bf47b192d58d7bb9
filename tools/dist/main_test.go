// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// made writes images, provenance and sums for three stand-ins of binaries.
func made(t *testing.T) release {
	t.Helper()
	root := t.TempDir()
	r := release{
		version: "v1.2.3", commit: "0123456789012345678901234567890123456789",
		time: time.Unix(1700000000, 0).UTC(), root: root, to: filepath.Join(root, "dist"),
	}
	for _, name := range []string{
		"LICENSE", "go.sum", "tools/dist/go.sum", "tools/goreleaser/go.sum",
		"dist/" + noticesFile, "dist/amd64", "dist/armv7", "dist/windows",
	} {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(name), 0o600))
	}
	binaries := []binary{
		{"amd64", filepath.Join(r.to, "amd64"), platform{"linux", "amd64", ""}},
		{"armv7", filepath.Join(r.to, "armv7"), platform{"linux", "arm", "7"}},
		{"windows", filepath.Join(r.to, "windows"), platform{"windows", "amd64", ""}},
	}
	must(t, r.writeImages(binaries))
	must(t, r.writeProvenance())
	must(t, r.writeSums(binaries))
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhereAReleaseIsMadeDoesNotChangeIt(t *testing.T) {
	t.Parallel()
	a, err := os.ReadFile(filepath.Join(made(t).to, sumsFile))
	must(t, err)
	b, err := os.ReadFile(filepath.Join(made(t).to, sumsFile))
	must(t, err)
	if string(a) != string(b) {
		t.Errorf("two sets of sums:\n%s\n%s", a, b)
	}
}

// TestAnImageHoldsWhatServersLookFor: OpenBao takes the entrypoint's name in the
// root, Vault runs the entrypoint, and C1's certificate needs roots.
func TestAnImageHoldsWhatServersLookFor(t *testing.T) {
	t.Parallel()
	r := made(t)
	index := unpack(t, filepath.Join(r.to, r.file("oci.tar")))
	manifest, err := index.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 2 {
		t.Fatalf("%d images, want those of both Linux platforms", len(manifest.Manifests))
	}
	for i, want := range []string{"linux/amd64", "linux/arm/v7"} {
		if got := manifest.Manifests[i].Platform.String(); got != want {
			t.Errorf("platform %s, want %s", got, want)
		}
		img, err := index.Image(manifest.Manifests[i].Digest)
		must(t, err)
		config, err := img.ConfigFile()
		must(t, err)
		if config.Config.User != nobody || len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/"+plugin {
			t.Errorf("runs %v as %q", config.Config.Entrypoint, config.Config.User)
		}
		files := filesOf(t, img)
		if mode, ok := files[plugin]; !ok || mode != 0o755 {
			t.Errorf("no executable /%s: %v", plugin, files)
		}
		if _, ok := files["etc/ssl/certs/ca-certificates.crt"]; !ok {
			t.Errorf("no root certificates: %v", files)
		}
	}
}

func filesOf(t *testing.T, img v1.Image) map[string]int64 {
	t.Helper()
	stream := mutate.Extract(img)
	defer func() { must(t, stream.Close()) }()
	files := map[string]int64{}
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		files[header.Name] = header.Mode
	}
}

// unpack returns the one index of a packed layout.
func unpack(t *testing.T, name string) v1.ImageIndex {
	t.Helper()
	file, err := os.Open(name)
	must(t, err)
	defer func() { must(t, file.Close()) }()
	dir := t.TempDir()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		path := filepath.Join(dir, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		content, err := io.ReadAll(reader)
		must(t, err)
		must(t, os.WriteFile(path, content, 0o600))
	}
	top, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	manifest, err := top.IndexManifest()
	must(t, err)
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	must(t, err)
	return index
}

func TestALicenceIsFoundForEachModule(t *testing.T) {
	t.Parallel()
	libraries := []library{
		{Name: "example.com/a/sub", Licences: []string{"MIT"}},
		{Name: "example.com/b", Licences: []string{"MPL-2.0"}},
		{Name: "example.com/bee", Licences: []string{"ISC"}},
	}
	for module, want := range map[string]string{"example.com/a": "MIT", "example.com/b": "MPL-2.0"} {
		if got := licencesOf(module, libraries); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, want %s", module, got, want)
		}
	}
	if got := licencesOf("example.com/c", libraries); got != nil {
		t.Errorf("a licence out of nothing: %v", got)
	}
}
