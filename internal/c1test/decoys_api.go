// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"maps"
	"slices"
	"time"
)

// decoyJSON is C1's Decoy.
type decoyJSON struct {
	ID          string            `json:"id"`
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Kind        Kind              `json:"kind"`
	Disabled    bool              `json:"disabled"`
	Annotations map[string]string `json:"annotations"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	LastUsedAt  *time.Time        `json:"lastUsedAt"`
	Fingerprint string            `json:"materialFingerprintSha256"`
}

func (d *decoy) json() *decoyJSON {
	return &decoyJSON{
		ID: d.id, DisplayName: d.displayName, Description: d.description, Kind: d.kind, Disabled: d.disabled,
		Annotations: maps.Clone(d.annotations), CreatedAt: d.createdAt.UTC(), UpdatedAt: d.updatedAt.UTC(),
		LastUsedAt: timeOrNull(d.lastUsedAt), Fingerprint: d.current(),
	}
}

// materialJSON is C1's DecoyVendingMaterial: exactly one field is not null.
type materialJSON struct {
	ClientCredential   *clientCredentialJSON   `json:"clientCredential"`
	AccessToken        *accessTokenJSON        `json:"accessToken"`
	WorkloadFederation *workloadFederationJSON `json:"workloadFederation"`
}

type clientCredentialJSON struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

type accessTokenJSON struct {
	AccessToken string `json:"accessToken"`
}

type workloadFederationJSON struct {
	TrustID string `json:"workloadFederationTrustId"`
}

func (d *decoy) material() *materialJSON {
	switch d.kind {
	case KindAccessToken:
		return &materialJSON{AccessToken: &accessTokenJSON{AccessToken: d.secrets[len(d.secrets)-1].value}}
	case KindWorkloadFederation:
		return &materialJSON{WorkloadFederation: &workloadFederationJSON{TrustID: d.trustID}}
	default:
		return &materialJSON{ClientCredential: &clientCredentialJSON{
			ClientID: d.clientID, ClientSecret: d.secrets[len(d.secrets)-1].value,
		}}
	}
}

type decoyAnswer struct {
	Decoy *decoyJSON `json:"decoy"`
}

type vendingAnswer struct {
	Decoy    *decoyJSON    `json:"decoy"`
	Material *materialJSON `json:"material"`
}

// handleRotateDecoy is POST /api/v1/decoys/{id}/rotate.
func (t *Tenant) handleRotateDecoy(rq *request) answer {
	if err := decode(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	d := t.liveDecoy(rq.ids["id"])
	if d == nil {
		return notFound("decoy")
	}
	t.rotateDecoy(d, rq.now, "")
	return ok200(&vendingAnswer{Decoy: d.json(), Material: d.material()})
}

// handleGetDecoy is GET /api/v1/decoys/{id}.
func (t *Tenant) handleGetDecoy(rq *request) answer {
	d := t.liveDecoy(rq.ids["id"])
	if d == nil {
		return notFound("decoy")
	}
	return ok200(&decoyAnswer{Decoy: d.json()})
}

type decoyList struct {
	List          []*decoyJSON `json:"list"`
	NextPageToken string       `json:"nextPageToken"`
}

// listDecoys returns a page of the decoys that match; t.mu is held.
func (t *Tenant) listDecoys(p page, matches func(*decoy) bool) answer {
	var all []*decoy
	for _, id := range slices.Sorted(maps.Keys(t.decoys)) {
		if d := t.decoys[id]; !d.deleted && matches(d) {
			all = append(all, d)
		}
	}
	shown, next := cut(p, all, func(d *decoy) string { return d.id })
	out := decoyList{List: []*decoyJSON{}, NextPageToken: next}
	for _, d := range shown {
		out.List = append(out.List, d.json())
	}
	return ok200(out)
}

// handleListDecoys is GET /api/v1/decoys, which has no paging parameters: what
// does not fit into its one page is to be had from the search, which takes the
// token.
func (t *Tenant) handleListDecoys(*request) answer {
	return t.listDecoys(page{size: maxPageSize}, func(*decoy) bool { return true })
}

// handleDeleteDecoy is DELETE /api/v1/decoys/{id}, a soft delete.
func (t *Tenant) handleDeleteDecoy(rq *request) answer {
	if err := decode(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	d := t.liveDecoy(rq.ids["id"])
	if d == nil {
		return notFound("decoy")
	}
	d.deleted = true
	d.updatedAt = rq.now
	t.record(Entry{Op: OpDeleteDecoy, Object: d.id})
	return ok200(struct{}{})
}
