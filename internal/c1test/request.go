// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxBody bounds request bodies; C1's own calls take a few hundred bytes.
const maxBody = 1 << 20

// request is one API request as the handlers see it.
type request struct {
	*http.Request
	route  *route // nil when C1 has no such operation
	ids    map[string]string
	body   []byte
	now    time.Time // C1's clock for this request
	caller *identity // set once the bearer was checked
}

// readRequest takes the body in at once: the caller may be gone by the time
// the request is acted upon.
func readRequest(r *http.Request) (*request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the request body: %w", err)
	}
	rq := &request{Request: r, body: body}
	rq.route, rq.ids = findRoute(r.Method, r.URL)
	return rq, nil
}

func (rq *request) op() string {
	if rq.route == nil {
		return opUnknown
	}
	return rq.route.op
}

// matches says whether the request is of an operation ("" = any) and names an
// object ("" = any), for faults and barriers.
func (rq *request) matches(op, object string) bool {
	return (op == "" || op == rq.op()) && (object == "" || slices.Contains(rq.objects(), object))
}

// objects returns every ID that the request names, in its path or body.
func (rq *request) objects() []string {
	var objects []string
	for _, id := range rq.ids {
		objects = append(objects, id)
	}
	switch rq.op() {
	case OpRotateConnector:
		ref, _ := readRotateConnector(rq.body) // a bad body names nothing
		objects = append(objects, ref.AppID, ref.ConnectorID)
	case OpToken:
		form, _ := url.ParseQuery(string(rq.body))
		objects = append(objects, form.Get("client_id"))
	}
	return objects
}

// rotates returns the ID of what the request rotates, or "".
func (rq *request) rotates() string {
	switch rq.op() {
	case OpRotateDecoy:
		return rq.ids["id"]
	case OpRotateConnector:
		ref, _ := readRotateConnector(rq.body)
		return ref.ConnectorID
	default:
		return ""
	}
}

// sourceIP returns the address of the connection, which is all that the
// emulator believes.
func (rq *request) sourceIP() string {
	host, _, _ := net.SplitHostPort(rq.RemoteAddr)
	return host
}

// checkShape refuses what C1's gateway cannot read: a body that is too long,
// and one of another content type than the operation takes. A body where none
// belongs and unknown query parameters are ignored, as the gateway does.
func (rq *request) checkShape() (answer, bool) {
	if len(rq.body) > maxBody {
		return fail(http.StatusRequestEntityTooLarge, codeInvalidArgument, "the request body is too long"), false
	}
	if len(rq.body) == 0 || rq.Method == http.MethodGet {
		return answer{}, true
	}
	want := typeJSON
	if rq.route.op == OpToken {
		want = typeForm
	}
	got, _, err := mime.ParseMediaType(rq.Header.Get("Content-Type"))
	if err != nil || got != want {
		return fail(http.StatusUnsupportedMediaType, codeInvalidArgument, "the content type must be %s", want), false
	}
	return answer{}, true
}

// decode reads one JSON object into out, which may be nil; no body at all is
// an empty object. Like C1's gateway it ignores unknown fields; unlike
// encoding/json it knows fields by their exact case, so out's fields must be
// named.
func decode(data []byte, out any, fields ...string) error {
	if len(data) == 0 {
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return fmt.Errorf("the request body must be one JSON object")
	}
	if out == nil {
		return nil
	}
	maps.DeleteFunc(object, func(name string, _ json.RawMessage) bool { return !slices.Contains(fields, name) })
	known, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("the request body does not fit: %w", err)
	}
	if err := json.Unmarshal(known, out); err != nil {
		return fmt.Errorf("the request body does not fit: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
