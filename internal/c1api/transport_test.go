// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveTLS starts a real server and returns options that trust it.
func serveTLS(t testing.TB, handler http.HandlerFunc, edit ...func(*httptest.Server)) (*httptest.Server, Options) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, e := range edit {
		e(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, Options{
		URL: s.URL, AccessToken: "tok", RequestTimeout: 10 * time.Second,
		CACertPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	}
}

func open(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestRotateOverRealTLS(t *testing.T) {
	t.Parallel()
	var proto atomic.Value
	_, o := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		_, _ = io.WriteString(w, goodCredential)
	})
	c := open(t, o)
	cred, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.Equal(t, "cred1", cred.ID)
	require.Equal(t, "HTTP/2.0", proto.Load())
	h := c.Health()
	require.WithinDuration(t, time.Now(), h.LastSuccess, time.Minute)
	require.Positive(t, h.LastLatency)
	require.Equal(t, "closed", h.Breaker)
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	_, o := serveTLS(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	_, err := open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
	requireReason(t, err, ReasonNotSent)
	require.Zero(t, served.Load())
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, o := serveTLS(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		_, err := open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
		e := failedFor(t, err, ReasonUnknown)
		require.Contains(t, e.Message, "redirect")
		require.Equal(t, status, e.StatusCode)
	}
	require.Zero(t, followed.Load())
}

func TestEndlessAnswersAreCutOff(t *testing.T) {
	t.Parallel()
	endless := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			for chunk := strings.Repeat(" ", 1<<16); r.Context().Err() == nil; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}
	}
	_, o := serveTLS(t, endless(http.StatusOK))
	o.MaxRetries = 3
	_, err := open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
	e := failedFor(t, err, ReasonUnknown)
	require.Contains(t, e.Message, "longer than 1 MiB")
	_, err = open(t, o).Introspect(t.Context())
	requireReason(t, err, ReasonUnavailable)

	_, o = serveTLS(t, endless(http.StatusNotFound))
	_, err = open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
	e = failedFor(t, err, ReasonNotFound)
	require.False(t, e.FromC1)
}

func TestFailuresBeforeAnythingWasSent(t *testing.T) {
	t.Parallel()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	_, o := serveTLS(t, nil)
	for says, target := range map[string]string{
		"connection was refused":   "https://" + closed.Addr().String(),
		"does not speak TLS":       strings.Replace(plain.URL, "http:", "https:", 1),
		"is for a host other than": strings.Replace(o.URL, "127.0.0.1", "localhost", 1),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			o := o
			o.URL = target
			_, err := open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
			e := failedFor(t, err, ReasonNotSent)
			require.Contains(t, e.Message, says)
		})
	}
}

func TestFailuresAreDescribedWithoutTheOtherSidesWords(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"the name acme.invalid cannot be resolved":             &net.OpError{Op: "dial", Err: &net.DNSError{Name: "acme.invalid", Err: "hidden words"}},
		"TLS: C1's certificate is expired or not fit for use":  x509.CertificateInvalidError{Reason: x509.Expired, Detail: "hidden words"},
		"TLS: the other side refused the handshake":            tls.AlertError(42),
		"TLS: the other side does not speak TLS":               tls.RecordHeaderError{Msg: "hidden words"},
		"the connection failed (write)":                        &net.OpError{Op: "write", Err: errors.New("hidden words")},
		"no answer in time (at most 7s)":                       &url.Error{Op: "Post", URL: "/", Err: context.DeadlineExceeded},
		"the connection failed, or what came back is not HTTP": errors.New("malformed HTTP response: hidden words"),
	} {
		require.Equal(t, want, describe(err, 7*time.Second))
	}
}

func TestProxyIsUsedAndItsRefusalIsDefinite(t *testing.T) {
	t.Parallel()
	_, o := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, goodCredential) })
	var refuse atomic.Bool
	var connects atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		if refuse.Load() || r.Method != http.MethodConnect {
			http.Error(w, "hidden words of the proxy", http.StatusProxyAuthRequired)
			return
		}
		upstream, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(upstream, down); _ = upstream.Close() }()
		_, _ = io.Copy(down, upstream)
		_ = down.Close()
	}))
	t.Cleanup(proxy.Close)
	proxyURL, err := url.Parse(proxy.URL)
	require.NoError(t, err)

	// The environment is read once per process, hence a transport of ours with
	// only its proxy replaced.
	through := func() *Client {
		s, err := o.check()
		require.NoError(t, err)
		transport := newTransport(s.roots)
		require.NotNil(t, transport.Proxy)
		transport.Proxy = http.ProxyURL(proxyURL)
		o := o
		o.Transport = transport
		return open(t, o)
	}
	_, err = through().RotateConnectorCredential(t.Context(), "app", "conn")
	require.NoError(t, err)
	require.EqualValues(t, 1, connects.Load())

	refuse.Store(true)
	_, err = through().RotateConnectorCredential(t.Context(), "app", "conn")
	e := failedFor(t, err, ReasonNotSent)
	require.Equal(t, "the proxy answered 407 Proxy Authentication Required", e.Message)

	proxy.Close()
	_, err = through().RotateConnectorCredential(t.Context(), "app", "conn")
	require.Contains(t, failedFor(t, err, ReasonNotSent).Message, "the proxy cannot be reached")
}

