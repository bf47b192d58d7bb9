// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command apidoc prints docs/api.md from the engine's own path definitions.
package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	c1 "github.com/c1-community/vault-plugin-c1"
)

const preface = `# API reference

Generated from the engine's own path definitions by ` + "`make docs`" + `: do not edit.

Paths are below the mount, ` + "`c1/`" + ` in the examples. Durations are seconds or
strings such as ` + "`10m`" + `. Unknown fields are refused. What each error status
means stands in [monitoring.md](monitoring.md#errors).
`

func main() {
	var out bytes.Buffer
	out.WriteString(preface)
	for _, path := range c1.New("").Paths {
		describe(&out, path)
	}
	if _, err := os.Stdout.Write(out.Bytes()); err != nil {
		fmt.Fprintln(os.Stderr, "apidoc:", err)
		os.Exit(1)
	}
}

var capture = regexp.MustCompile(`\(\?P<(\w+)>[^)]*\)`)

// urlOf turns a path's pattern into what a person types.
func urlOf(pattern string) string {
	url := capture.ReplaceAllString(pattern, ":$1")
	return strings.TrimSuffix(strings.Trim(url, "^$"), "?")
}

// verbs are the operations in the order in which they are described, with
// their HTTP methods.
var verbs = []struct {
	op     logical.Operation
	method string
}{
	{logical.ListOperation, "LIST"},
	{logical.ReadOperation, "GET"},
	{logical.CreateOperation, "POST"},
	{logical.UpdateOperation, "POST"},
	{logical.PatchOperation, "PATCH"},
	{logical.DeleteOperation, "DELETE"},
}

func describe(w *bytes.Buffer, path *framework.Path) {
	fmt.Fprintf(w, "\n## `%s`\n\n%s\n\n%s\n\n", urlOf(path.Pattern), path.HelpSynopsis, strings.TrimSpace(path.HelpDescription))
	fmt.Fprintf(w, "| method | operation | what it does |\n|---|---|---|\n")
	for _, v := range verbs {
		if handler := path.Operations[v.op]; handler != nil {
			fmt.Fprintf(w, "| `%s` | %s | %s |\n", v.method, v.op, cell(handler.Properties().Summary))
		}
	}
	if len(path.Fields) > 0 {
		fmt.Fprintf(w, "\nParameters:\n\n")
		table(w, path.Fields, "required")
	}
	var last map[string]*framework.FieldSchema
	for _, v := range verbs {
		handler := path.Operations[v.op]
		if handler == nil {
			continue
		}
		for _, r := range handler.Properties().Responses[http.StatusOK] {
			// Reading and writing a vend answer the same.
			if len(r.Fields) == 0 || maps.EqualFunc(r.Fields, last, func(a, b *framework.FieldSchema) bool { return a == b }) {
				continue
			}
			last = r.Fields
			fmt.Fprintf(w, "\nAnswer (%s): %s\n\n", v.op, r.Description)
			table(w, r.Fields, "always there")
		}
	}
}

func table(w *bytes.Buffer, fields map[string]*framework.FieldSchema, required string) {
	fmt.Fprintf(w, "| field | type | %s | meaning |\n|---|---|---|---|\n", required)
	names := slices.Sorted(maps.Keys(fields))
	slices.SortStableFunc(names, func(a, b string) int { return rank(fields[a]) - rank(fields[b]) })
	for _, name := range names {
		f := fields[name]
		mark := ""
		if f.Required {
			mark = "yes"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", name, f.Type, mark, cell(f.Description))
	}
}

// rank puts the required fields first.
func rank(f *framework.FieldSchema) int {
	if f.Required {
		return 0
	}
	return 1
}

func cell(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`) }
