// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// Values of material_type.
const (
	materialClientCredential   = "client_credential"
	materialAccessToken        = "access_token"
	materialWorkloadFederation = "workload_federation"
)

// textFields are the vended fields of a target that are text. The form of a decoy's
// material is one of the values of material_type, or "" for any of them.
func textFields(k target.Kind, form string) []string {
	if k == target.Connector {
		return []string{
			"client_id", "client_secret", "app_id", "connector_id", "credential_id", "display_name", "created_at", "expires_at", "fingerprint_sha256",
		}
	}
	var fields []string
	for _, of := range []struct {
		form   string
		fields []string
	}{
		{materialClientCredential, []string{"client_id", "client_secret"}},
		{materialAccessToken, []string{"access_token"}},
		{materialWorkloadFederation, []string{"workload_federation_trust_id"}},
	} {
		if form == "" || form == of.form {
			fields = append(fields, of.fields...)
		}
	}
	return append(fields, "decoy_id", "kind", "display_name", "material_type", "fingerprint_sha256")
}

// materialTypeOf is the material_type of a kind of decoy, "" if C1 has learned a new
// kind.
func materialTypeOf(kind c1api.DecoyKind) string {
	switch kind {
	case c1api.DecoyKindUserClientCredential, c1api.DecoyKindConnectorClient:
		return materialClientCredential
	case c1api.DecoyKindAccessToken:
		return materialAccessToken
	case c1api.DecoyKindWorkloadFederation:
		return materialWorkloadFederation
	default:
		return ""
	}
}

// material is what C1 shows once, in the form in which it is vended.
type material struct {
	CredentialID string
	ClientID     string
	ExpiresAt    time.Time
	Fingerprint  string // of the secret we hold; "" when there is none
	Mismatch     string // how it differs from what C1 shows; "" when it does not
	Warnings     []string
	Data         map[string]any // the vended fields but for the version
	Decoy        *c1api.Decoy   // as C1 shows it beside the material; may be nil

	lease    leaseTimes // of a leased rotation
	identity *config    // that is to be stored, of the mount's identity
}

// Format implements fmt.Formatter: without the secret, whatever the verb.
func (m material) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "material{%s %s}", m.CredentialID, m.ClientID) // as fmt itself, there is nobody to tell
}

// connectorMaterial puts C1's answer in the form in which it is vended.
func connectorMaterial(ref target.Ref, c *c1api.ConnectorCredential) *material {
	fingerprint := target.Fingerprint(c.ClientSecret)
	return &material{
		CredentialID: c.ID,
		ClientID:     c.ClientID,
		ExpiresAt:    c.ExpiresAt,
		Fingerprint:  fingerprint,
		Warnings:     c.Warnings,
		Data: map[string]any{
			"app_id":             ref.AppID,
			"connector_id":       ref.ConnectorID,
			"credential_id":      c.ID,
			"client_id":          c.ClientID,
			"client_secret":      c.ClientSecret,
			"display_name":       c.DisplayName,
			"created_at":         rfc3339(c.CreatedAt),
			"expires_at":         rfc3339(c.ExpiresAt),
			"fingerprint_sha256": fingerprint,
		},
	}
}

// decoyMaterial puts C1's answer in the form in which it is vended, and checks
// the secret against the fingerprint that C1 shows beside it.
func decoyMaterial(ref target.Ref, decoy *c1api.Decoy, m *c1api.DecoyMaterial) *material {
	shown := decoy
	if decoy == nil {
		decoy = &c1api.Decoy{}
	}
	fingerprint := target.Fingerprint(m.Secret())
	out := &material{
		Fingerprint: fingerprint,
		Warnings:    append(slices.Clone(m.Warnings), decoy.Warnings...),
		Decoy:       shown,
		Data: map[string]any{
			"decoy_id":           ref.DecoyID,
			"kind":               string(decoy.Kind),
			"display_name":       decoy.DisplayName,
			"annotations":        nonNil(decoy.Annotations),
			"fingerprint_sha256": fingerprint,
		},
	}
	switch {
	case m.ClientCredential != nil:
		out.ClientID = m.ClientCredential.ClientID
		maps.Copy(out.Data, map[string]any{
			"material_type": materialClientCredential,
			"client_id":     m.ClientCredential.ClientID,
			"client_secret": m.ClientCredential.ClientSecret,
		})
	case m.AccessToken != nil:
		maps.Copy(out.Data, map[string]any{
			"material_type": materialAccessToken,
			"access_token":  m.AccessToken.AccessToken,
		})
	default:
		maps.Copy(out.Data, map[string]any{
			"material_type":                materialWorkloadFederation,
			"workload_federation_trust_id": m.WorkloadFederation.TrustID,
		})
	}
	if target.Differs(decoy.FingerprintSHA256, fingerprint) {
		out.Mismatch = fmt.Sprintf("C1 shows the fingerprint %s for this decoy, the vended secret has %s: a finding would not match this copy", clip(decoy.FingerprintSHA256, 64), fingerprint)
		out.Warnings = append(out.Warnings, out.Mismatch)
	}
	return out
}
