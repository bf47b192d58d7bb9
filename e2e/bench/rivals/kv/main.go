// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command kv is HashiCorp's KV engine as an external plugin, less a lease per
// read. KV v1 asks for one with each answer; Vault spares it to its built-in KV
// alone, which no plugin can take the place of. With it, the comparison would be
// one of Vault's leases.
package main

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/c1-community/vault-plugin-c1/e2e/bench/heapdump"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{JSONFormat: true})
	heapdump.OnSignal(func(err error) { logger.Error("no heap profile", "error", err) })
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory}); err != nil {
		logger.Error("the plugin stopped", "error", err)
		os.Exit(1)
	}
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	// Vault takes the option "version" for its own KV only.
	conf.Config["version"] = conf.Config["kv_version"]
	engine, err := kv.Factory(ctx, conf)
	if err != nil {
		return nil, err
	}
	return leaseless{engine}, nil
}

type leaseless struct{ logical.Backend }

func (b leaseless) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	resp, err := b.Backend.HandleRequest(ctx, req)
	if resp != nil {
		resp.Secret = nil
	}
	return resp, err
}
