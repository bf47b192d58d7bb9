// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxAnswerBytes       = 1 << 20
	maxAnswerHeaderBytes = 64 << 10
)

var errAnswerTooLong = errors.New("the answer is longer than 1 MiB")

// newTransport builds the transport of one client. Nil roots are the system's.
//
// net/http re-sends some requests by itself, and a rotate must not be one of
// them. HTTP/1 re-sends a POST only when no byte of it was written or when it
// carries an Idempotency-Key header, which no request of ours does. HTTP/2 also
// re-sends after RST_STREAM with PROTOCOL_ERROR, when the server may have
// acted, but only a body that GetBody can produce anew: newRequest takes
// GetBody from whatever must not arrive twice.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return &proxyError{status: res.StatusCode}
			}
			return nil
		},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: maxAnswerHeaderBytes,
		// Shorter than the idle timeout of common load balancers: a rotate
		// that meets a connection closed at the other end has no known outcome.
		IdleConnTimeout: 30 * time.Second,
		// A connection that died silently is found by a ping, not by a rotate.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// proxyError is a proxy's refusal of our CONNECT, without the proxy's words.
type proxyError struct{ status int }

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy answered %d %s", e.status, http.StatusText(e.status))
}

// Exchange is one request to C1 that is over, as whoever counts them sees it.
type Exchange struct {
	Operation string        // one of Operations
	Status    int           // 0 without an answer
	Took      time.Duration // until the headers of the answer
}

// opToken is the operation of a token request, which is no call of the API.
const opToken = "token"

// Operations are what requests can be about: the first word of a call's op.
var Operations = []string{opToken, "introspect", "get", "list", "rotate", "revoke", "create", "update"}

// operationKey is the key of a call's op in the context of its request.
type operationKey struct{}

// operationOf is what a request is about.
func operationOf(ctx context.Context) string {
	if op, ok := ctx.Value(operationKey{}).(string); ok {
		verb, _, _ := strings.Cut(op, " ")
		return verb
	}
	return opToken
}

// observer adds the User-Agent to every request, those of x/oauth2 included,
// and learns from every answer: the time on C1's clock, the nonce of the next proof,
// and that C1 is there. It tells whoever counts requests of each.
type observer struct {
	client *Client
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(req *http.Request) (*http.Response, error) {
	c := o.client
	if c.userAgent != "" {
		req = req.Clone(req.Context()) // a RoundTripper must not change its request
		req.Header.Set("User-Agent", c.userAgent)
	}
	start := time.Now()
	res, err := o.next.RoundTrip(req)
	over := Exchange{Operation: operationOf(req.Context()), Took: time.Since(start)}
	if err == nil {
		over.Status = res.StatusCode
	}
	if c.observe != nil {
		c.observe(over)
	}
	if err != nil {
		return nil, err
	}
	c.clock.learn(res.Header)
	c.proofs.learn(serverAt(req.URL.Path), res.Header)
	if res.StatusCode < http.StatusInternalServerError {
		c.lastAnswer.Store(&lastAnswer{at: c.clock.now(), latency: over.Took})
	}
	return res, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (o *observer) CloseIdleConnections() {
	if t, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// sendTrace finds out whether a failed request may have left this machine.
type sendTrace struct {
	asked, connected, wrote atomic.Bool
}

// attach makes ctx report to the trace.
func (s *sendTrace) attach(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { s.asked.Store(true) },
		GotConn:      func(httptrace.GotConnInfo) { s.connected.Store(true) },
		WroteHeaders: func() { s.wrote.Store(true) },
	})
}

// mayHaveSent reports whether the request may have left. Without a connection
// (DNS, dial, proxy or TLS failed) it has not. With one, it has not while its
// headers were not written out; that is certain only when the request was not
// cancelled, since net/http then returns without waiting for its writer. A
// transport that runs no hooks proves nothing.
func (s *sendTrace) mayHaveSent(ctx context.Context) bool {
	if !s.asked.Load() && !s.connected.Load() {
		return true
	}
	return s.connected.Load() && (s.wrote.Load() || ctx.Err() != nil)
}

// readBounded reads a body of at most maxAnswerBytes.
func readBounded(body io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, maxAnswerBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAnswerBytes {
		return nil, errAnswerTooLong
	}
	return b, nil
}
