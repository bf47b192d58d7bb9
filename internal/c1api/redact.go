// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"fmt"
	"io"
	"reflect"
)

// A type that holds a secret prints without it, by any verb, so that nobody can log
// one by accident. An exported one marks the field json:"-", which also keeps it out
// of JSON, and formats itself by redact; an inner one embeds unprintable. Two things
// make fmt print the fields themselves: that one stands in an unexported field of
// another type, which then has to embed unprintable too, and the verb %w for what is
// no error, which go vet refuses.

// redact prints a struct, or what is set of it, on one line; of a secret only that it
// is there.
func redact(s fmt.State, of any) {
	value := reflect.ValueOf(of)
	_, _ = io.WriteString(s, value.Type().Name()+"{") // as fmt itself, there is nobody to tell
	separator := ""
	for i := range value.NumField() {
		field, held := value.Type().Field(i), value.Field(i)
		if held.IsZero() {
			continue
		}
		_, _ = fmt.Fprintf(s, "%s%s:%v", separator, field.Name, printable(field, held))
		separator = " "
	}
	_, _ = io.WriteString(s, "}")
}

// printable is what may be shown of a field.
func printable(field reflect.StructField, held reflect.Value) any {
	switch {
	case field.Tag.Get("json") == "-":
		return redacted
	case held.Kind() == reflect.Func, held.Kind() == reflect.Interface: // whose insides are unknown
		return "set"
	default:
		return held.Interface()
	}
}

// unprintable, embedded, makes a type print as nothing but that it is secret.
type unprintable struct{}

// Format implements fmt.Formatter.
func (unprintable) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// Format implements fmt.Formatter: without the secrets, whatever the verb.
func (o Options) Format(s fmt.State, _ rune) { redact(s, o) }

// Format implements fmt.Formatter: without the secret, whatever the verb.
func (c ConnectorCredential) Format(s fmt.State, _ rune) { redact(s, c) }

// Format implements fmt.Formatter: without the secret, whatever the verb.
func (m DecoyMaterial) Format(s fmt.State, _ rune) { redact(s, m) }

// Format implements fmt.Formatter: without the secret, whatever the verb.
func (m ClientCredentialMaterial) Format(s fmt.State, _ rune) { redact(s, m) }

// Format implements fmt.Formatter: without the secret, whatever the verb.
func (m AccessTokenMaterial) Format(s fmt.State, _ rune) { redact(s, m) }

// Format implements fmt.Formatter: a client is known by its tenant.
func (c *Client) Format(s fmt.State, _ rune) {
	if c == nil {
		_, _ = io.WriteString(s, "<nil>")
		return
	}
	_, _ = io.WriteString(s, "Client{"+c.base+"}")
}
