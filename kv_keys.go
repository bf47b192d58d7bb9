// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const maxKeyLength = 128

// keysPresets are the names that C1's own programs read their credential by:
// the variables of `baton-*` connectors, of `bridge-client`, and of the SDKs,
// `cone` and the Terraform provider.
var keysPresets = map[string]map[string]string{
	"baton":        {"client_id": "BATON_CLIENT_ID", "client_secret": "BATON_CLIENT_SECRET"},
	"bridge":       {"client_id": "C1_BRIDGE_CLIENT_ID", "client_secret": "C1_BRIDGE_CLIENT_SECRET"},
	"conductorone": {"client_id": "CONDUCTORONE_CLIENT_ID", "client_secret": "CONDUCTORONE_CLIENT_SECRET", "access_token": "CONDUCTORONE_ACCESS_TOKEN"},
}

// keysFields are the fields of a binding that name what the KV API shows.
func keysFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"keys":        {Type: framework.TypeKVPairs, Description: "With schedule: the names under which the KV API (`data/…`) shows fields of the material, as field=NAME pairs; it then shows nothing else. Replaces all existing pairs. Excludes keys_preset. Default: all fields that are text, by their own names."},
		"keys_preset": {Type: framework.TypeString, AllowedValues: presetNames(), Description: "With schedule: the same, with the names that C1's own programs read: `baton` (BATON_CLIENT_ID, …), `bridge` (C1_BRIDGE_CLIENT_ID, …) or `conductorone` (CONDUCTORONE_CLIENT_ID, …)."},
	}
}

func presetNames() []any {
	names := []any{}
	for _, name := range slices.Sorted(maps.Keys(keysPresets)) {
		names = append(names, name)
	}
	return names
}

// mergeKeys takes the names for the KV API. Naming keys or a preset replaces the
// other.
func mergeKeys(bind *binding, d *framework.FieldData) error {
	keysNamed, presetNamed := named(d, "keys"), named(d, "keys_preset")
	if keysNamed && presetNamed {
		return refuse("keys and keys_preset exclude each other: write one")
	}
	if _, given := d.GetOk("keys"); given || presetNamed {
		bind.Keys = nil
	}
	if _, given := d.GetOk("keys_preset"); given || keysNamed {
		bind.KeysPreset = ""
	}
	if keysNamed {
		var err error
		if bind.Keys, err = givenKeys(d); err != nil {
			return err
		}
	}
	set(d, "keys_preset", &bind.KeysPreset)
	if err := validKeys(bind.Keys); err != nil {
		return err
	}
	if bind.KeysPreset != "" && keysPresets[bind.KeysPreset] == nil {
		return refuse("keys_preset must be baton, bridge or conductorone, not %q; for other names use keys", clip(bind.KeysPreset, 40))
	}
	return bind.keysFit("")
}

// givenKeys takes the pairs from an object, or from what the CLI sends: one argument or
// several, each with a pair or with some between commas.
func givenKeys(d *framework.FieldData) (map[string]string, error) {
	var arguments []string
	switch raw := d.Raw["keys"].(type) {
	case string:
		arguments = []string{raw}
	case []string:
		arguments = raw
	case []any:
		for _, argument := range raw {
			text, _ := argument.(string) // what came in was checked to be text
			arguments = append(arguments, text)
		}
	default:
		return d.Get("keys").(map[string]string), nil
	}
	keys := map[string]string{}
	for pair := range strings.SplitSeq(strings.Join(arguments, ","), ",") {
		field, name, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || field == "" {
			return nil, refuse("keys: %q is not a pair of a field and its name, such as client_secret=BATON_CLIENT_SECRET", clip(pair, 40))
		}
		if _, there := keys[field]; there {
			return nil, refuse("keys: names %q twice", clip(field, 40))
		}
		keys[field] = name
	}
	return keys, nil
}

// validKeys checks the names alone. They become names of variables, of files or of
// entries of a Kubernetes Secret.
func validKeys(keys map[string]string) error {
	seen := map[string]string{}
	for _, field := range slices.Sorted(maps.Keys(keys)) {
		name := keys[field]
		switch {
		case name == "":
			return refuse("keys: the name for %q is empty", clip(field, 40))
		case len(name) > maxKeyLength:
			return refuse("keys: the name for %q has %d bytes, at most %d are allowed", clip(field, 40), len(name), maxKeyLength)
		case strings.Contains(name, "="):
			return refuse("keys: the name for %q holds a `=`, which no variable's name can", clip(field, 40))
		case seen[name] != "":
			return refuse("keys: %q is the name for both %s and %s", name, seen[name], clip(field, 40))
		}
		if err := validLabel("keys", name); err != nil {
			return err
		}
		seen[name] = field
	}
	return nil
}

// keysFit refuses names that the binding's material can never bear. The form of a
// decoy's material is "" as long as it is not known.
func (b *binding) keysFit(form string) error {
	fields := textFields(b.Ref.Kind, form)
	isSecret := func(field string) bool {
		return slices.Contains(target.SecretFields, field) && slices.Contains(fields, field)
	}
	switch {
	case b.KeysPreset != "":
		if !slices.ContainsFunc(slices.Collect(maps.Keys(keysPresets[b.KeysPreset])), isSecret) {
			return refuse("keys_preset=%s has no name for what this %s's material holds (%s): use keys, or neither, which shows every field",
				b.KeysPreset, b.Ref.Kind, form)
		}
		return nil
	case len(b.Keys) == 0:
		return nil
	}
	for _, field := range slices.Sorted(maps.Keys(b.Keys)) {
		if !slices.Contains(fields, field) {
			return refuse("keys: %q is not text in this %s's material, which has %s", clip(field, 40), b.Ref.Kind, strings.Join(fields, ", "))
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(b.Keys)), isSecret) {
		return refuse("keys: names no secret, so nobody could log in with what is shown: add client_secret or access_token, or leave keys out to show every field")
	}
	return nil
}

// shown is what the KV API shows of the material: its texts, by the names that the
// binding gives them. The error says which of those the material does not have.
func (b *binding) shown(material map[string]any) (map[string]any, error) {
	names := b.Keys
	if b.KeysPreset != "" {
		names = keysPresets[b.KeysPreset]
	}
	form, _ := material["material_type"].(string)
	if err := b.keysFit(form); err != nil {
		return nil, err
	}
	data := map[string]any{}
	for field, value := range material {
		text, ok := value.(string)
		switch name := names[field]; {
		case !ok:
		case len(names) == 0:
			data[field] = text
		case name != "":
			data[name] = text
		}
	}
	return data, nil
}
