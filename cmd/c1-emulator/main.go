// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command c1-emulator serves an emulated C1 for trying the plugin and for
// demonstrations: stateful, and able to fail on demand.
//
//	c1-emulator -tls -ca-file ca.pem -seed-file seeds.json
//	c1-emulator login    -ca-file ca.pem -client-id ID -secret-file FILE
//	c1-emulator findings -ca-file ca.pem -url URL
//
// The seed file (mode 0600) holds the URL, identities and IDs that every
// tenant starts with; the first tenant's stand at the top level, so that
//
//	jq -r .client_secret seeds.json
//
// is all that a script needs. login does what a connector (or with -form another of
// C1's clients) does with its credential, and exits with 1 when C1 refuses it.
// findings prints every use of a decoy as JSON. Secrets are read from files and never
// printed.
//
// Faults, barriers and everything else that tests want are set over HTTP below
// /_emulator/ on a tenant's port; c1-emulator -help describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Stamped by the build.
var (
	version = "dev"
	commit  = "unknown"
)

// Exit codes.
const (
	exitOK      = 0
	exitRefused = 1 // C1 refused the login
	exitFailed  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := serve
	if len(args) > 0 {
		switch args[0] {
		case "login":
			command, args = login, args[1:]
		case "findings":
			command, args = findings, args[1:]
		case "serve":
			args = args[1:]
		}
	}
	err := command(ctx, args, stdin, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused
	default:
		_, _ = fmt.Fprintln(stderr, "c1-emulator:", err)
		return exitFailed
	}
}

// parse reads the flags of one command, which takes no other arguments.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%s: %w", flags.Name(), err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", flags.Name(), flags.Arg(0))
	}
	return nil
}
