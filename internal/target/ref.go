// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package target is the state of one connector or decoy, and how it changes. It
// is pure: it reads no clock, calls nobody and stores nothing. Next says what is
// to be done and when; each transition takes what has happened and returns the
// next state. What a state points to is never changed, so states may share it.
package target

import (
	"errors"
	"net/url"
)

// Kind is what a binding points at.
type Kind string

// The kinds.
const (
	Connector Kind = "connector"
	Decoy     Kind = "decoy"
)

// Ref names one connector or decoy at C1.
type Ref struct {
	Kind        Kind   `json:"kind"`
	AppID       string `json:"app_id,omitempty"`
	ConnectorID string `json:"connector_id,omitempty"`
	DecoyID     string `json:"decoy_id,omitempty"`
}

// Key is <kind>/<id>, and unique: IDs hold no comma and no slash.
func (r Ref) Key() string {
	if r.Kind == Decoy {
		return string(Decoy) + "/" + url.PathEscape(r.DecoyID)
	}
	return string(Connector) + "/" + url.PathEscape(r.AppID) + "," + url.PathEscape(r.ConnectorID)
}

// Check says what is wrong with a reference that comes from storage or a lease.
func (r Ref) Check() error {
	decoy := r.Kind == Decoy && r.DecoyID != ""
	connector := r.Kind == Connector && r.AppID != "" && r.ConnectorID != ""
	if !decoy && !connector {
		return errors.New("it names no target")
	}
	return nil
}

// String names the target for a person.
func (r Ref) String() string {
	if r.Kind == Decoy {
		return "decoy " + r.DecoyID
	}
	return "connector " + r.ConnectorID + " of app " + r.AppID
}
