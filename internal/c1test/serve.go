// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serve is one request's way through the emulator: count it, apply the faults
// that come before acting, check the caller, act, apply the faults that come
// after.
func (t *Tenant) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPath) {
		t.admin.ServeHTTP(w, r)
		return
	}
	if !t.emulator.enter() {
		panic(http.ErrAbortHandler)
	}
	defer t.emulator.running.Done()

	rq, err := readRequest(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the caller hung up before it had asked
	}
	fault := t.arrive(rq)
	defer t.leave(rq)

	if !t.sleep(fault.Delay) {
		panic(http.ErrAbortHandler)
	}
	rq.now = t.now().Add(fault.ClockOffset)
	w.Header().Set("Date", rq.now.UTC().Format(http.TimeFormat))
	if t.refuse(w, fault) {
		return
	}
	if a, ok := t.authorize(rq); !ok {
		write(w, a)
		return
	}
	if fault.CommitLate != nil {
		t.commitLate(rq, fault.CommitLate)
		panic(http.ErrAbortHandler)
	}
	if !t.wait(rq, BeforeCommit) {
		panic(http.ErrAbortHandler)
	}
	a := t.act(rq)
	if !t.wait(rq, AfterCommit) {
		panic(http.ErrAbortHandler)
	}
	t.writeFaulty(w, a, fault)
}

// arrive counts the request and says which faults hit it.
func (t *Tenant) arrive(rq *request) Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests[rq.op()]++
	if object := rq.rotates(); object != "" {
		t.inFlight[object]++
		t.maxInFlight[object] = max(t.maxInFlight[object], t.inFlight[object])
	}
	return t.faultFor(rq)
}

// leave runs before the answer's last bytes are flushed, so that a caller who
// waits for its answer is never counted twice.
func (t *Tenant) leave(rq *request) {
	if object := rq.rotates(); object != "" {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.inFlight[object]--
	}
}

// sleep waits in real time, and reports whether the emulator is still open.
func (t *Tenant) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.emulator.done:
		return false
	case <-timer.C:
		return true
	}
}

// refuse applies the faults that keep C1 from acting.
func (t *Tenant) refuse(w http.ResponseWriter, f Fault) bool {
	switch {
	case f.DropBefore:
		panic(http.ErrAbortHandler)
	case f.Redirect != "":
		w.Header().Set("Location", f.Redirect)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	case f.Status != 0:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		if f.Body == "" {
			write(w, fail(f.Status, codeFor(f.Status), "the emulator was told to answer %d", f.Status))
			return true
		}
		writeRaw(w, f.Status, f.Body)
		return true
	default:
		return false
	}
}

// act performs the operation; what it changed stays changed whatever happens
// to the answer.
func (t *Tenant) act(rq *request) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return rq.route.handle(t, rq)
}

// commitLate performs the operation when the gate opens, long after its caller
// was cut off.
func (t *Tenant) commitLate(rq *request, gate <-chan struct{}) {
	if !t.emulator.enter() {
		return
	}
	go func() {
		defer t.emulator.running.Done()
		select {
		case <-gate:
			t.act(rq)
		case <-t.emulator.done:
		}
	}()
}

// writeFaulty sends the answer as far as the fault lets it.
func (t *Tenant) writeFaulty(w http.ResponseWriter, a answer, f Fault) {
	a = f.alter(a)
	switch {
	case f.DropAfter:
		panic(http.ErrAbortHandler)
	case f.StatusAfter != 0:
		body := f.Body
		if body == "" {
			body = "<html><body><h1>" + http.StatusText(f.StatusAfter) + "</h1></body></html>\n"
		}
		writeRaw(w, f.StatusAfter, body)
	case f.Garbage:
		w.Header().Set("Content-Type", typeJSON)
		_, _ = io.WriteString(w, "\x00\xff{\"credential\": nonsense")
	case f.EmptyAnswer:
		w.WriteHeader(http.StatusOK)
	case f.Endless:
		t.writeEndless(w)
	case f.Truncate:
		body := a.encode()
		w.Header().Set("Content-Type", typeJSON)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		write(w, a)
	}
}

// writeEndless sends a JSON string that never ends, until the caller hangs up
// or the emulator closes.
func (t *Tenant) writeEndless(w http.ResponseWriter) {
	w.Header().Set("Content-Type", typeJSON)
	chunk := strings.Repeat("a", 64<<10)
	_, err := io.WriteString(w, `{"displayName":"`)
	for err == nil {
		select {
		case <-t.emulator.done:
			return
		default:
			_, err = io.WriteString(w, chunk)
		}
	}
}

func write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", typeJSON)
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	body := a.encode()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // the caller may have hung up
}

// writeRaw sends a body that is not C1's own, as a proxy in between would.
func writeRaw(w http.ResponseWriter, httpStatus int, body string) {
	contentType := "text/html; charset=utf-8"
	if json.Valid([]byte(body)) {
		contentType = typeJSON
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(httpStatus)
	_, _ = io.WriteString(w, body)
}
