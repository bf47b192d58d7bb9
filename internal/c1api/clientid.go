// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// maxClientIDLength is far above what C1 makes (about 50 characters).
const maxClientIDLength = 512

const maxHostLabel = 63 // RFC 1035, 2.3.4

var (
	hostLabel   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	clientIDUse = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
)

// ParseClientID splits "<name>@<host>/<use>"; host may carry a port. The use
// is not limited to the ones that C1 documents (pcc, spc, wfe). An error names
// what is missing or wrong.
func ParseClientID(id string) (name, host, use string, err error) {
	const form = "it reads <name>@<host>/<use>, e.g. strange-hydra-68836@acme.conductor.one/pcc"
	switch {
	case id == "":
		return "", "", "", errors.New("the client ID is empty: " + form)
	case len(id) > maxClientIDLength:
		return "", "", "", fmt.Errorf("the client ID is longer than %d characters", maxClientIDLength)
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", "", "", errors.New("the client ID holds a space, a control character or one outside ASCII")
	}
	name, rest, found := strings.Cut(id, "@")
	if !found {
		return "", "", "", errors.New("the client ID has no host (no @): " + form)
	}
	if name == "" || strings.Contains(name, "/") {
		return "", "", "", errors.New("the client ID has no name before its @: " + form)
	}
	host, use, found = strings.Cut(rest, "/")
	if host == "" {
		return "", "", "", errors.New("the client ID has no host after its @: " + form)
	}
	if !found || use == "" {
		return "", "", "", errors.New("the client ID has no use (no /pcc or the like at its end): " + form)
	}
	if err := checkHost(host); err != nil {
		return "", "", "", fmt.Errorf("the client ID's %w", err)
	}
	if !clientIDUse.MatchString(use) {
		return "", "", "", errors.New("the client ID's use (what follows the /) must be one word: " + form)
	}
	return name, host, use, nil
}

// URLFromClientID derives the tenant's https://host[:port] from a client ID.
// Its errors are ParseClientID's.
func URLFromClientID(clientID string) (string, error) {
	_, host, _, err := ParseClientID(clientID)
	if err != nil {
		return "", err
	}
	return "https://" + strings.ToLower(host), nil
}

// checkHost takes a DNS name or an IP address, with a port or without.
func checkHost(hostport string) error {
	host := hostport
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
		h, port, err := net.SplitHostPort(hostport)
		if err != nil {
			return errors.New("host is not a host with a port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("port is not a number from 1 to 65535")
		}
		host = h
		if strings.HasPrefix(hostport, "[") {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return errors.New("host is not an IPv6 address")
		}
		return nil
	}
	if len(host) > 253 {
		return errors.New("host is longer than a DNS name may be")
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) > maxHostLabel || !hostLabel.MatchString(label) {
			return errors.New("host is not a valid DNS name")
		}
	}
	return nil
}
