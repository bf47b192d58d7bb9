// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
)

// offline is the port of a tenant that has none: requests reach it through
// Tenant.RoundTrip alone, so that a test may run in a bubble of testing/synctest,
// in which nothing may wait for a network.
type offline struct{ down atomic.Bool }

func (o *offline) start() error {
	o.down.Store(false)
	return nil
}

func (o *offline) stop() error {
	o.down.Store(true)
	return nil
}

func (o *offline) close() error { return o.stop() }

// RoundTrip implements http.RoundTripper: it hands a request to an offline
// tenant as a connection would, hooks of net/http/httptrace included.
func (t *Tenant) RoundTrip(r *http.Request) (*http.Response, error) {
	port, ok := t.server.(*offline)
	if !ok {
		return nil, errors.New("this tenant has a port: use it")
	}
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil {
		trace = &httptrace.ClientTrace{}
	}
	if trace.GetConn != nil {
		trace.GetConn(r.URL.Host)
	}
	if port.down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	if trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	// Like a server it goes on when the caller hangs up.
	served := r.Clone(context.WithoutCancel(r.Context()))
	served.Body, served.RequestURI, served.RemoteAddr = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI(), "192.0.2.1:1024"
	served.Host = r.URL.Host
	answer := make(chan *http.Response, 1)
	go func() {
		defer close(answer)
		defer func() { _ = recover() }() // http.ErrAbortHandler closes the connection
		w := httptest.NewRecorder()
		t.serve(w, served)
		answer <- w.Result()
	}()
	select {
	case res, ok := <-answer:
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		res.Request = r
		return res, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
