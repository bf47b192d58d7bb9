// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const (
	sumsFile       = "SHA256SUMS"
	binarySumsFile = "SHA256SUMS.binaries"
	noticesFile    = "THIRD_PARTY_NOTICES.txt"
)

// binary is a published executable.
type binary struct {
	name string // its file in dist/
	path string
	platform
}

type platform struct{ os, arch, arm string }

func (p platform) String() string {
	if p.arm != "" {
		return p.os + "/" + p.arch + "/v" + p.arm
	}
	return p.os + "/" + p.arch
}

// collect copies archives and bare binaries from where GoReleaser left them.
func (r release) collect(artifacts string) ([]binary, error) {
	var list []struct {
		Name, Path, Goos, Goarch, Goarm, Type string
		Extra                                 struct{ Format string }
	}
	if err := readJSON(artifacts, &list); err != nil {
		return nil, err
	}
	var binaries []binary
	for _, a := range list {
		target := filepath.Join(r.to, a.Name)
		var err error
		switch {
		case a.Type == "Archive":
			err = copyFile(target, filepath.Join(r.root, a.Path), 0o644)
		case a.Type == "Binary" && a.Extra.Format == "binary":
			binaries = append(binaries, binary{a.Name, target, platform{a.Goos, a.Goarch, a.Goarm}})
			err = copyFile(target, filepath.Join(r.root, a.Path), 0o755)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(binaries, func(a, b binary) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })

	// The notices in the archives were collected for the list here.
	built := make([]platform, 0, len(binaries))
	for _, b := range binaries {
		built = append(built, b.platform)
	}
	for _, p := range platforms {
		if !slices.Contains(built, p) {
			return nil, fmt.Errorf(".goreleaser.yaml does not build %s", p)
		}
	}
	if len(built) != len(platforms) {
		return nil, fmt.Errorf(".goreleaser.yaml builds %v, but notices are for %v", built, platforms)
	}
	return binaries, copyFile(filepath.Join(r.to, noticesFile), filepath.Join(r.root, "bin", noticesFile), 0o644)
}

func readJSON(name string, to any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// copyFile gives the copy exactly this mode, whatever the umask.
func copyFile(to, from string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, content, mode)
}

func writeFile(name string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(name, content, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

func sum(name string) (string, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:]), nil
}

// published lists what is in dist/ so far, sorted.
func (r release) published() ([]string, error) {
	entries, err := os.ReadDir(r.to)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// writeSums writes the sums of everything, and those of the bare binaries
// alone: they are what a server's plugin catalog holds.
func (r release) writeSums(binaries []binary) error {
	bare := make([]string, 0, len(binaries))
	for _, b := range binaries {
		bare = append(bare, b.name)
	}
	if err := r.writeSumsOf(binarySumsFile, bare); err != nil {
		return err
	}
	all, err := r.published()
	if err != nil {
		return err
	}
	return r.writeSumsOf(sumsFile, all)
}

func (r release) writeSumsOf(name string, files []string) error {
	var text bytes.Buffer
	for _, f := range files {
		digest, err := sum(filepath.Join(r.to, f))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s  %s\n", digest, f)
	}
	return writeFile(filepath.Join(r.to, name), text.Bytes(), 0o644)
}
