// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/base64"
	"html"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// disguised is what a text holds, in whatever spelling.
type disguised int

const (
	nothingSecret disguised = iota
	secretToken             // what reads secret-token: once its disguise is off
	privateKey              // a JWK with its private part, or a PEM private key
)

// Each escape is taken off as often as a text that passed through a few
// programs may carry it, and so is base64.
const (
	escapeLayers = 3
	base64Layers = 2
)

var (
	tokenMark = regexp.MustCompile(`(?i)secret[-_]*token:`)
	pemMark   = regexp.MustCompile(`(?i)-----begin[a-z0-9]*privatekey`)

	// A JWK that somebody cut may have lost one end, hence two independent
	// marks: a member that only JWKs of our kind have, and d with a value.
	jwkMark = regexp.MustCompile(`(?i)\b(kty|crv|okp|ed25519)\b`)
	jwkD    = regexp.MustCompile(`(?:^|[^A-Za-z0-9_])["'\\]*d["'\\]*\s*[:=]\s*["'\\]*[A-Za-z0-9_-]{16,}`)

	byteEscape = regexp.MustCompile(`(?:%|=|\\x|\\u00)([0-9A-Fa-f]{2})`)
	base64Run  = regexp.MustCompile(`[A-Za-z0-9+/_-]{48,}`)
)

// findSecret says whether a text holds a client secret of C1's or the private
// key of one: in upper case, with invisible or full-width characters, escaped
// for a URL, JSON or HTML, in base64, or cut out of its surroundings.
func findSecret(text string) disguised { return findInLayers(text, base64Layers) }

func findInLayers(text string, layers int) disguised {
	var forms []string // squeezed
	for range escapeLayers + 1 {
		text = fold(text)
		forms = append(forms, squeeze(text))
		switch squeezed := forms[len(forms)-1]; {
		case tokenMark.MatchString(squeezed):
			return secretToken
		case pemMark.MatchString(squeezed), jwkMark.MatchString(text) && jwkD.MatchString(text):
			return privateKey
		}
		unescaped := unescape(text)
		if unescaped == text {
			break
		}
		text = unescaped
	}
	if layers == 0 {
		return nothingSecret
	}
	for _, squeezed := range forms {
		if found := findInBase64(squeezed, layers-1); found != nothingSecret {
			return found
		}
	}
	return nothingSecret
}

// findInBase64 looks into whatever may be base64. What stands in front of it
// without a gap, or a beginning that was cut off, moves where its groups of
// four begin: each of the four is tried.
func findInBase64(text string, layers int) disguised {
	for _, run := range base64Run.FindAllString(text, -1) {
		run = strings.NewReplacer("+", "-", "/", "_").Replace(run)
		for offset := range 4 {
			part := run[offset:]
			part = part[:len(part)/4*4]
			decoded, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil || !mostlyText(decoded) {
				continue
			}
			if found := findInLayers(string(decoded), layers); found != nothingSecret {
				return found
			}
		}
	}
	return nothingSecret
}

// mostlyText keeps what only happens to look like base64 from being searched.
func mostlyText(b []byte) bool {
	odd := 0
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c > '~' {
			odd++
		}
	}
	return odd*4 < len(b)
}

// fold undoes what makes a text look the same and be another: full-width and
// other compatibility forms, invisible characters, dashes and colons of every
// kind.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !Visible(r):
			return -1
		case unicode.Is(unicode.Pd, r), r == '\u2212': // minus
			return '-'
		case strings.ContainsRune("\u02d0\u02f8\u05c3\u2236\ua789", r):
			return ':'
		}
		return r
	}, norm.NFKC.String(text))
}

// squeeze leaves out spaces, quotes and backslashes.
func squeeze(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || strings.ContainsRune("\"'`\\‘’“”", r) {
			return -1
		}
		return r
	}, text)
}

// unescape takes one layer of %3A, \u003a, \x3a, =3A and &#58; off.
func unescape(text string) string {
	return byteEscape.ReplaceAllStringFunc(html.UnescapeString(text), func(escape string) string {
		b, err := strconv.ParseUint(escape[len(escape)-2:], 16, 8)
		if err != nil {
			return escape
		}
		return string([]byte{byte(b)})
	})
}
