// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Reason says what went wrong with a call in the terms a caller decides by.
type Reason string

const (
	// ReasonNotSent: nothing left this machine (no token, no connection, the
	// breaker is open, no turn in the rate limit, or so late a turn that the
	// answer to a call that must not be repeated could hardly come in time); C1
	// did nothing.
	ReasonNotSent Reason = "not_sent"
	// ReasonIdentity: C1 refused the mount's own identity (401, or the token
	// endpoint's refusal).
	ReasonIdentity Reason = "identity_refused"
	// ReasonForbidden: the identity is good but lacks the right (403).
	ReasonForbidden Reason = "forbidden"
	// ReasonNotFound: 404. C1 answers an unknown route, and a feature that is
	// switched off, like an object that is not there: by itself it proves nothing
	// (see Existence).
	ReasonNotFound Reason = "not_found"
	// ReasonRejected: C1 refused the request (400, 405, 409 and other 4xx, and 501
	// to a call that may be repeated).
	ReasonRejected Reason = "rejected"
	// ReasonRateLimited: 429, still after the retries, or not sent because an
	// earlier 429's Retry-After is not over.
	ReasonRateLimited Reason = "rate_limited"
	// ReasonUnavailable: 503 with Retry-After, still after the retries, by which
	// C1 says that it did nothing; or a call that only reads was not answered
	// as it should have been, which changes nothing either.
	ReasonUnavailable Reason = "unavailable"
	// ReasonUnknown: a request that changes something went out and a timeout, a
	// reset, any other 5xx, a redirect or an answer that does not hold what it
	// must came back: C1 may or may not have acted.
	ReasonUnknown Reason = "outcome_unknown"
)

// Error is what every call of this package returns when it fails. It never
// holds a secret, a token or an upstream body: Message is C1's own message
// field, cut and cleaned, or this package's words.
type Error struct {
	Op         string        // the call, e.g. "rotate decoy"
	Reason     Reason        // what a caller decides by
	StatusCode int           // HTTP status, 0 when there was no answer
	Code       int           // gRPC code in C1's error form, 0 when absent
	FromC1     bool          // the answer had C1's own error form
	Message    string        // one line for a person
	RetryAfter time.Duration // C1's Retry-After (or the breaker's), 0 when unknown
	Err        error         // the cause, safe to print, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, "C1 answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))
		if e.Message != "" {
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Message)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// AsError returns the *Error in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// IsReason reports whether err is an *Error with this reason.
func IsReason(err error, reason Reason) bool {
	e := AsError(err)
	return e != nil && e.Reason == reason
}

// OutcomeUnknown reports whether C1 may have acted although the call failed.
// An error that is not this package's own counts as unknown.
func OutcomeUnknown(err error) bool {
	if err == nil {
		return false
	}
	e := AsError(err)
	return e == nil || e.Reason == ReasonUnknown
}
