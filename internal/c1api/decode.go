// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// decode reads one JSON object; nulls and unknown fields are fine, anything
// after the object is not. The decoder's own error is not shown: it may quote
// the answer.
func (k call) decode(body []byte, into any) error {
	text := bytes.TrimSpace(body)
	switch {
	case len(text) == 0:
		return k.unusable("the answer is empty")
	case text[0] != '{' || json.Unmarshal(text, into) != nil:
		return k.unusable("the answer is not the JSON object that it must be")
	default:
		return nil
	}
}

// unusable is the error for a 2xx answer that does not hold what it must.
func (k call) unusable(message string) *Error {
	return &Error{Op: k.op, Reason: k.lost(), StatusCode: http.StatusOK, Message: message}
}
