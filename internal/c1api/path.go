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
	switch {
	case id == "":
		return errors.New("an ID is empty")
	case len(id) > maxIDLength:
		return fmt.Errorf("an ID is longer than %d characters", maxIDLength)
	case strings.Trim(id, ".") == "" && len(id) <= 2:
		return errors.New("an ID is . or .., a step in a path")
	default:
		return nil
	}
}

// unsendable is the error for arguments that are never sent.
func unsendable(op string, err error) *Error {
	return &Error{Op: op, Reason: ReasonNotSent, Message: err.Error(), Err: err}
}
