// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"errors"
	"net/http"
	"time"
)

// settings is the order to change how the tenant behaves; what it does not
// name stays.
type settings struct {
	Semantics     *Semantics     `json:"semantics"`
	Revoked       *RevokedAnswer `json:"revoked"`
	TokenErrors   *TokenErrors   `json:"token_errors"`
	Connectors    *bool          `json:"connectors"`
	Decoys        *bool          `json:"decoys"`
	Findings      *bool          `json:"findings"`
	CredentialTTL *string        `json:"credential_ttl"`
	Down          *bool          `json:"down"`
	UpAfter       string         `json:"up_after"`
	DPoPWindow    string         `json:"dpop_window"`
	DPoPNonces    *struct {
		Token bool `json:"token"`
		API   bool `json:"api"`
	} `json:"dpop_nonces"`
}

func adminSettings(t *Tenant, r *http.Request) (any, error) {
	var in settings
	if err := readOrder(r, &in); err != nil {
		return nil, err
	}
	upAfter, err := readDuration("up_after", in.UpAfter)
	credentialTTL := time.Duration(0)
	if in.CredentialTTL != nil {
		var ttlErr error
		credentialTTL, ttlErr = readDuration("credential_ttl", *in.CredentialTTL)
		err = errors.Join(err, ttlErr)
	}
	window, windowErr := readDuration("dpop_window", in.DPoPWindow)
	if err = errors.Join(err, windowErr, in.check()); err != nil {
		return nil, err
	}
	in.apply(t)
	if window > 0 {
		t.SetDPoPWindow(window)
	}
	if in.CredentialTTL != nil {
		t.SetCredentialTTL(credentialTTL)
	}
	if in.Down != nil {
		t.orderDown(r, *in.Down, upAfter)
	}
	return done, nil
}

func (in settings) check() error {
	var errs []error
	if in.Semantics != nil {
		errs = append(errs, in.Semantics.check())
	}
	if in.Revoked != nil {
		errs = append(errs, in.Revoked.check())
	}
	if in.TokenErrors != nil {
		errs = append(errs, in.TokenErrors.check())
	}
	return errors.Join(errs...)
}

func (in settings) apply(t *Tenant) {
	if in.Semantics != nil {
		t.SetSemantics(*in.Semantics)
	}
	if in.Revoked != nil {
		t.SetRevokedAnswer(*in.Revoked)
	}
	if in.TokenErrors != nil {
		t.SetTokenErrors(*in.TokenErrors)
	}
	if in.DPoPNonces != nil {
		t.SetDPoPNonces(in.DPoPNonces.Token, in.DPoPNonces.API)
	}
	for f, on := range map[Feature]*bool{
		FeatureConnectors: in.Connectors, FeatureDecoys: in.Decoys, FeatureFindings: in.Findings,
	} {
		if on != nil {
			t.SetFeature(f, *on)
		}
	}
}

// orderDown changes the port once the order was answered, which may have come
// by this very port.
func (t *Tenant) orderDown(r *http.Request, down bool, upAfter time.Duration) {
	if !t.emulator.enter() {
		return
	}
	go func() {
		defer t.emulator.running.Done()
		<-r.Context().Done() // the handler returned
		_ = t.setDown(down)
		if down && upAfter > 0 && t.sleep(upAfter) {
			_ = t.setDown(false)
		}
	}()
}
