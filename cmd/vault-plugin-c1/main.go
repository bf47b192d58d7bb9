// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-c1 is the C1 secrets engine as Vault and OpenBao run
// it: an external plugin, one process for all mounts.
package main

import (
	"flag"
	"fmt"
	"os"
	_ "time/tzdata" // cron lines name time zones, and small images have none

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/plugin"

	c1 "github.com/c1-community/vault-plugin-c1"
)

// The Makefile stamps both. Vault compares version with the one that the
// plugin is registered under and refuses a mismatch.
var (
	version = "v0.0.0-dev"
	commit  = "unknown"
)

func main() {
	showVersion := flag.Bool("version", false, "print version and commit, then exit")
	flag.Parse()
	if *showVersion {
		fmt.Printf("vault-plugin-c1 %s (%s)\n", version, commit)
		return
	}
	// No TLS provider: every server that can mount the plugin in several
	// versions also sets up mutual TLS with it by itself.
	err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: c1.Factory(version)})
	if err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("the plugin stopped", "error", err)
		os.Exit(1)
	}
}
