// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the number that distroless images use for a user without rights.
const nobody = "65532:65532"

// writeImages writes an image for each Linux platform into one OCI layout, and
// a list of the digests that a registry or a server's catalog shows.
func (r release) writeImages(binaries []binary) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var digests strings.Builder
	for _, b := range binaries {
		if b.os != "linux" {
			continue
		}
		img, err := r.image(b)
		if err != nil {
			return fmt.Errorf("image for %s: %w", b.platform, err)
		}
		manifest, err := img.Digest()
		if err != nil {
			return err
		}
		config, err := img.ConfigName()
		if err != nil {
			return err
		}
		fmt.Fprintf(&digests, "%s  manifest  %s\n%s  config    %s\n", manifest, b.platform, config, b.platform)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: b.image()},
		})
	}
	annotated, ok := mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	if !ok {
		return fmt.Errorf("an annotated index is no index any more")
	}
	digest, err := annotated.Digest()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s  index     all\n%s", digest, digests.String())
	if err := writeFile(filepath.Join(r.to, r.file("oci.digests")), []byte(text), 0o644); err != nil {
		return err
	}
	return r.writeLayout(annotated)
}

func (p platform) image() *v1.Platform {
	image := &v1.Platform{OS: p.os, Architecture: p.arch}
	if p.arm != "" {
		image.Variant = "v" + p.arm
	}
	return image
}

// image holds the binary in its root, where OpenBao looks for what the
// entrypoint names, and the system's usual root certificates, since a plugin
// that Vault runs in a container sees none of the host's.
func (r release) image(b binary) (v1.Image, error) {
	roots, err := rootCertificates()
	if err != nil {
		return nil, err
	}
	layer, err := r.layer([]entry{
		{name: plugin, from: b.path, mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", content: roots, mode: 0o644},
		{name: "licenses/LICENSE", from: filepath.Join(r.root, "LICENSE"), mode: 0o644},
		{name: "licenses/" + noticesFile, from: filepath.Join(r.to, noticesFile), mode: 0o644},
	})
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: r.time}, CreatedBy: "make dist"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = b.os, b.arch, b.image().Variant
	config.Created = v1.Time{Time: r.time}
	config.Config = v1.Config{
		User:       nobody,
		Entrypoint: []string{"/" + plugin},
		WorkingDir: "/",
		Labels:     r.labels(),
	}
	return mutate.ConfigFile(img, config)
}

func (r release) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       plugin,
		"org.opencontainers.image.description": "Secrets engine of Vault and OpenBao for credentials of C1",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.revision":    r.commit,
		"org.opencontainers.image.created":     r.time.Format(time.RFC3339),
		"org.opencontainers.image.source":      source,
		"org.opencontainers.image.licenses":    "MPL-2.0",
	}
}

// entry is a file of a tar archive, its content given or read from a file.
type entry struct {
	name, from string
	content    []byte
	mode       int64
}

// writeTar makes the directories that the entries need, and gives everything
// to root and the commit's time.
func (r release) writeTar(out io.Writer, entries []entry) error {
	w := tar.NewWriter(out)
	made := map[string]bool{".": true}
	for _, e := range entries {
		for i, c := range e.name {
			if dir := e.name[:i]; c == '/' && !made[dir] {
				made[dir] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: r.time}); err != nil {
					return err
				}
			}
		}
		if e.from != "" {
			var err error
			if e.content, err = os.ReadFile(e.from); err != nil {
				return err
			}
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, ModTime: r.time, Size: int64(len(e.content))}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(e.content); err != nil {
			return err
		}
	}
	return w.Close()
}

func (r release) layer(entries []entry) (v1.Layer, error) {
	var text bytes.Buffer
	if err := r.writeTar(&text, entries); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// rootCertificates leaves out the roots that Mozilla trusts for older
// certificates only: a file cannot say so.
func rootCertificates() ([]byte, error) {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// writeLayout packs the index as an OCI layout under the version's name.
func (r release) writeLayout(index v1.ImageIndex) error {
	dir, err := os.MkdirTemp("", plugin)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary

	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	name := map[string]string{"org.opencontainers.image.ref.name": r.version}
	if err := path.AppendIndex(index, layout.WithAnnotations(name)); err != nil {
		return err
	}
	var entries []entry
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // in lexical order
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		entries = append(entries, entry{name: filepath.ToSlash(name), from: path, mode: 0o644})
		return err
	})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := r.writeTar(&text, entries); err != nil {
		return err
	}
	return writeFile(filepath.Join(r.to, r.file("oci.tar")), text.Bytes(), 0o644)
}
