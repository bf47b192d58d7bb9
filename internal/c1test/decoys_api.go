// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoyJSON is C1's Decoy. C1 sends null for scalars that are not set.
type decoyJSON struct {
	ID          string            `json:"id"`
	DisplayName string            `json:"displayName"`
	Description *string           `json:"description"`
	Kind        Kind              `json:"kind"`
	Disabled    bool              `json:"disabled"`
	Annotations map[string]string `json:"annotations"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	LastUsedAt  *time.Time        `json:"lastUsedAt"`
	Fingerprint string            `json:"materialFingerprintSha256"`
}

func (d *decoy) json() *decoyJSON {
	out := &decoyJSON{
		ID: d.id, DisplayName: d.displayName, Kind: d.kind, Disabled: d.disabled,
		Annotations: maps.Clone(d.annotations), CreatedAt: d.createdAt.UTC(), UpdatedAt: d.updatedAt.UTC(),
		LastUsedAt: timeOrNull(d.lastUsedAt), Fingerprint: d.current(),
	}
	if d.description != "" {
		out.Description = &d.description
	}
	return out
}

// materialJSON is C1's DecoyVendingMaterial: exactly one field is set.
type materialJSON struct {
	ClientCredential   *clientCredentialJSON   `json:"clientCredential,omitempty"`
	AccessToken        *accessTokenJSON        `json:"accessToken,omitempty"`
	WorkloadFederation *workloadFederationJSON `json:"workloadFederation,omitempty"`
}

type clientCredentialJSON struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret,omitempty"`
}

