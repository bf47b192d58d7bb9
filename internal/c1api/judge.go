// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// The gRPC codes that this client looks at.
const (
	grpcNotFound = 5
	grpcMaxCode  = 16
)

// judge turns an answer into the body of a success or into a failure.
func (c *Client) judge(ctx context.Context, k call, a answer, t *token) ([]byte, *failure) {
	switch {
	case errors.Is(a.err, errRejected):
		return nil, &failure{err: c.breaker.refusal()}
	case a.err != nil:
		return nil, c.judgeSilence(ctx, k, a)
	case isSuccess(a.status):
		return a.body, nil
	default:
		return nil, c.judgeStatus(k, a, t)
	}
}

// judgeSilence is for a request that got no answer, or half of one.
func (c *Client) judgeSilence(ctx context.Context, k call, a answer) *failure {
	e := &Error{Reason: ReasonNotSent, StatusCode: a.status, Message: describe(a.err, c.timeout), Err: ctx.Err()}
	again := true
	if a.sent {
		e.Reason = k.lost()
		again = k.effect != onceOnly && !errors.Is(a.err, errAnswerTooLong)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Message = "the caller gave up before C1 answered"
	}
	return &failure{err: e, again: again}
}

// judgeStatus is for every status but 2xx.
func (c *Client) judgeStatus(k call, a answer, t *token) *failure {
	e := c.errorFrom(a.status, a.header, a.body, append(c.tokens.secrets(), t.value))
	if e.Message == "" {
		e.Message = "no reason in C1's own form"
	}
	f := &failure{err: e}
	switch status := a.status; {
	case status == http.StatusUnauthorized:
		e.Reason = ReasonIdentity
		e.Message = join(e.Message, c.whyUnauthorized(challengeIn(a.header), t))
	case status == http.StatusForbidden:
		e.Reason = ReasonForbidden
		e.Message = join(e.Message, k.hint)
	case status == http.StatusNotFound:
		e.Reason = ReasonNotFound
		e.Message = join(e.Message, k.hint)
	case status == http.StatusTooManyRequests:
		e.Reason, f.again = ReasonRateLimited, true
		c.pause.extend(k.about(), e.RetryAfter)
	case asksToWait(status, a.header):
		e.Reason, f.again = ReasonUnavailable, true
		c.pause.extend(k.about(), e.RetryAfter)
	case status >= 400 && status <= 499 && status != http.StatusRequestTimeout,
		status == http.StatusNotImplemented && k.effect != onceOnly:
		e.Reason = ReasonRejected
	case status < 400:
		e.Reason = k.lost()
		e.Message = "a redirect or the like, which is not followed: does the URL name a C1 tenant?"
	default: // 5xx, and 408, which a proxy may say after it passed the request on
		e.Reason, f.again = k.lost(), k.effect != onceOnly
	}
	return f
}

// whyUnauthorized says what a 401 means that no new token and no nonce has healed.
func (c *Client) whyUnauthorized(asks challenge, t *token) string {
	switch {
	case t.static && asks.wantsProofs():
		return "C1 wants DPoP proofs, which cannot be made for an access token that was issued to somebody else: give a client ID with its secret"
	case t.static:
		return "the configured access token is wrong, expired or revoked"
	case t.bound && asks.nonce != "":
		return "C1 asked again for another nonce in the DPoP proof"
	case t.bound && asks.code == errorBadProof:
		return join("even with a new DPoP proof", c.clock.skew())
	default:
		return "even with a new access token"
	}
}

// about is what a request to wait concerns: the path, and where all objects share one,
// as connectors do to rotate, the object that the body names.
func (k call) about() string {
	switch {
	case k.path == introspectPath:
		return wholeIdentity
	case k.effect == onceOnly:
		return k.path + " " + string(k.body)
	default:
		return k.path
	}
}

// lost is the reason of a request that went out and was not answered as it
// should have been. Reading changes nothing, so there it is no unknown outcome.
func (k call) lost() Reason {
	if k.effect == reading {
		return ReasonUnavailable
	}
	return ReasonUnknown
}

// errorFrom reads what an answer says about its failure. Only C1's own error
// form {"code": 5, "message": "...", "details": []}, whose code is one of gRPC's,
// is quoted, cut and cleaned: proxies like to put the HTTP status there.
func (c *Client) errorFrom(status int, h http.Header, body []byte, secrets []string) *Error {
	e := &Error{StatusCode: status}
	e.RetryAfter, _ = retryAfter(h, c.clock.c1Now())
	var form struct {
		Code    *int    `json:"code"`
		Message *string `json:"message"`
	}
	if json.Unmarshal(body, &form) == nil && form.Code != nil && form.Message != nil &&
		*form.Code >= 0 && *form.Code <= grpcMaxCode {
		e.FromC1, e.Code, e.Message = true, *form.Code, clean(*form.Message, secrets)
	}
	return e
}

// join puts two half sentences together, either of which may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " (" + b + ")"
}

// describe says in our own words why no answer came: the errors of net/http
// may quote what the other side sent.
func describe(err error, timeout time.Duration) string {
	var (
		dns      *net.DNSError
		op       *net.OpError
		record   tls.RecordHeaderError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		alert    tls.AlertError
		proxy    *proxyError
		timedOut net.Error
	)
	switch {
	case errors.Is(err, errAnswerTooLong):
		return errAnswerTooLong.Error()
	case errors.As(err, &dns):
		return "the name " + clean(dns.Name, nil) + " cannot be resolved"
	case errors.As(err, &unknown):
		return "TLS: C1's certificate is signed by an authority that is not trusted here (is a CA missing in the config?)"
	case errors.As(err, &hostname):
		return "TLS: C1's certificate is for a host other than " + clean(hostname.Host, nil)
	case errors.As(err, &invalid):
		return "TLS: C1's certificate is expired or not fit for use"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "TLS: the other side does not speak TLS"
	case errors.As(err, &alert):
		return "TLS: the other side refused the handshake"
	case errors.As(err, &proxy):
		return proxy.Error()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy cannot be reached"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Sprintf("no answer in time (at most %s)", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection ended before the whole answer had arrived"
	case errors.As(err, &op):
		return "the connection failed (" + clean(op.Op, nil) + ")"
	default:
		return "the connection failed, or what came back is not HTTP"
	}
}
