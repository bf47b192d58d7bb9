// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestBadRequestsAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	f.RotateConnector(f.Connector())
	before := len(f.Journal())
	const asJSON, asForm, decoys = "application/json", "application/x-www-form-urlencoded", "/api/v1/decoys"
	good := rotateBody(f.Connector())
	decoy := decoys + "/" + f.Decoy(c1test.KindAccessToken)
	credential := credentialPath(f.Connector(), f.AliveCredentials(f.Connector())[0].ID)
	user := `"userClientCredential":{"userId":"` + f.User() + `"}`
	patch := func(decoy, mask string) string { return `{"decoy":` + decoy + `,"updateMask":"` + mask + `"}` }

	for name, test := range map[string]struct {
		method, path, contentType, body string
		status                          int
	}{
		"no body":                {http.MethodPost, rotatePath, asJSON, "", 400},
		"no content type":        {http.MethodPost, rotatePath, "", good, 415},
		"form content type":      {http.MethodPost, rotatePath, asForm, good, 415},
		"no JSON":                {http.MethodPost, rotatePath, asJSON, "{", 400},
		"null":                   {http.MethodPost, rotatePath, asJSON, "null", 400},
		"a list":                 {http.MethodPost, rotatePath, asJSON, "[]", 400},
		"two objects":            {http.MethodPost, rotatePath, asJSON, good + good, 400},
		"wrong case":             {http.MethodPost, rotatePath, asJSON, strings.Replace(good, "appId", "appid", 1), 400},
		"wrong type":             {http.MethodPost, rotatePath, asJSON, `{"appId":1,"connectorId":"x"}`, 400},
		"missing field":          {http.MethodPost, rotatePath, asJSON, `{"appId":"x"}`, 400},
		"empty field":            {http.MethodPost, rotatePath, asJSON, `{"appId":"x","connectorId":""}`, 400},
		"huge body":              {http.MethodPost, rotatePath, asJSON, `{"appId":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		"revoke, no object":      {http.MethodPost, credential, asJSON, "[]", 400},
		"revoke, no JSON":        {http.MethodPost, credential, asJSON, "force", 400},
		"revoke as a form":       {http.MethodPost, credential, asForm, "force=1", 415},
		"rotate decoy, no JSON":  {http.MethodPost, decoy + "/rotate", asJSON, "{", 400},
		"delete decoy, null":     {http.MethodDelete, decoy, asJSON, "null", 400},
		"search, no object":      {http.MethodPost, decoys + "/search", asJSON, `"x"`, 400},
		"findings, wrong type":   {http.MethodPost, "/api/v1/findings/search", asJSON, `{"decoyIds":"x"}`, 400},
		"findings, unknown type": {http.MethodPost, "/api/v1/findings/search", asJSON, `{"findingTypes":["x"]}`, 400},
		"findings, wrong page":   {http.MethodPost, "/api/v1/findings/search", asJSON, `{"pageSize":1.5}`, 400},
		"create without kind":    {http.MethodPost, decoys, asJSON, `{"displayName":"x"}`, 400},
		"create with two kinds":  {http.MethodPost, decoys, asJSON, `{"displayName":"x","connectorClient":{},` + user + `}`, 400},
		"create without name":    {http.MethodPost, decoys, asJSON, `{` + user + `}`, 400},
		"create for nobody":      {http.MethodPost, decoys, asJSON, `{"displayName":"x","userClientCredential":{"userId":"x"}}`, 404},
		"create, no object":      {http.MethodPost, decoys, asJSON, `{"displayName":"x","workloadFed":"x"}`, 400},
		"trust of no provider":   {http.MethodPost, decoys, asJSON, `{"displayName":"x","workloadFed":{"servicePrincipalUserId":"` + f.User() + `"}}`, 400},
		"trust of no user":       {http.MethodPost, decoys, asJSON, `{"displayName":"x","workloadFed":{"providerId":"p"}}`, 400},
		"create for no user":     {http.MethodPost, decoys, asJSON, `{"displayName":"x","userClientCredential":{}}`, 400},
		"kinds that are null":    {http.MethodPost, decoys, asJSON, `{"displayName":"x","connectorClient":null}`, 400},
		"create, bad duration":   {http.MethodPost, decoys, asJSON, `{"displayName":"x","accessToken":{"subjectUserId":"` + f.User() + `","expiresIn":"1h"}}`, 400},
		"token for nobody":       {http.MethodPost, decoys, asJSON, `{"displayName":"x","accessToken":{"subjectUserId":"x"}}`, 404},
		"patch without mask":     {http.MethodPatch, decoy, asJSON, patch("{}", ""), 400},
		"patch of the kind":      {http.MethodPatch, decoy, asJSON, patch(`{}`, "kind"), 400},
		"patch without decoy":    {http.MethodPatch, decoy, asJSON, `{"updateMask":"disabled"}`, 400},
		"patch of a null":        {http.MethodPatch, decoy, asJSON, patch("null", "disabled"), 400},
		"patch, wrong type":      {http.MethodPatch, decoy, asJSON, patch(`{"disabled":"yes"}`, "disabled"), 400},
	} {
		header := map[string]string{"Authorization": "Bearer " + f.StaticToken()}
		if test.contentType != "" {
			header["Content-Type"] = test.contentType
		}
		answer, err := f.do(t, test.method, test.path, test.body, header)
		require.NoError(t, err, name)
		assert.Equal(t, test.status, answer.status, name)
		assert.Equal(t, "application/json", answer.header.Get("Content-Type"), name)
		code, message := answer.failure(t)
		assert.Positive(t, code, name)
		assert.NotEmpty(t, message, name)
	}
	require.Len(t, f.Journal(), before)
}

// C1's gateway ignores what it does not know, and takes a body or none where it
// reads nothing from it.
func TestWhatC1IgnoresIsIgnored(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	decoy := "/api/v1/decoys/" + f.Decoy(c1test.KindAccessToken)
	good := rotateBody(f.Connector())
	for name, test := range map[string]struct{ method, path, contentType, body string }{
		"unknown field":         {http.MethodPost, rotatePath, "application/json; charset=utf-8", strings.Replace(good, "{", `{"x":1,"appid":2,`, 1)},
		"unknown query":         {http.MethodPost, rotatePath + "?force=1", "application/json", good},
		"rotate, no body":       {http.MethodPost, decoy + "/rotate", "", ""},
		"rotate, only a type":   {http.MethodPost, decoy + "/rotate", "application/json", ""},
		"rotate, another type":  {http.MethodPost, decoy + "/rotate", "text/plain", ""},
		"rotate, empty object":  {http.MethodPost, decoy + "/rotate", "application/json", "{}"},
		"rotate, a field":       {http.MethodPost, decoy + "/rotate", "application/json", `{"id":"x"}`},
		"body with a GET":       {http.MethodGet, decoy, "text/plain", "x"},
		"search, no body":       {http.MethodPost, "/api/v1/decoys/search", "", ""},
		"findings, no body":     {http.MethodPost, "/api/v1/findings/search", "", ""},
		"patch, server's field": {http.MethodPatch, decoy, "application/json", `{"decoy":{"id":"x","kind":"x","lastUsedAt":null},"updateMask":"description"}`},
		"create, unknown field": {http.MethodPost, "/api/v1/decoys", "application/json", `{"displayName":"x","connectorClient":{"x":1}}`},
		"delete, no body":       {http.MethodDelete, "/api/v1/decoys/" + f.Decoy(c1test.KindConnectorClient), "", ""},
		"delete, a field":       {http.MethodDelete, "/api/v1/decoys/" + f.Decoy(c1test.KindWorkloadFederation), "application/json", `{"x":1}`},
		"revoke, no body":       {http.MethodPost, credentialPath(f.Connector(), f.RotateConnector(f.Connector()).ID), "", ""},
		"revoke, empty object":  {http.MethodPost, credentialPath(f.Connector(), f.RotateConnector(f.Connector()).ID), "application/json", "{}"},
		"revoke, a field":       {http.MethodPost, credentialPath(f.Connector(), f.RotateConnector(f.Connector()).ID), "application/json", `{"force":true}`},
	} {
		header := map[string]string{"Authorization": "Bearer " + f.StaticToken()}
		if test.contentType != "" {
			header["Content-Type"] = test.contentType
		}
		answer, err := f.do(t, test.method, test.path, test.body, header)
		require.NoError(t, err, name)
		assert.Equal(t, http.StatusOK, answer.status, "%s: %s", name, answer.body)
	}
}

// What C1's router does not know looks like a missing object: a 404 says
// nothing by itself.
func TestUnknownRoutesAndMethodsAreNotFoundInC1sForm(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	decoy := "/api/v1/decoys/" + f.Decoy(c1test.KindAccessToken)
	requests := map[string]bool{
		"GET /api/v1/secrets": true, "GET /": true, "PUT " + decoy: true, "POST " + decoy: true, "OPTIONS " + decoy: true,
		"GET /auth/v1/token": true, "GET " + rotatePath: true, "DELETE /api/v1/decoys": true,
		"GET /api/v1/decoys/": true, "GET /api/v1/decoys/../decoys": true, "GET /api/v1/decoys/x/y/z": true,
		"DELETE " + credentialPath(f.Connector(), f.RotateConnector(f.Connector()).ID): true,
	}
	for request := range requests {
		method, path, _ := strings.Cut(request, " ")
		for _, bearer := range []string{"", "Bearer " + f.StaticToken()} {
			answer, err := f.do(t, method, path, "", map[string]string{"Authorization": bearer})
			require.NoError(t, err, request)
			assert.Equal(t, http.StatusNotFound, answer.status, request)
			assert.Empty(t, answer.header.Get("Allow"), request)
			assert.JSONEq(t, `{"code":5,"message":"Not Found","details":[]}`, string(answer.body), request)
		}
	}
	require.Len(t, f.AliveCredentials(f.Connector()), 1)
	require.Equal(t, 2*len(requests), f.Requests("unknown"))
}

func TestBearerIsChecked(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	for name, header := range map[string]string{
		"none": "", "unknown": "Bearer x", "basic": "Basic eDp5", "no scheme": f.StaticToken(), "DPoP": "DPoP " + f.StaticToken(),
	} {
		answer, err := f.do(t, http.MethodPost, rotatePath, rotateBody(f.Connector()),
			map[string]string{"Authorization": header, "Content-Type": "application/json"})
		require.NoError(t, err, name)
		assert.Equal(t, http.StatusUnauthorized, answer.status, name)
		assert.NotEmpty(t, answer.header.Get("WWW-Authenticate"), name)
		code, _ := answer.failure(t)
		assert.Equal(t, 16, code, name)
	}
	require.Empty(t, f.AliveCredentials(f.Connector()))
}
