// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// What the declarations of paths have in common.

// operationPrefix begins every operation ID in Vault's OpenAPI document.
const operationPrefix = "c1"

// display names a path in that document. The verb is "" where Vault's own is meant.
func display(verb, suffix string) *framework.DisplayAttributes {
	return &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix}
}

// forwarded is an operation that only the active node of the primary cluster carries out.
func forwarded(op *framework.PathOperation) *framework.PathOperation {
	op.ForwardPerformanceStandby, op.ForwardPerformanceSecondary = true, true
	return op
}

// answer is the schema of what an operation answers with.
func answer(description string, fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: description, Fields: fields}}}
}

// done is the schema of an operation that answers with nothing.
func done(description string) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: description}}}
}

// anyName matches any name in a path, so that a bad one is refused by its
// field and not as an unknown path.
const anyName = `(?P<name>[^/]+)`

func nameField() *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: "Name of the binding: a letter or digit, then up to 127 of letters, digits, `.`, `_` and `-`."}
}

func pageFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"after": {Type: framework.TypeString, Query: true, Description: "List the names after this one."},
		"limit": {Type: framework.TypeInt, Query: true, Description: "List at most this many names. Default: all."},
	}
}

// only are the operations of a path that has one.
func only(op logical.Operation, does *framework.PathOperation) map[logical.Operation]framework.OperationHandler {
	return map[logical.Operation]framework.OperationHandler{op: does}
}

// lists are the operations of a path that lists names.
func lists(summary, names string, callback framework.OperationFunc) map[logical.Operation]framework.OperationHandler {
	return only(logical.ListOperation, &framework.PathOperation{
		Summary:  summary,
		Callback: callback,
		Responses: answer("The names, sorted.", map[string]*framework.FieldSchema{
			"keys": {Type: framework.TypeStringSlice, Description: names},
		}),
	})
}
