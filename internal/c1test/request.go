// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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
	rq.route, rq.ids, _ = findRoute(r.Method, r.URL)
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
		var in rotateConnectorRequest
		_ = json.Unmarshal(rq.body, &in) // a bad body names nothing
		objects = append(objects, in.AppID, in.ConnectorID)
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
		return rq.ids["decoy"]
	case OpRotateConnector:
		var in rotateConnectorRequest
		_ = json.Unmarshal(rq.body, &in)
		return in.ConnectorID
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

// checkShape refuses what no correct client of this operation sends: wrong
// content types, unknown query parameters, missing or superfluous bodies.
func (rq *request) checkShape() (answer, bool) {
	for name := range rq.URL.Query() {
		if !slices.Contains(rq.route.query, name) {
			return badRequest("unknown query parameter %q", name), false
		}
	}
	if len(rq.body) > maxBody {
		return fail(http.StatusRequestEntityTooLarge, codeInvalidArgument, "the request body is too long"), false
	}
	want := rq.route.contentType
	if want == "" {
		if len(rq.body) > 0 {
			return badRequest("%s takes no request body", rq.route.op), false
		}
		return answer{}, true
	}
	got, _, err := mime.ParseMediaType(rq.Header.Get("Content-Type"))
	if err != nil || got != want {
		return fail(http.StatusUnsupportedMediaType, codeInvalidArgument, "the content type must be %s", want), false
	}
	if len(rq.body) == 0 {
		return badRequest("the request body is missing"), false
	}
	return answer{}, true
}

// decodeStrict reads one JSON object into out. Unlike encoding/json it knows
// field names by their exact case, and it refuses unknown fields and anything
// behind the object.
func decodeStrict(data []byte, out any, fields ...string) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return fmt.Errorf("the request body must be one JSON object")
	}
	for name := range object {
		if !slices.Contains(fields, name) {
			return fmt.Errorf("unknown field %q", name)
		}
	}
	if out == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("the request body does not fit: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
