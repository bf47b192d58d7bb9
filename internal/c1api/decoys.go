// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// decoyHint is said with a 403 or 404 of a decoy call.
const decoyHint = "decoys are in early access at C1 and need the Super Administrator role"

const (
	decoyPageSize = 100
	maxDecoyPages = 1000
)

// GetDecoy returns a decoy (GET /api/v1/decoys/{id}).
func (c *Client) GetDecoy(ctx context.Context, id string) (*Decoy, error) {
	k := call{op: "get decoy", effect: reading, method: http.MethodGet, hint: decoyHint}
	var err error
	if k.path, err = pathOf("/api/v1/decoys/%s", id); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	return k.decodeDecoy(body, id)
}

// ListDecoys returns at most limit decoys (GET /api/v1/decoys, page by page).
// Less than 1 means as many as there are, up to 100,000.
func (c *Client) ListDecoys(ctx context.Context, limit int) ([]*Decoy, error) {
	k := call{op: "list decoys", effect: reading, method: http.MethodGet, hint: decoyHint}
	if limit < 1 || limit > decoyPageSize*maxDecoyPages {
		limit = decoyPageSize * maxDecoyPages
	}
	var all []*Decoy
	token := ""
	for range maxDecoyPages {
		query := url.Values{"page_size": {strconv.Itoa(min(decoyPageSize, limit-len(all)))}}
		if token != "" {
			query.Set("page_token", token)
		}
		k.path = "/api/v1/decoys?" + query.Encode()
		body, err := c.do(ctx, k)
		if err != nil {
			return nil, err
		}
		var page struct {
			List          []*Decoy `json:"list"`
			NextPageToken string   `json:"nextPageToken"`
		}
		if err := k.decode(body, &page); err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(page.List, func(d *Decoy) bool { return d == nil })...)
		switch {
		case len(all) >= limit:
			return all[:limit], nil
		case page.NextPageToken == "":
			return all, nil
		case page.NextPageToken == token:
			return nil, k.unusable("the list of decoys does not end: a page names itself as the next")
		}
		token = page.NextPageToken
	}
	return nil, k.unusable(fmt.Sprintf("the list of decoys has more than %d pages", maxDecoyPages))
}

// CreateDecoy makes a decoy (POST /api/v1/decoys) and returns it with the only
// copy of its material. Like a rotate it is never sent twice.
func (c *Client) CreateDecoy(ctx context.Context, decoy NewDecoy) (*Decoy, *DecoyMaterial, error) {
	k := call{op: "create decoy", effect: onceOnly, method: http.MethodPost, path: "/api/v1/decoys", hint: decoyHint}
	kinds := 0
	for _, set := range []bool{
		decoy.UserClientCredential != nil, decoy.ConnectorClient != nil,
		decoy.AccessToken != nil, len(decoy.WorkloadFederation) > 0,
	} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, nil, unsendable(k.op, errors.New("a new decoy needs exactly one kind"))
	}
	var err error
	if k.body, err = json.Marshal(decoy); err != nil {
		return nil, nil, unsendable(k.op, errors.New("the new decoy cannot be written as JSON"))
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	created, material, err := k.decodeVended(body, "")
	if err != nil {
		return nil, nil, err
	}
	if created == nil || created.ID == "" {
		return nil, nil, k.unusable("C1 acted, but its answer holds no decoy with an id")
	}
	return created, material, nil
}

