// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"regexp"
	"strings"
	"unicode"
)

const (
	maxMessageRunes = 200
	redacted        = "[redacted]"
)

// secretLooking matches what may be a secret in a text of C1's: its secrets,
// bearer tokens and JWTs.
var secretLooking = regexp.MustCompile(`(?i:secret-token:|bearer\s)\s*\S+|eyJ[A-Za-z0-9_-]{4,}\.\S*`)

// clean makes a text from outside fit for an error: one line of at most 200
// characters, without anything that is, or looks like, a secret.
func clean(s string, secrets []string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r): // control and format characters, invalid UTF-8
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	s = secretLooking.ReplaceAllString(s, redacted)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxMessageRunes {
		s = string(r[:maxMessageRunes-1]) + "…"
	}
	return s
}
