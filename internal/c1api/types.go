// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/json"
	"time"
)

// Connector is the part of a C1 connector that this project uses, from
// GET /api/v1/apps/{app_id}/connectors/{id}.
type Connector struct {
	ID          string `json:"id"`
	AppID       string `json:"appId"`
	DisplayName string `json:"displayName"`
}

// ConnectorCredential is what a connector logs in to C1 with. ClientSecret is
// set only in the answer that created the credential; every other field is
// optional on the wire, and a zero time means that C1 did not send one.
type ConnectorCredential struct {
	ID           string    `json:"id"`
	AppID        string    `json:"appId"`
	ConnectorID  string    `json:"connectorId"`
	DisplayName  string    `json:"displayName"`
	ClientID     string    `json:"clientId"`
	ClientSecret string    `json:"clientSecret"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
	DeletedAt    time.Time `json:"deletedAt"`
	ExpiresAt    time.Time `json:"expiresTime"`
	LastUsedAt   time.Time `json:"lastUsedAt"`
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

// Decoy is a honey-credential, from GET /api/v1/decoys/{id}. Null scalars on
// the wire read as zero values.
type Decoy struct {
	ID          string            `json:"id"`
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Kind        DecoyKind         `json:"kind"`
	Disabled    bool              `json:"disabled"`
	Annotations map[string]string `json:"annotations"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	LastUsedAt  time.Time         `json:"lastUsedAt"`

	// FingerprintSHA256 is the hex SHA-256 of the secret string that C1 vended
	// last; empty for workload-federation decoys, which have no secret.
	FingerprintSHA256 string `json:"materialFingerprintSha256"`
}

// DecoyMaterial is the one-time answer to creating or rotating a decoy:
// exactly one of its fields is set.
type DecoyMaterial struct {
	ClientCredential   *ClientCredentialMaterial   `json:"clientCredential,omitempty"`
	AccessToken        *AccessTokenMaterial        `json:"accessToken,omitempty"`
	WorkloadFederation *WorkloadFederationMaterial `json:"workloadFederation,omitempty"`
}

// ClientCredentialMaterial is vended by user-client-credential and
// connector-client decoys.
type ClientCredentialMaterial struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// AccessTokenMaterial is vended by access-token decoys.
type AccessTokenMaterial struct {
	AccessToken string `json:"accessToken"`
}

// WorkloadFederationMaterial is vended by workload-federation decoys. It holds
// no secret: the operator binds the trust at the identity provider.
type WorkloadFederationMaterial struct {
	TrustID string `json:"workloadFederationTrustId"`
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

// NewDecoy is the request to create a decoy: exactly one of the kinds is set.
type NewDecoy struct {
	DisplayName          string                        `json:"displayName"`
	Description          string                        `json:"description,omitempty"`
	Annotations          map[string]string             `json:"annotations,omitempty"`
	UserClientCredential *NewUserClientCredentialDecoy `json:"userClientCredential,omitempty"`
	ConnectorClient      *NewConnectorClientDecoy      `json:"connectorClient,omitempty"`
	WorkloadFederation   json.RawMessage               `json:"workloadFed,omitempty"`
	AccessToken          *NewAccessTokenDecoy          `json:"accessToken,omitempty"`
}

// NewUserClientCredentialDecoy asks for a decoy that looks like a user's
// personal client credential.
type NewUserClientCredentialDecoy struct {
	UserID string `json:"userId"`
}

// NewConnectorClientDecoy asks for a decoy that looks like a connector's.
type NewConnectorClientDecoy struct{}

// NewAccessTokenDecoy asks for a decoy that looks like an access token.
// ExpiresIn is a protobuf duration such as "3600s"; empty lets C1 choose.
type NewAccessTokenDecoy struct {
	SubjectUserID string `json:"subjectUserId"`
	ExpiresIn     string `json:"expiresIn,omitempty"`
}

// Introspection describes the caller, from GET /api/v1/auth/introspect.
type Introspection struct {
	UserID      string   `json:"userId"`
	PrincipalID string   `json:"principleId"` // C1's spelling
	Roles       []string `json:"roles"`
	Permissions []string `json:"permissions"`
	Features    []string `json:"features"`
}
