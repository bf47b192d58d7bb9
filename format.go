// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// unprintable, embedded, keeps a type that leads to a secret out of every log: fmt
// prints what stands in unexported fields, whatever that has to say to it.
type unprintable struct{}

// Format implements fmt.Formatter.
func (unprintable) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[redacted]") }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func rfc3339(t time.Time) string { return target.RFC3339(t) }

// clip keeps an error message from repeating 10 kB of input.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// secondsUp are whole seconds, rounded up: who comes back then is not too early.
func secondsUp(d time.Duration) int64 { return seconds(d + time.Second - 1) }

// warned is an answer that holds nothing but warnings; nil without any.
func warned(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	resp := &logical.Response{}
	for _, warning := range warnings {
		resp.AddWarning(warning)
	}
	return resp
}
