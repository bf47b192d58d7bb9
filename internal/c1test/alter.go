// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type absent struct{}

// Absent is the value in Fault.Set of a field to leave out.
var Absent any = absent{}

// alter changes an answer as the fault says; the state stays as it is.
func (f Fault) alter(a answer) answer {
	f.take(a)
	if len(f.Set) == 0 || a.status != http.StatusOK {
		return a
	}
	var object any
	if err := json.Unmarshal(a.encode(), &object); err != nil {
		panic(fmt.Sprintf("an answer of the emulator is no JSON: %v", err)) // a bug here
	}
	for _, path := range slices.Sorted(maps.Keys(f.Set)) { // objects before their fields
		object = set(object, strings.Split(path, "."), f.Set[path])
	}
	a.body = object
	return a
}

// set returns node with the value at a path of field names and list indexes.
// An index that the list does not have changes nothing.
func set(node any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	if list, isList := node.([]any); isList {
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(list) {
			list[i] = set(list[i], path[1:], value)
		}
		return list
	}
	object, isObject := node.(map[string]any)
	if !isObject {
		object = map[string]any{}
	}
	if len(path) == 1 && value == Absent {
		delete(object, path[0])
		return object
	}
	object[path[0]] = set(object[path[0]], path[1:], value)
	return object
}

// take takes out of an answer what the fault's flags name.
func (f Fault) take(a answer) {
	switch body := a.body.(type) {
	case *connectorCredentialAnswer:
		switch {
		case f.OmitMaterial:
			body.Credential = nil
		case f.OmitSecret:
			body.Credential.ClientSecret = ""
		}
	case *newServicePrincipalCredentialAnswer:
		switch {
		case f.OmitMaterial:
			body.Credential = nil
		case f.OmitSecret:
			body.ClientSecret = ""
		}
	case *newPersonalClientAnswer:
		switch {
		case f.OmitMaterial:
			body.Client = nil
		case f.OmitSecret:
			body.ClientSecret = ""
		}
	case *decoyAnswer:
		if f.WrongFingerprint {
			body.Decoy.Fingerprint = fingerprint("not the secret")
		}
	case *vendingAnswer:
		if f.WrongFingerprint {
			body.Decoy.Fingerprint = fingerprint("not the secret")
		}
		if f.OmitSecret {
			body.Material.omitSecret()
		}
		if f.OmitMaterial {
			body.Material = nil
		}
	}
}

func (m *materialJSON) omitSecret() {
	switch {
	case m.ClientCredential != nil:
		m.ClientCredential.ClientSecret = ""
	case m.AccessToken != nil:
		m.AccessToken.AccessToken = ""
	case m.WorkloadFederation != nil:
		m.WorkloadFederation.TrustID = ""
	}
}