// RotateDecoy mints new material for a decoy (POST /api/v1/decoys/{id}/rotate)
// and returns it with the decoy, which is nil when C1 did not send it. Whatever
// falls short of whole material is a ReasonUnknown error, since C1 has rotated
// by then. Comparing the material with the decoy's fingerprint is the caller's.
func (c *Client) RotateDecoy(ctx context.Context, id string) (*Decoy, *DecoyMaterial, error) {
	k := call{op: "rotate decoy", effect: onceOnly, method: http.MethodPost, body: emptyObject(), hint: decoyHint}
	var err error
	if k.path, err = pathOf("/api/v1/decoys/%s/rotate", id); err != nil {
		return nil, nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	return k.decodeVended(body, id)
}

// UpdateDecoy writes the fields of decoy that updateMask names (displayName,
// description, disabled, annotations) and returns the decoy as C1 has it then
// (PATCH /api/v1/decoys/{id}). Of annotations, given keys overwrite, absent
// ones stay, an empty value deletes.
func (c *Client) UpdateDecoy(ctx context.Context, decoy *Decoy, updateMask ...string) (*Decoy, error) {
	k := call{op: "update decoy", effect: repeatable, method: http.MethodPatch, hint: decoyHint}
	if decoy == nil {
		return nil, unsendable(k.op, errors.New("no decoy to update"))
	}
	var err error
	if k.path, err = pathOf("/api/v1/decoys/%s", decoy.ID); err != nil {
		return nil, unsendable(k.op, err)
	}
	if len(updateMask) == 0 {
		return nil, unsendable(k.op, errors.New("an update must name the fields to write"))
	}
	fields := make(map[string]any, len(updateMask))
	for _, field := range updateMask {
		switch field {
		case "displayName":
			fields[field] = decoy.DisplayName
		case "description":
			fields[field] = decoy.Description
		case "disabled":
			fields[field] = decoy.Disabled
		case "annotations":
			fields[field] = decoy.Annotations
		default:
			return nil, unsendable(k.op, fmt.Errorf("a decoy has no field %q that can be written", clean(field, nil)))
		}
	}
	if k.body, err = json.Marshal(map[string]any{"decoy": fields, "updateMask": strings.Join(updateMask, ",")}); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	return k.decodeDecoy(body, decoy.ID)
}

// DeleteDecoy ends a decoy and its credential (DELETE /api/v1/decoys/{id}).
// ReasonNotFound with FromC1 means that C1 itself no longer knows it.
func (c *Client) DeleteDecoy(ctx context.Context, id string) error {
	k := call{op: "delete decoy", effect: repeatable, method: http.MethodDelete, body: emptyObject(), hint: decoyHint}
	var err error
	if k.path, err = pathOf("/api/v1/decoys/%s", id); err != nil {
		return unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	return k.decodeDone(body)
}

// decodeDecoy reads a decoy that stands below decoy, as in every documented
// answer, or bare.
func (k call) decodeDecoy(body []byte, id string) (*Decoy, error) {
	var found struct {
		Decoy

		Below *Decoy `json:"decoy"`
	}
	if err := k.decode(body, &found); err != nil {
		return nil, err
	}
	decoy := &found.Decoy
	if found.Below != nil {
		decoy = found.Below
	}
	switch {
	case decoy.ID == "" && found.Below == nil:
		return nil, k.unusable("the answer holds no decoy")
	case other(decoy.ID, id):
		return nil, k.unusable("the answer is about another decoy")
	}
	decoy.ID = id
	return decoy, nil
}

// decodeVended reads {"decoy": ..., "material": ...} and takes only whole
// material. An empty id is that of a decoy just created.
func (k call) decodeVended(body []byte, id string) (*Decoy, *DecoyMaterial, error) {
	var found struct {
		Decoy    *Decoy         `json:"decoy"`
		Material *DecoyMaterial `json:"material"`
	}
	if err := k.decode(body, &found); err != nil {
		return nil, nil, err
	}
	if found.Decoy != nil && id != "" {
		if other(found.Decoy.ID, id) {
			return nil, nil, k.unusable("C1 acted, but its answer is about another decoy than the one asked for")
		}
		found.Decoy.ID = id
	}
	if lack := found.Material.lack(); lack != "" {
		return nil, nil, k.unusable("C1 acted, but its answer holds " + lack)
	}
	return found.Decoy, found.Material, nil
}

// lack says what is missing in material, "" when it is whole.
func (m *DecoyMaterial) lack() string {
	if m == nil {
		return "no material"
	}
	kinds := 0
	for _, set := range []bool{m.ClientCredential != nil, m.AccessToken != nil, m.WorkloadFederation != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return "material of no kind that this client knows"
	case kinds > 1:
		return "material of more than one kind"
	case m.ClientCredential != nil && blank(m.ClientCredential.ClientID):
		return "a client credential without its clientId"
	case m.ClientCredential != nil && blank(m.ClientCredential.ClientSecret):
		return "a client credential without its clientSecret"
	case m.AccessToken != nil && blank(m.AccessToken.AccessToken):
		return "an access token that is empty"
	case m.WorkloadFederation != nil && blank(m.WorkloadFederation.TrustID):
		return "a workload federation trust without its ID"
	default:
		return ""
	}
}
