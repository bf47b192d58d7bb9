// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxMessageRunes = 200
	redacted        = "[redacted]"
)

// secretLooking matches what may be a secret in a text of C1's: its secrets,
// bearer tokens, JWTs and JWKs.
var secretLooking = regexp.MustCompile(`(?i:secret[\s\p{Pd}_]*token["']?\s*(?::|%3a)|bearer\s)\s*\S+` +
	`|eyJ[A-Za-z0-9_-]{4,}\.\S*|eyJ[A-Za-z0-9+/_-]{40,}`)

// clean makes a text from outside fit for an error: one line of at most 200
// characters, without anything that is, or looks like, a secret. A text that
// holds one in a disguise is not shown at all.
func clean(s string, secrets []string) string {
	s = oneLine(s)
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, redacted)
			s = strings.ReplaceAll(s, url.QueryEscape(secret), redacted)
		}
	}
	s = secretLooking.ReplaceAllString(s, redacted)
	if findSecret(cut(s, 4*maxMessageRunes)) != nothingSecret {
		return redacted
	}
	return cut(s, maxMessageRunes)
}

// oneLine leaves of a text what a person can see, on one line: no control,
// format, bidi, zero-width or tag characters, no invalid UTF-8, and a single
// space for each run of white space.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !Visible(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))), " ")
}

// Visible reports whether a character can be seen. Some that count as letters
// or marks cannot: fillers and variation selectors, which can carry a hidden
// text.
func Visible(r rune) bool {
	return unicode.IsPrint(r) && r != utf8.RuneError &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// cut shortens a text to a number of characters, the last of which then says
// so.
func cut(s string, runes int) string {
	if utf8.RuneCountInString(s) <= runes {
		return s
	}
	return string([]rune(s)[:runes-1]) + "…"
}
