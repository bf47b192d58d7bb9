// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// decoyHint is said with a 403 or 404 of a decoy call.
const decoyHint = "decoys are in early access at C1 and need the Super Administrator role"

const (
	decoyPath  = "/api/v1/decoys/%s"
	decoysPath = "/api/v1/decoys"
)

// GetDecoy returns a decoy (GET /api/v1/decoys/{id}).
func (c *Client) GetDecoy(ctx context.Context, id string) (*Decoy, error) {
	k := call{op: "get decoy", effect: reading, method: http.MethodGet, hint: decoyHint}
	var err error
	if k.path, err = pathOf(decoyPath, id); err != nil {
		return nil, unsendable(k.op, err)
	}
	body, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	return k.decodeDecoy(body, id)
}

// ListDecoys returns the decoys on the first page of C1's list and whether C1
// said that there are more (GET /api/v1/decoys, which takes no parameters: C1
// documents no way to ask for the next page).
func (c *Client) ListDecoys(ctx context.Context) (decoys []*Decoy, more bool, err error) {
	k := call{op: "list decoys", effect: reading, method: http.MethodGet, path: decoysPath, hint: decoyHint}
	page, err := c.listPage(ctx, k)
	if err != nil {
		return nil, false, err
	}
	for _, found := range page.list("list") {
		if decoy := found.decoy(); decoy.ID != "" {
			decoys = append(decoys, decoy)
		}
	}
	return decoys, page.has("nextPageToken"), nil
}

// RotateDecoy mints new material for a decoy (POST /api/v1/decoys/{id}/rotate)
// and returns it with the decoy, which is nil when C1 did not send it. Whatever
// falls short of whole material is a ReasonUnknown error, since C1 has rotated
// by then. Comparing the material with the decoy's fingerprint is the caller's.
func (c *Client) RotateDecoy(ctx context.Context, id string) (*Decoy, *DecoyMaterial, error) {
	k := call{op: "rotate decoy", effect: onceOnly, method: http.MethodPost, body: emptyObject(), hint: decoyHint}
	var err error
	if k.path, err = pathOf(decoyPath+"/rotate", id); err != nil {
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
// ones stay, an empty value deletes; they must keep to C1's bounds.
func (c *Client) UpdateDecoy(ctx context.Context, decoy *Decoy, updateMask ...string) (*Decoy, error) {
	k := call{op: "update decoy", effect: repeatable, method: http.MethodPatch, hint: decoyHint}
	if decoy == nil {
		return nil, unsendable(k.op, errors.New("no decoy to update"))
	}
	var err error
	if k.path, err = pathOf(decoyPath, decoy.ID); err != nil {
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
			if err := checkAnnotations(decoy.Annotations); err != nil {
				return nil, unsendable(k.op, err)
			}
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

// decodeDecoy reads {"decoy": {...}}.
func (k call) decodeDecoy(body []byte, id string) (*Decoy, error) {
	answer, err := k.decode(body)
	if err != nil {
		return nil, err
	}
	found, ok := answer.below("decoy")
	if !ok {
		return nil, k.unusable("the answer holds no decoy")
	}
	decoy := found.decoy()
	if other(decoy.ID, id) {
		return nil, k.unusable("the answer is about another decoy")
	}
	decoy.ID = id
	return decoy, nil
}

// decodeVended reads {"decoy": ..., "material": ...} and takes only whole
// material. The decoy is nil when there is none that can be read.
func (k call) decodeVended(body []byte, id string) (*Decoy, *DecoyMaterial, error) {
	answer, err := k.decode(body)
	if err != nil {
		return nil, nil, err
	}
	vended, _ := answer.below("material")
	material, lack := vended.material()
	if lack != "" {
		return nil, nil, k.unusable("C1 rotated, but its answer holds " + lack)
	}
	var decoy *Decoy
	shown, ok := answer.below("decoy")
	material.Warnings = *answer.warnings
	if ok {
		shown.warnings = new([]string)
		decoy = shown.decoy()
		if other(decoy.ID, id) {
			return nil, nil, k.unusable("C1 rotated, but its answer is about a different decoy from the one asked for")
		}
		decoy.ID = id
	}
	return decoy, material, nil
}

// decoy reads a decoy.
func (o object) decoy() *Decoy {
	decoy := &Decoy{
		ID:                o.text("id", maxIDLength),
		DisplayName:       o.text("displayName", maxDisplayName),
		Description:       o.text("description", maxDescription),
		Kind:              DecoyKind(o.text("kind", maxKind)),
		Disabled:          o.flag("disabled"),
		Annotations:       o.annotations("annotations"),
		CreatedAt:         o.moment("createdAt"),
		UpdatedAt:         o.moment("updatedAt"),
		LastUsedAt:        o.moment("lastUsedAt"),
		FingerprintSHA256: o.fingerprint("materialFingerprintSha256"),
	}
	decoy.Warnings = *o.warnings
	return decoy
}

// fingerprint returns a SHA-256 in lower-case hex, "" when it is not set.
func (o object) fingerprint(field string) string {
	value, ok := o.str(field)
	if sum, err := hex.DecodeString(value); !ok || err != nil || len(sum) != sha256.Size && value != "" {
		o.warn(field, "is not a SHA-256 in hex (64 digits) and was left out")
		return ""
	}
	return strings.ToLower(value)
}