type accessTokenJSON struct {
	AccessToken string `json:"accessToken,omitempty"`
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
	if err := decodeStrict(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	d := t.liveDecoy(rq.ids["decoy"])
	if d == nil {
		return notFound("decoy")
	}
	t.rotateDecoy(d, rq.now, "")
	return ok200(&vendingAnswer{Decoy: d.json(), Material: d.material()})
}

// handleGetDecoy is GET /api/v1/decoys/{id}.
func (t *Tenant) handleGetDecoy(rq *request) answer {
	d := t.liveDecoy(rq.ids["decoy"])
	if d == nil {
		return notFound("decoy")
	}
	return ok200(&decoyAnswer{Decoy: d.json()})
}

const (
	defaultPageSize = 25
	maxPageSize     = 100
)

type decoyList struct {
	List          []*decoyJSON `json:"list"`
	NextPageToken string       `json:"nextPageToken"`
}

// handleListDecoys is GET /api/v1/decoys, ordered by ID. The page token is the
// last ID of the page before.
func (t *Tenant) handleListDecoys(rq *request) answer {
	size, query := defaultPageSize, rq.URL.Query()
	if given := query.Get("page_size"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 0 || n > maxPageSize {
			return badRequest("page_size must be between 0 and %d", maxPageSize)
		}
		if n > 0 {
			size = n
		}
	}
	after := query.Get("page_token")
	if after != "" && t.decoys[after] == nil {
		return badRequest("page_token is not one that this tenant gave out")
	}

	out := decoyList{List: []*decoyJSON{}}
	for _, id := range slices.Sorted(maps.Keys(t.decoys)) {
		if id <= after || t.decoys[id].deleted {
			continue
		}
		if len(out.List) == size {
			out.NextPageToken = out.List[size-1].ID
			break
		}
		out.List = append(out.List, t.decoys[id].json())
	}
	return ok200(out)
}

type createDecoyRequest struct {
	DisplayName          string            `json:"displayName"`
	Description          string            `json:"description"`
	Annotations          map[string]string `json:"annotations"`
	UserClientCredential json.RawMessage   `json:"userClientCredential"`
	ConnectorClient      json.RawMessage   `json:"connectorClient"`
	WorkloadFederation   json.RawMessage   `json:"workloadFed"`
	AccessToken          json.RawMessage   `json:"accessToken"`
}

// handleCreateDecoy is POST /api/v1/decoys.
func (t *Tenant) handleCreateDecoy(rq *request) answer {
	var in createDecoyRequest
	err := decodeStrict(rq.body, &in, "displayName", "description", "annotations",
		"userClientCredential", "connectorClient", "workloadFed", "accessToken")
	if err != nil {
		return badRequest("%v", err)
	}
	if in.DisplayName == "" {
		return badRequest("displayName is required")
	}
	kind, refusal := t.kindOf(in)
	if kind == "" {
		return refusal
	}
	d := t.newDecoy(kind, in.DisplayName, in.Annotations, rq.now)
	d.description = in.Description
	t.record(Entry{Op: OpCreateDecoy, Object: d.id, Fingerprint: d.current()})
	return ok200(&vendingAnswer{Decoy: d.json(), Material: d.material()})
}

// kindOf returns the kind that a create request asks for, or why it is refused.
func (t *Tenant) kindOf(in createDecoyRequest) (Kind, answer) {
	var kinds []Kind
	for kind, given := range map[Kind]json.RawMessage{
		KindUserClientCredential: in.UserClientCredential,
		KindConnectorClient:      in.ConnectorClient,
		KindWorkloadFederation:   in.WorkloadFederation,
		KindAccessToken:          in.AccessToken,
	} {
		if given != nil {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		return "", badRequest("exactly one of userClientCredential, connectorClient, workloadFed and accessToken is needed")
	}

	var err error
	switch kinds[0] {
	case KindUserClientCredential:
		var form struct {
			UserID string `json:"userId"`
		}
		if err = decodeStrict(in.UserClientCredential, &form, "userId"); err == nil && !t.users[form.UserID] {
			return "", notFound("user")
		}
	case KindConnectorClient:
		err = decodeStrict(in.ConnectorClient, nil)
	case KindAccessToken:
		var form struct {
			SubjectUserID string `json:"subjectUserId"`
			ExpiresIn     string `json:"expiresIn"`
		}
		if err = decodeStrict(in.AccessToken, &form, "subjectUserId", "expiresIn"); err == nil {
			if !t.users[form.SubjectUserID] {
				return "", notFound("user")
			}
			if !validDuration(form.ExpiresIn) {
				return "", badRequest("expiresIn must be a number of seconds such as 3600s")
			}
		}
	case KindWorkloadFederation:
		// C1 does not document this form, so any object will do.
		var form map[string]any
		if json.Unmarshal(in.WorkloadFederation, &form) != nil || form == nil {
			return "", badRequest("workloadFed must be an object")
		}
	}
	if err != nil {
		return "", badRequest("%v", err)
	}
	return kinds[0], answer{}
}

// validDuration takes protobuf's JSON durations in whole seconds, or none.
func validDuration(s string) bool {
	if s == "" {
		return true
	}
	seconds, isSeconds := strings.CutSuffix(s, "s")
	n, err := strconv.ParseUint(seconds, 10, 32)
	return isSeconds && err == nil && n > 0
}

type updateDecoyRequest struct {
	Decoy      json.RawMessage `json:"decoy"`
	UpdateMask string          `json:"updateMask"`
}

type decoyPatch struct {
	ID          string            `json:"id"`
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Disabled    bool              `json:"disabled"`
	Annotations map[string]string `json:"annotations"`
}

// handleUpdateDecoy is PATCH /api/v1/decoys/{id}: only fields in the mask are
// changed; of annotations, given keys overwrite, absent keys stay, an empty
// value deletes.
func (t *Tenant) handleUpdateDecoy(rq *request) answer {
	var in updateDecoyRequest
	if err := decodeStrict(rq.body, &in, "decoy", "updateMask"); err != nil {
		return badRequest("%v", err)
	}
	var patch decoyPatch
	if err := decodeStrict(in.Decoy, &patch, "id", "displayName", "description", "disabled", "annotations"); err != nil {
		return badRequest("decoy: %v", err)
	}
	d := t.liveDecoy(rq.ids["decoy"])
	switch {
	case d == nil:
		return notFound("decoy")
	case patch.ID != "" && patch.ID != d.id:
		return badRequest("decoy.id is another decoy's than the path's")
	}

	mask := strings.Split(in.UpdateMask, ",")
	for _, field := range mask {
		if !slices.Contains([]string{"displayName", "description", "disabled", "annotations"}, field) {
			return badRequest("updateMask names %q, which cannot be updated", field)
		}
	}
	for _, field := range mask {
		d.apply(field, patch)
	}
	d.updatedAt = rq.now
	t.record(Entry{Op: OpUpdateDecoy, Object: d.id, Detail: in.UpdateMask})
	return ok200(&decoyAnswer{Decoy: d.json()})
}

func (d *decoy) apply(field string, patch decoyPatch) {
	switch field {
	case "displayName":
		d.displayName = patch.DisplayName
	case "description":
		d.description = patch.Description
	case "disabled":
		d.disabled = patch.Disabled
	case "annotations":
		for key, value := range patch.Annotations {
			if value == "" {
				delete(d.annotations, key)
				continue
			}
			d.annotations[key] = value
		}
	}
}

// handleDeleteDecoy is DELETE /api/v1/decoys/{id}, a soft delete.
func (t *Tenant) handleDeleteDecoy(rq *request) answer {
	if err := decodeStrict(rq.body, nil); err != nil {
		return badRequest("%v", err)
	}
	d := t.liveDecoy(rq.ids["decoy"])
	if d == nil {
		return notFound("decoy")
	}
	d.deleted = true
	d.updatedAt = rq.now
	t.record(Entry{Op: OpDeleteDecoy, Object: d.id})
	return answer{status: http.StatusOK, body: struct{}{}}
}
