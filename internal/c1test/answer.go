// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// answer is what a handler wants to send.
type answer struct {
	status int
	header map[string]string
	body   any // marshalled as JSON
}

func ok200(body any) answer { return answer{status: http.StatusOK, body: body} }

// Codes of gRPC, which C1's error form carries beside the HTTP status.
const (
	codeInvalidArgument  = 3
	codeNotFound         = 5
	codePermissionDenied = 7
	codeInternal         = 13
	codeUnavailable      = 14
	codeUnauthenticated  = 16
	codeResourceExceeded = 8
	codeFailedCondition  = 9
)

// status is the error form of gRPC gateways, which is C1's.
type status struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Details []any  `json:"details"`
}

func fail(httpStatus, code int, format string, args ...any) answer {
	return answer{
		status: httpStatus,
		body:   status{Code: code, Message: fmt.Sprintf(format, args...), Details: []any{}},
	}
}

func badRequest(format string, args ...any) answer {
	return fail(http.StatusBadRequest, codeInvalidArgument, format, args...)
}

func notFound(what string) answer {
	return fail(http.StatusNotFound, codeNotFound, "%s not found", what)
}

// noRoute is what C1's router says to an unknown path or method, and to one of
// a feature that is off.
func noRoute() answer { return fail(http.StatusNotFound, codeNotFound, "Not Found") }

func unauthenticated() answer {
	a := fail(http.StatusUnauthorized, codeUnauthenticated, "the access token is missing, expired or unknown")
	a.header = map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}
	return a
}

// codeFor returns the gRPC code that a gateway pairs with an HTTP status.
func codeFor(httpStatus int) int {
	switch httpStatus {
	case http.StatusBadRequest:
		return codeInvalidArgument
	case http.StatusUnauthorized:
		return codeUnauthenticated
	case http.StatusForbidden:
		return codePermissionDenied
	case http.StatusNotFound:
		return codeNotFound
	case http.StatusConflict:
		return codeFailedCondition
	case http.StatusTooManyRequests:
		return codeResourceExceeded
	case http.StatusServiceUnavailable:
		return codeUnavailable
	default:
		return codeInternal
	}
}

// oauthError is the error form of the token endpoint (RFC 6749, 5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func oauthFail(httpStatus int, code, description string) answer {
	return answer{
		status: httpStatus,
		header: map[string]string{"Cache-Control": "no-store"},
		body:   oauthError{Code: code, Description: description},
	}
}

// inGRPCForm turns a refusal in OAuth's form into C1's usual one.
func (a answer) inGRPCForm() answer {
	refusal, isOAuth := a.body.(oauthError)
	if !isOAuth {
		return a
	}
	in := fail(a.status, codeFor(a.status), "%s: %s", refusal.Code, refusal.Description)
	in.header = a.header // a nonce is needed in either form
	return in
}

// encode returns the JSON of the answer's body.
func (a answer) encode() []byte {
	encoded, err := json.Marshal(a.body)
	if err != nil {
		panic(fmt.Sprintf("an answer of the emulator does not marshal: %v", err)) // a bug here
	}
	return encoded
}
