// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/paths"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// description is openapi.yaml with a validator for it.
type description struct {
	document  libopenapi.Document
	model     *v3.Document
	validator validator.Validator
	options   *config.ValidationOptions
}

func readDescription(t *testing.T) *description {
	t.Helper()
	document, err := libopenapi.NewDocument(c1test.OpenAPI())
	require.NoError(t, err)
	model, err := document.BuildV3Model()
	require.NoError(t, err)
	options := []config.Option{
		config.WithFormatAssertions(),
		config.WithURLEncodedBodyValidation(),
		config.WithRejectUndeclaredRequestBody(),
		config.WithRejectUnsupportedBodyContent(),
	}
	v, errs := validator.NewValidator(document, options...)
	require.Empty(t, errs)
	t.Cleanup(v.Release)
	return &description{
		document: document, model: &model.Model, validator: v,
		options: config.NewValidationOptions(options...),
	}
}

// operations returns the ID of every operation in the description.
func (d *description) operations() []string {
	var ids []string
	for item := range d.model.Paths.PathItems.ValuesFromOldest() {
		for operation := range item.GetOperations().ValuesFromOldest() {
			ids = append(ids, operation.OperationId)
		}
	}
	return ids
}

// operationOf returns the ID of the operation that a request calls.
func (d *description) operationOf(rq *http.Request) (string, error) {
	item, failures, _ := paths.FindPath(rq, d.model, d.options)
	if item == nil || len(failures) > 0 {
		return "", fmt.Errorf("%s %s is not in the description", rq.Method, rq.URL.Path)
	}
	operation, found := item.GetOperations().Get(strings.ToLower(rq.Method))
	if !found {
		return "", fmt.Errorf("%s %s is not in the description", rq.Method, rq.URL.Path)
	}
	return operation.OperationId, nil
}

// exchange names an operation and the class of the answer: 2 for 2xx.
type exchange struct {
	operation string
	class     int
}

// recorder validates every exchange that passes through it.
type recorder struct {
	description *description
	next        http.RoundTripper
	answersOnly bool // the requests are not the client's own

	mu       sync.Mutex
	seen     map[exchange]int
	problems []string
}

func newRecorder(d *description, next http.RoundTripper) *recorder {
	return &recorder{description: d, next: next, seen: map[exchange]int{}}
}

// RoundTrip sends the request on; what is wrong with it or with its answer
// goes to problems.
func (r *recorder) RoundTrip(rq *http.Request) (*http.Response, error) {
	var sent []byte
	if rq.Body != nil {
		var err error
		if sent, err = io.ReadAll(rq.Body); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		rq.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := r.next.RoundTrip(rq)
	if err != nil {
		return nil, err
	}
	received, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	r.check(rq, sent, response, received)
	response.Body = io.NopCloser(bytes.NewReader(received))
	return response, nil
}

func (r *recorder) check(rq *http.Request, sent []byte, response *http.Response, received []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := func() *http.Request {
		c := rq.Clone(rq.Context())
		c.Body = http.NoBody
		if len(sent) > 0 {
			c.Body = io.NopCloser(bytes.NewReader(sent))
		}
		return c
	}
	operation, err := r.description.operationOf(copied())
	if err != nil {
		r.problems = append(r.problems, err.Error())
		return
	}
	r.seen[exchange{operation: operation, class: response.StatusCode / 100}]++
	if !r.answersOnly {
		if problem := unpublished(rq, sent); problem != "" {
			r.problems = append(r.problems, operation+": "+problem)
		}
		_, failures := r.description.validator.ValidateHttpRequestSync(copied())
		r.report(operation, "request", failures)
	}
	answer := *response
	answer.Header = maps.Clone(response.Header)
	answer.Body = io.NopCloser(bytes.NewReader(received))
	_, failures := r.description.validator.ValidateHttpResponse(copied(), &answer)
	r.report(fmt.Sprintf("%s %d", operation, response.StatusCode), "answer", failures)
}

// report keeps reasons and places, never values: they may be secrets.
func (r *recorder) report(operation, what string, failures []*errors.ValidationError) {
	for _, failure := range failures {
		problem := fmt.Sprintf("%s: %s: %s", operation, what, failure.Message)
		for _, detail := range failure.SchemaValidationErrors {
			problem += "; at " + detail.KeywordLocation
		}
		r.problems = append(r.problems, problem)
	}
}

// found returns the problems so far.
func (r *recorder) found() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problems
}

// saw counts the exchanges of an operation with answers of a class.
func (r *recorder) saw(operation string, class int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[exchange{operation: operation, class: class}]
}
