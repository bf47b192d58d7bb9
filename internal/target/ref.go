// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package target is the state of one connector or decoy, or of the mount's own
// identity, and how it changes. It is pure: it reads no clock, calls nobody and stores
// nothing. Next says what is to be done and when; each transition takes what has
// happened and returns the next state. What a state points to is never changed, so
// states may share it.
package target

import (
	"errors"
	"net/url"
)

// Kind is what is rotated.
type Kind string

// The kinds.
const (
	Connector Kind = "connector"
	Decoy     Kind = "decoy"
	Identity  Kind = "identity" // the mount's own credential
)

// Ref names one connector or decoy at C1, or the mount's identity, which has no ID
// that stays.
type Ref struct {
	Kind        Kind   `json:"kind"`
	AppID       string `json:"app_id,omitempty"`
	ConnectorID string `json:"connector_id,omitempty"`
	DecoyID     string `json:"decoy_id,omitempty"`
}

// Key is <kind>/<id>, and unique: IDs hold no comma and no slash.
func (r Ref) Key() string {
	switch r.Kind {
	case Identity:
		return string(Identity)
	case Decoy:
		return string(Decoy) + "/" + url.PathEscape(r.DecoyID)
	default:
		return string(Connector) + "/" + url.PathEscape(r.AppID) + "," + url.PathEscape(r.ConnectorID)
	}
}

// Check says what is wrong with a reference that comes from storage or a lease.
func (r Ref) Check() error {
	decoy := r.Kind == Decoy && r.DecoyID != ""
	connector := r.Kind == Connector && r.AppID != "" && r.ConnectorID != ""
	if !decoy && !connector && r != (Ref{Kind: Identity}) {
		return errors.New("it names no target")
	}
	return nil
}

// String names the target for a person.
func (r Ref) String() string {
	switch r.Kind {
	case Identity:
		return "the mount's identity"
	case Decoy:
		return "decoy " + r.DecoyID
	default:
		return "connector " + r.ConnectorID + " of app " + r.AppID
	}
}
