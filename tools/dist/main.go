// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command dist makes what GoReleaser's free edition does not: notices, SBOMs,
// images, sums and provenance. All of it follows from the source alone, so that
// everybody who builds a commit gets the same bytes.
//
//	dist notices FILE                 before GoReleaser, which packs the file
//	dist finish -version … ARTIFACTS  after it, from its artifacts.json
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	plugin = "vault-plugin-c1"
	source = "https://github.com/c1-community/" + plugin
	module = "github.com/c1-community/" + plugin
)

// release says what is built and where it goes.
type release struct {
	version string // v0.1.0
	commit  string // in full; "unknown" outside of a checkout and of a source archive
	time    time.Time
	root    string
	to      string
}

// file names a published file: vault-plugin-c1_0.1.0_SUFFIX.
func (r release) file(suffix string) string {
	return fmt.Sprintf("%s_%s_%s", plugin, r.version[1:], suffix)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "notices" {
		return writeNotices(args[1])
	}
	if len(args) == 0 || args[0] != "finish" {
		return fmt.Errorf("usage: dist notices FILE, or dist finish [flags] ARTIFACTS")
	}

	r := release{root: "."}
	seconds := int64(0)
	flags := flag.NewFlagSet("finish", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "the version, with its v")
	flags.StringVar(&r.commit, "commit", "", "the commit in full")
	flags.Int64Var(&seconds, "time", 0, "the commit's time in seconds")
	flags.StringVar(&r.to, "to", "dist", "where everything goes")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if len(r.version) < 2 || r.commit == "" || flags.NArg() != 1 {
		return fmt.Errorf("finish needs -version, -commit and GoReleaser's artifacts.json")
	}
	r.time = time.Unix(seconds, 0).UTC()
	return r.finish(flags.Arg(0))
}

func (r release) finish(artifacts string) error {
	binaries, err := r.collect(artifacts)
	if err != nil {
		return err
	}
	var libraries []library
	if err := readJSON(filepath.Join(r.root, "bin", noticesFile+".json"), &libraries); err != nil {
		return err
	}
	if err := r.writeSBOMs(binaries, libraries); err != nil {
		return err
	}
	if err := r.writeImages(binaries); err != nil {
		return err
	}
	if err := r.writeProvenance(); err != nil {
		return err
	}
	return r.writeSums(binaries)
}
