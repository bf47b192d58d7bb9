// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command noop is an external plugin that does as little as one can: a write of
// any path leaves its data in memory, and a read of any path answers with it.
// What it reaches is what Vault leaves to any plugin.
package main

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

func main() {
	if err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory}); err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("the plugin stopped", "error", err)
		os.Exit(1)
	}
}

// backend takes requests itself, past the framework's routing.
type backend struct {
	*framework.Backend
	data atomic.Pointer[map[string]any]
}

func factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := &backend{Backend: &framework.Backend{BackendType: logical.TypeLogical}}
	return b, b.Setup(ctx, conf)
}

func (b *backend) HandleRequest(_ context.Context, req *logical.Request) (*logical.Response, error) {
	switch req.Operation {
	case logical.UpdateOperation:
		b.data.Store(&req.Data)
		return nil, nil // a write without an answer
	case logical.ReadOperation:
		if data := b.data.Load(); data != nil {
			return &logical.Response{Data: *data}, nil
		}
		return nil, nil // there is nothing yet
	default:
		return nil, logical.ErrUnsupportedOperation
	}
}

// HandleExistenceCheck makes every write an update.
func (b *backend) HandleExistenceCheck(context.Context, *logical.Request) (checkFound, exists bool, err error) {
	return true, true, nil
}
