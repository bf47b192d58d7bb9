// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

var (
	pathLine      = regexp.MustCompile(`^  (/\S+):$`)
	methodLine    = regexp.MustCompile(`^    (get|post|put|patch|delete):$`)
	operationLine = regexp.MustCompile(`^      operationId: (\w+)$`)
)

// The router and the description name the same operations, at the same paths.
func TestRouterAndDescriptionHaveTheSameOperations(t *testing.T) {
	t.Parallel()
	var described, routed, named []string
	var path, method string
	for line := range strings.Lines(string(c1test.OpenAPI())) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case pathLine.MatchString(line):
			path = pathLine.FindStringSubmatch(line)[1]
		case methodLine.MatchString(line):
			method = strings.ToUpper(methodLine.FindStringSubmatch(line)[1])
		case operationLine.MatchString(line):
			described = append(described, operationLine.FindStringSubmatch(line)[1]+" "+method+" "+path)
		}
	}
	for _, r := range c1test.Routes() {
		routed = append(routed, r.Op+" "+r.Method+" "+r.Path)
		named = append(named, r.Op)
	}
	require.ElementsMatch(t, routed, described)
	require.ElementsMatch(t, c1test.Operations(), named)
}
