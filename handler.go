// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/input"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// handler is a path's handler before its errors are put in Vault's form. The mounts of
// a process share their paths, so it is told which mount is asked.
type handler func(*backend, context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error)

// mountKey is the key of the mount in the context of its requests.
type mountKey struct{}

// in is the context of a request to this mount: each of the framework's ways to a
// handler begins with it.
func (b *backend) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, mountKey{}, b)
}

// mountOf is the mount that a request is for.
func mountOf(ctx context.Context) *backend { return ctx.Value(mountKey{}).(*backend) }

// HandleRequest answers what this node remembers without a single call back to
// Vault. Everything else goes the framework's way, on storage that remembers.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if resp := b.vendRemembered(req); resp != nil {
		return resp, nil
	}
	if err := refuseKVWrite(req); err != nil { // before its fields are looked at: they are KV's
		return logical.ErrorResponse(err.Error()), nil
	}
	if len(req.Data) > 0 && req.Secret == nil { // a renewal or revocation carries what the engine answered once
		if path := b.Route(req.Path); path != nil { // else the framework says so
			if err := input.Prepare(req.Operation, req.Data, path.Fields); err != nil {
				return logical.ErrorResponse(err.Error()), nil
			}
		}
	}
	return b.Backend.HandleRequest(b.in(ctx), req)
}

// HandleExistenceCheck tells Vault whether a write creates or updates.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checked, exists bool, err error) {
	return b.Backend.HandleExistenceCheck(b.in(ctx), req)
}

// inMount gives the mount to a handler whose errors are in Vault's form.
func inMount(next handler) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		return next(mountOf(ctx), ctx, req, d)
	}
}

// handle is the edge of the engine: it turns errors into Vault's. Over the plugin's
// gRPC only a bare coded error keeps its status, so nothing here may be wrapped.
func handle(next handler) framework.OperationFunc {
	return inMount(func(b *backend, ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		var resp *logical.Response
		err := checkName(d)
		if err == nil {
			resp, err = next(b, ctx, req, d)
		}
		if err == nil {
			return resp, nil
		}
		u, ok := errors.AsType[*userError](err)
		if !ok {
			if errors.Is(err, logical.ErrReadOnly) {
				if b.node.role.Load() != nil {
					b.mayWrite() // no longer, it seems
				}
				return nil, logical.ErrReadOnly
			}
			if c1api.AsError(err) == nil {
				return nil, err
			}
			u = fromC1(err)
		}
		if u.status == http.StatusBadRequest {
			return logical.ErrorResponse(u.message), nil
		}
		return nil, logical.CodedError(u.status, u.message)
	})
}

// handleFor is handle for a path that connectors and decoys have alike.
func handleFor(k target.Kind, next func(*backend, context.Context, *logical.Request, *framework.FieldData, target.Kind) (*logical.Response, error)) framework.OperationFunc {
	return handle(func(b *backend, ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		return next(b, ctx, req, d, k)
	})
}

// checkName refuses the name in a path before storage is asked for it.
func checkName(d *framework.FieldData) error {
	if d.Schema["name"] == nil {
		return nil
	}
	return validName(d.Get("name").(string))
}

// safely turns a panic into an error, so that one target cannot take down every
// mount of the process.
func (b *backend) safely(about fmt.Stringer, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.Logger().Error("panic", "target", about.String(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do()
}