// A server may close a kept-alive connection just as a rotate arrives on it.
// net/http sends many requests again then; a rotate it must not.
func TestRotateOnADyingConnectionIsSentOnce(t *testing.T) {
	t.Parallel()
	var rotates atomic.Int32
	_, o := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "{}")
			return
		}
		rotates.Add(1)
		_, _ = io.ReadAll(r.Body)
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	o.MaxRetries = 3
	c := open(t, o)
	_, err := c.Introspect(t.Context()) // so that the connection is a used one
	require.NoError(t, err)
	_, err = c.RotateConnectorCredential(t.Context(), "app", "conn")
	e := failedFor(t, err, ReasonUnknown)
	require.Contains(t, e.Message, "connection ended")
	require.EqualValues(t, 1, rotates.Load())
}

// HTTP/2's RST_STREAM with PROTOCOL_ERROR makes net/http send a request with a
// rewindable body again, though the server may have acted on it.
func TestRotateResetByAnHTTP2ServerIsSentOnce(t *testing.T) {
	t.Parallel()
	const (
		frameHeaders, frameReset, frameSettings = 1, 3, 4
		protocolError                           = 1
	)
	var requests atomic.Int32
	serve := func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // end of the test's connection
		frame := func(kind, flags byte, stream uint32, payload []byte) {
			head := []byte{0, 0, byte(len(payload)), kind, flags, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(head[5:], stream)
			_, _ = conn.Write(append(head, payload...))
		}
		r := bufio.NewReader(conn)
		if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		frame(frameSettings, 0, 0, nil)
		for head := make([]byte, 9); ; {
			if _, err := io.ReadFull(r, head); err != nil {
				return
			}
			length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
			if _, err := io.CopyN(io.Discard, r, length); err != nil {
				return
			}
			switch {
			case head[3] == frameSettings && head[4] == 0:
				frame(frameSettings, 1, 0, nil)
			case head[3] == frameHeaders:
				requests.Add(1)
				frame(frameReset, 0, binary.BigEndian.Uint32(head[5:]), []byte{0, 0, 0, protocolError})
			}
		}
	}
	_, o := serveTLS(t, nil, func(s *httptest.Server) {
		s.EnableHTTP2 = false
		s.TLS = &tls.Config{NextProtos: []string{"h2"}}
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) { serve(conn) },
		}
	})
	o.MaxRetries = 3
	_, err := open(t, o).RotateConnectorCredential(t.Context(), "app", "conn")
	requireReason(t, err, ReasonUnknown)
	require.EqualValues(t, 1, requests.Load())
}

func TestSendTraceNeedsEvidenceToSayNotSent(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		asked, connected, wrote bool
		ctx                     context.Context
		sent                    bool
	}{
		"no connection":                       {asked: true, ctx: t.Context()},
		"cancelled without a connection":      {asked: true, ctx: ended},
		"connected, headers never written":    {asked: true, connected: true, ctx: t.Context()},
		"cancelled while headers are written": {asked: true, connected: true, ctx: ended, sent: true},
		"written":                             {asked: true, connected: true, wrote: true, ctx: t.Context(), sent: true},
		"a transport without hooks":           {ctx: t.Context(), sent: true},
	} {
		var trace sendTrace
		trace.asked.Store(c.asked)
		trace.connected.Store(c.connected)
		trace.wrote.Store(c.wrote)
		require.Equal(t, c.sent, trace.mayHaveSent(c.ctx), name)
	}
	c, _ := newClient(t, nil, withBearer("tok"), func(o *Options) {
		o.Transport = roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("x") })
	})
	_, err := c.RotateConnectorCredential(t.Context(), "app", "conn")
	requireReason(t, err, ReasonUnknown)
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// BenchmarkRotate is the hot path: one rotate of a client that has its token.
func BenchmarkRotate(b *testing.B) {
	_, o := serveTLS(b, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == tokenPath {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, tokenReply("tok", 3600).body)
			return
		}
		_, _ = io.WriteString(w, goodCredential)
	})
	secret, _ := newSecret(b)
	o.AccessToken, o.ClientID, o.ClientSecret = "", testClientID, secret
	c := open(b, o)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.RotateConnectorCredential(b.Context(), "app", "conn"); err != nil {
			b.Fatal(err)
		}
	}
}
