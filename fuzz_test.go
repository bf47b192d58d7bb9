// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// fuzzed are the operations that a caller may ask for.
var fuzzed = []logical.Operation{
	logical.ReadOperation, logical.ListOperation, logical.CreateOperation,
	logical.UpdateOperation, logical.PatchOperation, logical.DeleteOperation,
}

// Whatever a caller sends to any path, the engine answers with what was declared or
// refuses it with a status that is the caller's to mend; what is refused as bad input
// changes nothing, no secret is in an error, and no key of storage is one that Vault's
// storage would refuse.
func FuzzRequest(f *testing.F) {
	paths := New(testVersion).Paths
	for i, path := range paths {
		bound := "okta"
		if strings.Contains(path.Pattern, "decoy") {
			bound = "bait"
		}
		for op, operation := range fuzzed {
			if path.Operations[operation] == nil {
				continue
			}
			f.Add(uint8(i), uint8(op), bound, "", "")
			if operation != logical.UpdateOperation {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(path.Fields)) {
				example := map[framework.FieldType]string{
					framework.TypeBool: `true`, framework.TypeInt: `7`, framework.TypeDurationSecond: `"90s"`,
					framework.TypeKVPairs: `{"a":"b"}`, framework.TypeStringSlice: `["a"]`,
				}[path.Fields[name].Type]
				if example == "" {
					example = `"okta"`
				}
				f.Add(uint8(i), uint8(op), bound, name, example)
			}
		}
	}
	f.Add(uint8(1), uint8(0), "../config", "rotate_on", `"schedule"`)
	f.Add(uint8(1), uint8(2), "a/b", "app_id", `{"$ne":null}`)
	f.Fuzz(func(t *testing.T, whichPath, whichOp uint8, name, field, value string) {
		e := configured(t)
		e.bindConnector("okta")
		e.bindDecoy("bait", c1test.KindAccessToken)
		e.storage.failWhen(func(op, key string) bool {
			require.NotContains(t, key, "..", "%s: storage refuses it", op)
			require.False(t, strings.HasPrefix(key, "/"), "%s: storage refuses it", op)
			return false
		})
		pattern := paths[int(whichPath)%len(paths)].Pattern
		path := concrete(pattern, name)
		op := fuzzed[int(whichOp)%len(fuzzed)]
		data := map[string]any{}
		if op != logical.ReadOperation && op != logical.ListOperation {
			ref := e.c1.Connector()
			data = fields("app_id", ref.AppID, "connector_id", ref.ConnectorID, "rotate_on", rotateOnWrite)
		}
		var decoded any
		if json.Unmarshal([]byte(value), &decoded) != nil {
			decoded = value
		}
		if field != "" {
			data[field] = decoded
		}

		stored, changes := e.entries(), len(e.c1.Journal())
		resp, err := e.do(context.Background(), newRequest(op, path, data))
		status, said := refusedWith(resp, err)
		switch status {
		case 0:
			return
		case http.StatusBadRequest:
			require.Equal(t, stored, e.entries(), "%s %s was refused, and changed something: %s", op, path, said)
			require.Len(t, e.c1.Journal(), changes, "%s %s was refused, and changed C1: %s", op, path, said)
		default:
			require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusForbidden}, status, "%s %s: %s", op, path, said)
		}
		require.NotContains(t, said, "panic")
		for _, secret := range e.emu.Secrets() {
			require.NotContains(t, said, secret)
		}
		require.NotContains(t, e.logs.String(), "panic")
	})
}

// concrete is a path that a pattern may match, with a caller's name where it takes one.
func concrete(pattern, name string) string {
	path := strings.TrimSuffix(strings.Trim(pattern, "^$"), "/?")
	for {
		before, rest, found := strings.Cut(path, "(?P<")
		if !found {
			return path
		}
		depth := 1
		end := strings.IndexFunc(rest, func(r rune) bool {
			switch r {
			case '(':
				depth++
			case ')':
				depth--
			}
			return depth == 0
		})
		path = before + name + rest[end+1:]
	}
}

// refusedWith is the status of a refusal and what it says, or 0.
func refusedWith(resp *logical.Response, err error) (status int, said string) {
	var coded logical.HTTPCodedError
	switch {
	case errors.Is(err, logical.ErrUnsupportedPath):
		return http.StatusNotFound, err.Error()
	case errors.Is(err, logical.ErrUnsupportedOperation):
		return http.StatusMethodNotAllowed, err.Error()
	case errors.As(err, &coded):
		return coded.Code(), err.Error()
	case errors.Is(err, logical.ErrInvalidRequest):
		return http.StatusBadRequest, err.Error()
	case err != nil:
		return http.StatusInternalServerError, err.Error()
	case resp != nil && resp.IsError():
		return http.StatusBadRequest, resp.Error().Error()
	case resp != nil && resp.Data[logical.HTTPStatusCode] != nil && fmt.Sprint(resp.Data[logical.HTTPStatusCode]) >= "400":
		return http.StatusNotFound, fmt.Sprint(resp.Data[logical.HTTPRawBody])
	default:
		return 0, ""
	}
}
