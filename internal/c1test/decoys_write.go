// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

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
	err := decode(rq.body, &in, "displayName", "description", "annotations",
		"userClientCredential", "connectorClient", "workloadFed", "accessToken")
	if err != nil {
		return badRequest("%v", err)
	}
	if in.DisplayName == "" {
		return badRequest("displayName is required")
	}
	if err := checkAnnotations(in.Annotations, in.Annotations); err != nil {
		return badRequest("%v", err)
	}
	kind, refusal := t.kindOf(in)
	if refusal.status != 0 {
		return refusal
	}
	d := t.newDecoy(kind, in.DisplayName, in.Annotations, rq.now)
	d.description = in.Description
	t.record(Entry{Op: OpCreateDecoy, Object: d.id, Fingerprint: d.current()})
	return ok200(&vendingAnswer{Decoy: d.json(), Material: d.material()})
}

// kindOf returns the kind that a create request asks for, and why it is
// refused, if it is.
func (t *Tenant) kindOf(in createDecoyRequest) (Kind, answer) {
	var kinds []Kind
	for kind, given := range map[Kind]json.RawMessage{
		KindUserClientCredential: in.UserClientCredential,
		KindConnectorClient:      in.ConnectorClient,
		KindWorkloadFederation:   in.WorkloadFederation,
		KindAccessToken:          in.AccessToken,
	} {
		if given != nil && string(given) != "null" {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		return "", badRequest("exactly one of userClientCredential, connectorClient, workloadFed and accessToken is needed")
	}

	return kinds[0], t.checkForm(kinds[0], in)
}

// checkForm returns why the form of a kind is refused, or the zero answer.
func (t *Tenant) checkForm(kind Kind, in createDecoyRequest) answer {
	var err error
	var userID string
	switch kind {
	case KindUserClientCredential:
		var form struct {
			UserID string `json:"userId"`
		}
		err = decode(in.UserClientCredential, &form, "userId")
		userID = form.UserID
	case KindConnectorClient:
		if err := decode(in.ConnectorClient, nil); err != nil {
			return badRequest("connectorClient: %v", err)
		}
		return answer{}
	case KindAccessToken:
		var form struct {
			SubjectUserID string `json:"subjectUserId"`
			ExpiresIn     string `json:"expiresIn"`
		}
		err = decode(in.AccessToken, &form, "subjectUserId", "expiresIn")
		if !validDuration(form.ExpiresIn) {
			return badRequest("expiresIn must be a number of seconds such as 3600s")
		}
		userID = form.SubjectUserID
	case KindWorkloadFederation:
		var form struct {
			ProviderID             string `json:"providerId"`
			ServicePrincipalUserID string `json:"servicePrincipalUserId"`
			ConditionExpression    string `json:"conditionExpression"`
		}
		err = decode(in.WorkloadFederation, &form, "providerId", "servicePrincipalUserId", "conditionExpression")
		if err == nil && form.ProviderID == "" { // the emulator keeps no providers: any will do
			return badRequest("providerId is required")
		}
		userID = form.ServicePrincipalUserID
	}
	switch {
	case err != nil:
		return badRequest("%v", err)
	case userID == "":
		return badRequest("the user's ID is required")
	case !t.users[userID]:
		return notFound("user")
	default:
		return answer{}
	}
}

var durationForm = regexp.MustCompile(`^[0-9]+(\.[0-9]{1,9})?s$`)

// validDuration takes protobuf's JSON durations above zero, or none.
func validDuration(s string) bool {
	d, err := time.ParseDuration(s)
	return s == "" || (durationForm.MatchString(s) && err == nil && d > 0)
}

type updateDecoyRequest struct {
	Decoy      json.RawMessage `json:"decoy"`
	UpdateMask string          `json:"updateMask"` // names of fields, separated by commas
}

// decoyPatch is the part of a Decoy that a caller may change; C1 ignores the
// rest.
type decoyPatch struct {
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Disabled    bool              `json:"disabled"`
	Annotations map[string]string `json:"annotations"`
}

// updatable are the fields that an update mask may name.
var updatable = []string{"displayName", "description", "disabled", "annotations"}

// handleUpdateDecoy is PATCH /api/v1/decoys/{id}: only fields in the mask are
// changed; of annotations, given keys overwrite, absent keys stay, an empty
// value deletes.
func (t *Tenant) handleUpdateDecoy(rq *request) answer {
	var in updateDecoyRequest
	if err := decode(rq.body, &in, "decoy", "updateMask"); err != nil {
		return badRequest("%v", err)
	}
	var patch decoyPatch
	if len(in.Decoy) == 0 || string(in.Decoy) == "null" {
		return badRequest("decoy is required")
	}
	if err := decode(in.Decoy, &patch, updatable...); err != nil {
		return badRequest("decoy: %v", err)
	}
	d := t.liveDecoy(rq.ids["id"])
	if d == nil {
		return notFound("decoy")
	}
	mask := strings.Split(in.UpdateMask, ",")
	for _, field := range mask {
		if !slices.Contains(updatable, field) {
			return badRequest("updateMask names %q, which cannot be updated", field)
		}
	}
	if slices.Contains(mask, "annotations") {
		if err := checkAnnotations(patch.Annotations, merge(d.annotations, patch.Annotations)); err != nil {
			return badRequest("%v", err)
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
		d.annotations = merge(d.annotations, patch.Annotations)
	}
}
