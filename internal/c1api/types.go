// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import "time"

// Every text from C1 that is for people is one line of visible characters, cut
// to these numbers of them.
const (
	maxDisplayName = 256
	maxDescription = 1024
	maxKind        = 128
)

// Connector is the part of a C1 connector that this project uses, from
// GET /api/v1/apps/{app_id}/connectors/{id}.
type Connector struct {
	ID          string
	AppID       string
	DisplayName string
	DeletedAt   time.Time // zero when C1 sent none

	// Warnings says what of C1's answer was cut or left out, a sentence each;
	// never with a value.
	Warnings []string
}

// ConnectorCredential is what a connector logs in to C1 with. ClientSecret is
// set only in the answer that created the credential; every other field is
// optional on the wire, and a zero time means that C1 did not send one.
type ConnectorCredential struct {
	ID           string
	AppID        string
	ConnectorID  string
	DisplayName  string
	ClientID     string
	ClientSecret string `json:"-"`
	CreatedAt    time.Time
	UpdatedAt    time.Time
	DeletedAt    time.Time
	ExpiresAt    time.Time // C1's expiresTime
	LastUsedAt   time.Time
	Warnings     []string // as in Connector
}

// DecoyKind says what a decoy pretends to be. C1 adds kinds over time: take
// values that are not listed here.
type DecoyKind string

// The kinds that C1 documents.
const (
	DecoyKindUnspecified          DecoyKind = "DECOY_KIND_UNSPECIFIED"
	DecoyKindUserClientCredential DecoyKind = "DECOY_KIND_USER_CLIENT_CREDENTIAL"
	DecoyKindConnectorClient      DecoyKind = "DECOY_KIND_CONNECTOR_CLIENT"
	DecoyKindWorkloadFederation   DecoyKind = "DECOY_KIND_WORKLOAD_FEDERATION"
	DecoyKindAccessToken          DecoyKind = "DECOY_KIND_ACCESS_TOKEN"
)

// Decoy is a honey-credential, from GET /api/v1/decoys/{id}. What C1 did not
// set is zero.
type Decoy struct {
	ID          string
	DisplayName string
	Description string
	Kind        DecoyKind
	Disabled    bool
	Annotations map[string]string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	LastUsedAt  time.Time

	// FingerprintSHA256 is the SHA-256 of the secret string that C1 vended last,
	// in lower-case hex (C1's materialFingerprintSha256); empty for
	// workload-federation decoys, which have no secret.
	FingerprintSHA256 string

	Warnings []string // as in Connector
}

// DecoyMaterial is the one-time answer to rotating a decoy: exactly one of its
// three kinds is set.
type DecoyMaterial struct {
	ClientCredential   *ClientCredentialMaterial
	AccessToken        *AccessTokenMaterial
	WorkloadFederation *WorkloadFederationMaterial
	Warnings           []string // as in Connector; not those of the decoy beside it
}

// ClientCredentialMaterial is vended by user-client-credential and
// connector-client decoys.
type ClientCredentialMaterial struct {
	ClientID     string
	ClientSecret string `json:"-"`
}

// AccessTokenMaterial is vended by access-token decoys.
type AccessTokenMaterial struct {
	AccessToken string `json:"-"`
}

// WorkloadFederationMaterial is vended by workload-federation decoys. It holds
// no secret: the operator binds the trust at the identity provider.
type WorkloadFederationMaterial struct {
	TrustID string // C1's workloadFederationTrustId
}

// Secret returns the secret string of the material, or "" when it has none.
func (m *DecoyMaterial) Secret() string {
	switch {
	case m == nil:
		return ""
	case m.ClientCredential != nil:
		return m.ClientCredential.ClientSecret
	case m.AccessToken != nil:
		return m.AccessToken.AccessToken
	default:
		return ""
	}
}

// Introspection describes the caller, from GET /api/v1/auth/introspect.
type Introspection struct {
	UserID      string
	PrincipalID string // C1's principleId
	Roles       []string
	Permissions []string
	Features    []string
}
