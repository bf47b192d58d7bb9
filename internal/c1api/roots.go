// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// parseRoots adds the certificates in pemText to the system's, so that an own
// CA in front of C1 (a proxy that inspects TLS, an emulator) does not switch
// the public ones off, unless they alone are to be trusted. It returns nil, the
// system's roots, for an empty text, which cannot be trusted alone.
func parseRoots(pemText string, only bool) (*x509.CertPool, error) {
	switch {
	case strings.TrimSpace(pemText) != "":
	case only:
		return nil, errors.New("the certificates in ca_cert alone are to be trusted, but there are none")
	default:
		return nil, nil
	}
	lastRoots.mu.Lock()
	defer lastRoots.mu.Unlock()
	if lastRoots.pool == nil || lastRoots.pem != pemText || lastRoots.only != only {
		pool, err := newRoots(pemText, only)
		if err != nil {
			return nil, err
		}
		lastRoots.pem, lastRoots.only, lastRoots.pool = pemText, only, pool
	}
	return lastRoots.pool, nil
}

// lastRoots are shared by the clients of a process: mounts mostly trust the same
// authority, and the system's roots take 40 kB each time.
var lastRoots struct {
	mu   sync.Mutex
	pem  string
	only bool
	pool *x509.CertPool
}

// The lines around a PEM block, also where dashes of them are missing: a block
// that is broken there must not pass for text around the blocks.
var (
	pemBegin = regexp.MustCompile(`-{2,}[ \t]*BEGIN[ \t]`)
	pemEnd   = regexp.MustCompile(`-{2,}[ \t]*END[ \t]`)
)

// newRoots is every certificate in pemText, with the system's roots unless these
// are left out. Text around the blocks is ignored.
func newRoots(pemText string, only bool) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !only {
		if system, err := x509.SystemCertPool(); err == nil { // a system without roots still has ours
			pool = system
		}
	}
	begins := pemBegin.FindAllStringIndex(pemText, -1)
	if len(begins) == 0 {
		return nil, errors.New("ca_cert holds no certificate: give PEM, from -----BEGIN CERTIFICATE----- to its END line")
	}
	if pemEnd.MatchString(pemText[:begins[0][0]]) {
		return nil, errors.New("certificate 1 of ca_cert is broken: its BEGIN line is missing")
	}
	for i, begin := range begins {
		end := len(pemText)
		if i+1 < len(begins) {
			end = begins[i+1][0]
		}
		cert, err := parseBlock(pemText[begin[0]:end])
		if err != nil {
			return nil, fmt.Errorf("certificate %d of ca_cert %w", i+1, err)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// parseBlock reads the certificate in a text that begins with one PEM block.
func parseBlock(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("is broken: a whole PEM block has a BEGIN line, base64 and an END line, none of them indented")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("is a private key: leave it out, and replace the key if others may have seen it")
	case block.Type != "CERTIFICATE":
		return nil, errors.New("is a PEM block of another kind: only CERTIFICATE will do")
	case pemEnd.Match(rest):
		return nil, errors.New("is followed by one that is broken: its BEGIN line is missing")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("cannot be parsed: is it whole?")
	}
	return cert, nil
}
