// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxIDLength is far above C1's IDs (27 characters).
const maxIDLength = 1024

// pathOf fills the IDs into a path with a %s for each, escaped so that none of
// them can name another path. An ID that is empty, overlong or a step in a path
// is an error.
func pathOf(format string, ids ...string) (string, error) {
	escaped := make([]any, len(ids))
	for i, id := range ids {
		if err := checkID(id); err != nil {
			return "", err
		}
		escaped[i] = url.PathEscape(id)
	}
	return fmt.Sprintf(format, escaped...), nil
}

func checkID(id string) error {
	if fault := idFault(id); fault != "" {
		return errors.New("an ID " + fault)
	}
	return nil
}

// idFault says why a path cannot hold an ID, "" when it can.
func idFault(id string) string {
	switch {
	case id == "":
		return "is empty"
	case len(id) > maxIDLength:
		return fmt.Sprintf("is longer than %d bytes", maxIDLength)
	case id == "." || id == "..":
		return "is . or .., a step in a path"
	case strings.ContainsFunc(id, func(r rune) bool { return r == ' ' || !Visible(r) }):
		return "holds a space, a control character or another that cannot be shown"
	default:
		return ""
	}
}

// unsendable is the error for arguments that are never sent.
func unsendable(op string, err error) *Error {
	return &Error{Op: op, Reason: ReasonNotSent, Message: err.Error(), Err: err}
}
