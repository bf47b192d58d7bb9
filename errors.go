// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"net/http"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// statusOutcomeUnknown tells a caller that C1 may have rotated. It is a status
// that Vault's Go clients do not retry by themselves (they retry 412, 429 and
// 5xx), since a retry rotates again.
const statusOutcomeUnknown = http.StatusConflict

// userError is an error that a caller can act on, with the HTTP status that
// Vault answers.
type userError struct {
	status  int
	message string
	cause   error // what C1 said, if that was it
	// recorded: the target's state says so as well, and when it is tried again.
	recorded bool
}

func (e *userError) Error() string { return e.message }

func (e *userError) Unwrap() error { return e.cause }

// because notes the cause of an error, for those who decide by it.
func (e *userError) because(cause error) *userError {
	e.cause = cause
	return e
}

// inState notes that the target's state says so as well.
func (e *userError) inState() *userError {
	e.recorded = true
	return e
}

// refuse is the answer to bad input: 400, and nothing was changed.
func refuse(format string, args ...any) error {
	return failWith(http.StatusBadRequest, format, args...)
}

func failWith(status int, format string, args ...any) *userError {
	return &userError{status: status, message: fmt.Sprintf(format, args...)}
}

func errStopping() error {
	return failWith(http.StatusBadGateway, "nothing was sent to C1: the plugin is stopping; try again")
}

// fromC1 turns a failed call to C1 into the answer of the engine's error table.
func fromC1(err error) *userError { return answerTo(err).because(err) }

func answerTo(err error) *userError {
	e := c1api.AsError(err)
	if e == nil {
		return failWith(statusOutcomeUnknown, "%s", err)
	}
	switch e.Reason {
	case c1api.ReasonNotFound, c1api.ReasonRejected:
		return failWith(http.StatusBadRequest, "%s", e)
	case c1api.ReasonIdentity:
		return failWith(http.StatusBadGateway, "C1 refuses this mount's identity: %s; check config", e)
	case c1api.ReasonForbidden:
		return failWith(http.StatusBadGateway, "C1 does not let the mount's identity do this: %s; give it the right at C1, or use another identity in config", e)
	case c1api.ReasonRateLimited:
		return failWith(http.StatusTooManyRequests, "C1 is rate limiting: %s; %s", e, tryAgainIn(e.RetryAfter))
	case c1api.ReasonUnavailable:
		return failWith(http.StatusBadGateway, "C1 is not available: %s; %s", e, tryAgainIn(e.RetryAfter))
	case c1api.ReasonNotSent:
		return failWith(http.StatusBadGateway, "nothing was sent to C1: %s", e)
	default:
		return failWith(statusOutcomeUnknown, "%s", e)
	}
}

func tryAgainIn(d time.Duration) string {
	if d <= 0 {
		return "try again later"
	}
	return fmt.Sprintf("try again in %s", d.Round(time.Second))
}
