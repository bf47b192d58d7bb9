// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"slices"
)

func adminNewConnector(t *Tenant, r *http.Request) (any, error) {
	var in struct {
		AppID       string `json:"app_id"`
		DisplayName string `json:"display_name"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if in.AppID == "" {
		return t.NewConnector(in.DisplayName), nil
	}
	return t.NewConnectorOf(in.AppID, in.DisplayName), nil
}

func adminRotateConnector(t *Tenant, r *http.Request) (any, error) {
	var ref ConnectorRef
	if err := readOrder(r, &ref); err != nil {
		return nil, err
	}
	minted := t.RotateConnector(ref)
	if minted.ID == "" {
		return nil, errNoSuch
	}
	return minted, nil
}

func adminDeleteConnector(t *Tenant, r *http.Request) (any, error) {
	var ref ConnectorRef
	if err := readOrder(r, &ref); err != nil {
		return nil, err
	}
	if !t.DeleteConnector(ref) {
		return nil, errNoSuch
	}
	return done, nil
}

func adminRevokeCredential(t *Tenant, r *http.Request) (any, error) {
	if !t.RevokeCredential(r.PathValue("id")) {
		return nil, errNoSuch
	}
	return done, nil
}

func adminNewDecoy(t *Tenant, r *http.Request) (any, error) {
	var in struct {
		Kind        Kind              `json:"kind"`
		DisplayName string            `json:"display_name"`
		Annotations map[string]string `json:"annotations"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	if !slices.Contains(Kinds(), in.Kind) {
		return nil, errNoSuch
	}
	if err := checkAnnotations(in.Annotations, in.Annotations); err != nil {
		return nil, err
	}
	return map[string]string{"decoy_id": t.NewDecoy(in.Kind, in.DisplayName, in.Annotations)}, nil
}

func adminRotateDecoy(t *Tenant, r *http.Request) (any, error) {
	id := r.PathValue("id")
	if !t.hasDecoy(id) {
		return nil, errNoSuch
	}
	return map[string]string{"fingerprint": t.RotateDecoy(id)}, nil
}

func adminExposeDecoy(t *Tenant, r *http.Request) (any, error) {
	var in struct {
		Fingerprint string `json:"fingerprint"`
	}
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	finding := t.ExposeDecoy(r.PathValue("id"), in.Fingerprint)
	if finding == "" {
		return nil, errNoSuch
	}
	return map[string]string{"finding_id": finding}, nil
}

func adminDeleteDecoy(t *Tenant, r *http.Request) (any, error) {
	id := r.PathValue("id")
	if !t.hasDecoy(id) {
		return nil, errNoSuch
	}
	t.DeleteDecoy(id)
	return done, nil
}

func (t *Tenant) hasDecoy(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.liveDecoy(id) != nil
}
