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
	const asJSON, decoys = "application/json", "/api/v1/decoys"
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
		"form content type":      {http.MethodPost, rotatePath, "application/x-www-form-urlencoded", good, 415},
		"no JSON":                {http.MethodPost, rotatePath, asJSON, "{", 400},
		"null":                   {http.MethodPost, rotatePath, asJSON, "null", 400},
		"a list":                 {http.MethodPost, rotatePath, asJSON, "[]", 400},
		"two objects":            {http.MethodPost, rotatePath, asJSON, good + good, 400},
		"unknown field":          {http.MethodPost, rotatePath, asJSON, strings.Replace(good, "{", `{"x":1,`, 1), 400},
		"wrong case":             {http.MethodPost, rotatePath, asJSON, strings.Replace(good, "appId", "appid", 1), 400},
		"wrong type":             {http.MethodPost, rotatePath, asJSON, `{"appId":1,"connectorId":"x"}`, 400},
		"missing field":          {http.MethodPost, rotatePath, asJSON, `{"appId":"x"}`, 400},
		"empty field":            {http.MethodPost, rotatePath, asJSON, `{"appId":"x","connectorId":""}`, 400},
		"huge body":              {http.MethodPost, rotatePath, asJSON, `{"appId":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		"unknown query":          {http.MethodPost, rotatePath + "?force=1", asJSON, good, 400},
		"rotate decoy, no body":  {http.MethodPost, decoy + "/rotate", asJSON, "", 400},
		"rotate decoy, a field":  {http.MethodPost, decoy + "/rotate", asJSON, `{"id":"x"}`, 400},
		"revoke, no body":        {http.MethodDelete, credential, asJSON, "", 400},
		"revoke, a field":        {http.MethodDelete, credential, asJSON, `{"force":true}`, 400},
		"body with a GET":        {http.MethodGet, decoy, asJSON, "{}", 400},
		"wrong method":           {http.MethodPut, decoy, asJSON, "{}", 405},
		"GET where POST belongs": {http.MethodGet, rotatePath, "", "", 405},
		"unknown path":           {http.MethodGet, "/api/v1/secrets", "", "", 404},
		"empty ID":               {http.MethodGet, decoys + "/", "", "", 404},
		"dots in the path":       {http.MethodGet, decoys + "/../decoys", "", "", 404},
		"delete decoy, no body":  {http.MethodDelete, decoy, asJSON, "", 400},
		"delete decoy, a field":  {http.MethodDelete, decoy, asJSON, `{"x":1}`, 400},
		"create without kind":    {http.MethodPost, decoys, asJSON, `{"displayName":"x"}`, 400},
		"create with two kinds":  {http.MethodPost, decoys, asJSON, `{"displayName":"x","connectorClient":{},` + user + `}`, 400},
		"create without name":    {http.MethodPost, decoys, asJSON, `{` + user + `}`, 400},
		"create for nobody":      {http.MethodPost, decoys, asJSON, `{"displayName":"x","userClientCredential":{"userId":"x"}}`, 404},
		"create, unknown field":  {http.MethodPost, decoys, asJSON, `{"displayName":"x","connectorClient":{"x":1}}`, 400},
		"create, no object":      {http.MethodPost, decoys, asJSON, `{"displayName":"x","workloadFed":"x"}`, 400},
		"create, bad duration":   {http.MethodPost, decoys, asJSON, `{"displayName":"x","accessToken":{"subjectUserId":"` + f.User() + `","expiresIn":"1h"}}`, 400},
		"token for nobody":       {http.MethodPost, decoys, asJSON, `{"displayName":"x","accessToken":{"subjectUserId":"x"}}`, 404},
		"patch without mask":     {http.MethodPatch, decoy, asJSON, patch("{}", ""), 400},
		"patch of the kind":      {http.MethodPatch, decoy, asJSON, patch(`{}`, "kind"), 400},
		"patch, unknown field":   {http.MethodPatch, decoy, asJSON, patch(`{"kind":"x"}`, "disabled"), 400},
		"patch without decoy":    {http.MethodPatch, decoy, asJSON, `{"updateMask":"disabled"}`, 400},
		"patch of another":       {http.MethodPatch, decoy, asJSON, patch(`{"id":"x"}`, "disabled"), 400},
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
