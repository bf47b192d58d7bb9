// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"net/http"
	"regexp"
	"strings"
)

// challengePart is a scheme in WWW-Authenticate, or a parameter of one with its value
// (RFC 9110, section 11.6.1).
var challengePart = regexp.MustCompile(`([A-Za-z0-9!#$%&'*+.^_|~` + "`" + `-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s",]*))?`)

// challenge is what a 401 says about DPoP.
type challenge struct {
	offered bool   // DPoP is a way to authenticate there
	bearer  bool   // so is a bearer token
	code    string // the error beside DPoP, "" for none
	nonce   string // for the proof of the next request, when its lack is the error
}

// challengeIn reads WWW-Authenticate and DPoP-Nonce (RFC 9449, sections 7.1 and 9).
func challengeIn(h http.Header) challenge {
	var c challenge
	scheme := ""
	for _, line := range h.Values("WWW-Authenticate") {
		for _, part := range challengePart.FindAllStringSubmatch(line, -1) {
			name, value := part[1], strings.Trim(part[2], `"`)
			switch {
			case part[2] == "":
				scheme = name
				c.offered = c.offered || strings.EqualFold(scheme, dpopScheme)
				c.bearer = c.bearer || strings.EqualFold(scheme, "Bearer")
			case strings.EqualFold(scheme, dpopScheme) && strings.EqualFold(name, "error") && c.code == "":
				c.code = value
			}
		}
	}
	if c.code == errorNonce {
		c.nonce = nonceIn(h)
	}
	return c
}

// wantsProofs reports whether a token without proofs was refused for the lack of them.
// A server that takes both kinds offers DPoP with every refusal.
func (c challenge) wantsProofs() bool {
	return c.code == errorBadProof || c.code == errorNonce || c.offered && !c.bearer
}
