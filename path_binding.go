// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"cmp"
	"context"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// pathBinding completes the path of a kind's bindings. leaseEnd describes on_lease_end.
func pathBinding(k target.Kind, targetFields map[string]*framework.FieldSchema, leaseEnd string, path *framework.Path) *framework.Path {
	bindings, _ := pathsOf(k)
	path.Pattern = bindings + "/" + anyName + "$"
	path.Fields = bindingFields(targetFields, leaseEnd)
	path.ExistenceCheck = bindingExists(k)
	write := handleFor(k, (*backend).writeBinding)
	written := map[int][]framework.Response{
		http.StatusOK: {{Description: "Stored, with warnings or with rotate_on=schedule.", Fields: map[string]*framework.FieldSchema{
			"version":       {Type: framework.TypeInt, Description: "With schedule: version of the stored material; 0 when there is none yet."},
			"next_rotation": {Type: framework.TypeString, Description: "With schedule: time of the next rotation, RFC 3339; empty when only callers rotate."},
		}}},
		http.StatusNoContent: {{Description: "Stored."}},
	}
	path.Operations = map[logical.Operation]framework.OperationHandler{
		logical.ReadOperation: &framework.PathOperation{
			Summary:   "Read a " + string(k) + " binding and its state. Rotates nothing.",
			Responses: bindingResponse(targetFields),
			Callback:  handleFor(k, (*backend).readBinding),
		},
		logical.CreateOperation: forwarded(&framework.PathOperation{
			Summary: "Bind a name to a " + string(k) + ". Rotates it once with rotate_on=schedule, else nothing.", Callback: write, Responses: written,
		}),
		logical.UpdateOperation: forwarded(&framework.PathOperation{
			Summary: "Change a " + string(k) + " binding; fields not given are kept.", Callback: write, Responses: written,
		}),
		logical.PatchOperation: forwarded(&framework.PathOperation{
			Summary: "Change an existing " + string(k) + " binding; null removes a field, or one pair of metadata.", Callback: write, Responses: written,
			DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "patch"},
		}),
		logical.DeleteOperation: forwarded(&framework.PathOperation{
			Summary:   "Delete a " + string(k) + " binding. Ends nothing at C1 without revoke=true; leases stay revocable.",
			Responses: map[int][]framework.Response{http.StatusOK: {{Description: "Deleted, with what stays alive as a warning."}}, http.StatusNoContent: {{Description: "Deleted."}}},
			Callback:  handleFor(k, (*backend).deleteBinding),
		}),
	}
	return path
}

// bindingFields are common to both kinds; the target's own are added by each.
func bindingFields(targetFields map[string]*framework.FieldSchema, leaseEnd string) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{
		"name": nameField(),
		"rotate_on": {
			Type:          framework.TypeString,
			Required:      true,
			AllowedValues: []any{rotateOnRead, rotateOnWrite, rotateOnSchedule},
			Description: "What rotates the target at C1: `read` (every read and every write vends a NEW credential), `write` (only a write does; a read is refused) " +
				"or `schedule` (the engine, on a schedule; a read changes nothing, a write rotates now). No default, since a read that ends somebody's credential must be a deliberate choice.",
		},
		"cooldown":              {Type: framework.TypeDurationSecond, Description: "Least time between two rotations that callers ask for; an earlier one is answered with 429. Default: none."},
		"wrap_ttl":              {Type: framework.TypeDurationSecond, Description: "Vend only as a wrapping token that lives this long; callers may ask for a shorter one. Not for Vault Agent, operators or templates, which cannot unwrap. Default: do not force wrapping."},
		"rotation_period":       {Type: framework.TypeDurationSecond, Description: "With schedule: time from one rotation to the next, at least 1m; up to a tenth less, so that bindings written together drift apart. Excludes rotation_schedule; without both, only callers rotate."},
		"rotation_schedule":     {Type: framework.TypeString, Description: "With schedule: a standard cron line of five fields, in UTC unless it begins with `CRON_TZ=<zone>`. Excludes rotation_period."},
		"rotation_window":       {Type: framework.TypeDurationSecond, Description: "With rotation_schedule: how long after a scheduled time the engine may start the rotation, at least 1h. A binding that could not be rotated by then waits for the next scheduled time, and is failing. Default, and 0: the engine tries until it succeeds."},
		"refresh_interval":      {Type: framework.TypeDurationSecond, Description: "With schedule: the longest ttl that a read returns, so that readers who follow ttl have the result of a manual rotation within it; from 1s to the shortest time between two rotations (5m when only callers rotate). Default, and 0: until the next rotation."},
		"skip_initial_rotation": {Type: framework.TypeBool, Description: "With schedule: do not rotate once when the binding becomes scheduled; until its first scheduled time there is nothing to read. Not stored."},
		"ttl":                   {Type: framework.TypeDurationSecond, Description: "Lease duration. Default: the mount's. Never past the credential's own expiry."},
		"max_ttl":               {Type: framework.TypeDurationSecond, Description: "Longest life of a lease with renewals. Default: the mount's."},
		"on_lease_end":          {Type: framework.TypeString, Description: leaseEnd},
		"metadata":              {Type: framework.TypeKVPairs, Description: "The owner's own labels, as key=value pairs. Replaces all existing pairs."},
		"verify": {
			Type: framework.TypeBool, Default: true,
			Description: "Look the target up at C1 before storing the binding. Not stored.",
		},
		"revoke": {
			Type: framework.TypeBool, Query: true,
			Description: "With a delete: also end at C1 what the binding leaves alive there.",
		},
	}
	maps.Copy(fields, keysFields())
	maps.Copy(fields, targetFields)
	return fields
}

// bindingResponse is the schema of a binding's read.
func bindingResponse(targetFields map[string]*framework.FieldSchema) map[int][]framework.Response {
	fields := map[string]*framework.FieldSchema{
		"rotate_on":          {Type: framework.TypeString, Required: true, Description: "What rotates the target."},
		"cooldown":           {Type: framework.TypeInt64, Required: true, Description: "Least time between two rotations, in seconds."},
		"wrap_ttl":           {Type: framework.TypeInt64, Required: true, Description: "Forced response wrapping, in seconds; 0 is off."},
		"ttl":                {Type: framework.TypeInt64, Required: true, Description: "Lease duration in seconds; 0 is the mount's."},
		"max_ttl":            {Type: framework.TypeInt64, Required: true, Description: "Longest life of a lease in seconds; 0 is the mount's."},
		"on_lease_end":       {Type: framework.TypeString, Required: true, Description: "What the end of a lease does; empty with schedule."},
		"metadata":           {Type: framework.TypeKVPairs, Required: true, Description: "The owner's labels."},
		"keys":               {Type: framework.TypeKVPairs, Required: true, Description: "With schedule: the names under which the KV API shows fields of the material."},
		"keys_preset":        {Type: framework.TypeString, Required: true, Description: "With schedule: whose names they are, instead of keys."},
		"rotation_period":    {Type: framework.TypeInt64, Required: true, Description: "With schedule: time between rotations in seconds; 0 is none."},
		"rotation_schedule":  {Type: framework.TypeString, Required: true, Description: "With schedule: the cron line."},
		"rotation_window":    {Type: framework.TypeInt64, Required: true, Description: "With a cron line: how long after a scheduled time the engine may start the rotation, in seconds; 0: until it succeeds."},
		"refresh_interval":   {Type: framework.TypeInt64, Required: true, Description: "With schedule: the longest ttl that a read returns, in seconds; 0: until the next rotation."},
		"next_rotation":      {Type: framework.TypeString, Required: true, Description: "With schedule: time of the next rotation, RFC 3339; empty when nothing is planned."},
		"paused":             {Type: framework.TypeBool, Required: true, Description: "With schedule: whether somebody has paused the binding."},
		"paused_reason":      {Type: framework.TypeString, Required: true, Description: "Why, in that person's words; empty unless it is paused."},
		"paused_by":          {Type: framework.TypeString, Required: true, Description: "Who paused it: the token's display name, or the entity's ID where it has none."},
		"paused_at":          {Type: framework.TypeString, Required: true, Description: "Since when, RFC 3339."},
		"state":              {Type: framework.TypeString, Required: true, Description: "ready, pending (scheduled, not rotated yet), rotating, ambiguous, failing or drifted."},
		"problems":           {Type: framework.TypeStringSlice, Required: true, Description: "What needs attention, and why."},
		"version":            {Type: framework.TypeInt, Required: true, Description: "Version of the last rotation; 0 before the first."},
		"last_rotation":      {Type: framework.TypeString, Required: true, Description: "Time of the last rotation, RFC 3339; empty before the first."},
		"credential_id":      {Type: framework.TypeString, Required: true, Description: "C1's ID for the newest credential (connectors)."},
		"fingerprint_sha256": {Type: framework.TypeString, Required: true, Description: "Hex SHA-256 of the secret that was vended last."},
		"live_leases":        {Type: framework.TypeInt, Required: true, Description: "Vended credentials whose end is planned and still to come."},
	}
	maps.Copy(fields, targetFields)
	if targetFields["grace_period"] != nil {
		fields["grace_period"] = &framework.FieldSchema{Type: framework.TypeInt64, Required: true, Description: "With schedule: how long the previous credential lives after a rotation, in seconds; 0: C1 decides."}
	}
	if targetFields["check_period"] != nil {
		maps.Copy(fields, map[string]*framework.FieldSchema{
			"check_period": {Type: framework.TypeInt64, Required: true, Description: "How often the engine asks C1 what has become of the decoy, in seconds; 0 is the mount's drift_check_period."},
			"annotate":     {Type: framework.TypeBool, Required: true, Description: "Whether the placement is written to the decoy's annotations at C1."},
			"last_used_at": {Type: framework.TypeString, Required: true, Description: "When somebody used the decoy last, as C1 said at checked_at, RFC 3339; empty if nobody did."},
			"disabled":     {Type: framework.TypeBool, Required: true, Description: "Whether the decoy was disabled at C1 then, so that using it raises no finding."},
			"checked_at":   {Type: framework.TypeString, Required: true, Description: "When C1 said so, RFC 3339; empty before the first answer."},
		})
	}
	return answer("The binding and its state.", fields)
}

// bindingExists tells Vault whether a write creates or updates.
func bindingExists(k target.Kind) framework.ExistenceFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
		name := d.Get("name").(string)
		if !isName(name) {
			return false, nil // the write says what is wrong with it
		}
		bind, err := readBinding(ctx, mountOf(ctx).store, k, name)
		return bind != nil, err
	}
}

func (b *backend) readBinding(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	name := d.Get("name").(string)
	bind, err := readBinding(ctx, b.store, k, name)
	if err != nil || bind == nil {
		return nil, err
	}
	t, err := readState(ctx, b.store, bind.Ref)
	if err != nil {
		return nil, err
	}
	t = cmp.Or(t, &target.State{})
	if t.Unattended(b.now()) && b.WriteSafeReplicationState() {
		// Nobody has come to settle it: the process died between the attempt
		// and its due entry.
		if err := b.lookNow(ctx, t.Ref); err != nil {
			return nil, err
		}
	}
	data := map[string]any{
		"rotate_on":          bind.RotateOn,
		"cooldown":           seconds(bind.Cooldown),
		"wrap_ttl":           seconds(bind.WrapTTL),
		"ttl":                seconds(bind.TTL),
		"max_ttl":            seconds(bind.MaxTTL),
		"on_lease_end":       bind.OnLeaseEnd,
		"metadata":           nonNil(bind.Metadata),
		"keys":               nonNil(bind.Keys),
		"keys_preset":        bind.KeysPreset,
		"rotation_period":    seconds(bind.Schedule.Period),
		"rotation_schedule":  bind.Schedule.Cron,
		"rotation_window":    seconds(bind.Schedule.Window),
		"refresh_interval":   seconds(bind.RefreshInterval),
		"next_rotation":      rfc3339(t.RotationAt()),
		"state":              t.Health(b.now()),
		"problems":           t.ProblemList(),
		"version":            t.Version,
		"last_rotation":      "",
		"credential_id":      "",
		"fingerprint_sha256": "",
		"live_leases":        t.LiveLeases(name),
	}
	maps.Copy(data, pauseData(t))
	if cur := t.Current; cur != nil && cur.Binding == name {
		data["last_rotation"] = rfc3339(cur.RotatedAt)
		data["credential_id"] = cur.CredentialID
		data["fingerprint_sha256"] = cur.Fingerprint
	}
	if k == target.Connector {
		data["app_id"], data["connector_id"], data["grace_period"] = bind.Ref.AppID, bind.Ref.ConnectorID, seconds(bind.GracePeriod)
		return &logical.Response{Data: data}, nil
	}
	seen := cmp.Or(t.Decoy, &target.DecoyState{})
	maps.Copy(data, map[string]any{
		"decoy_id": bind.Ref.DecoyID, "check_period": seconds(bind.CheckPeriod), "annotate": bind.Annotate,
		"last_used_at": rfc3339(seen.LastUsedAt), "disabled": seen.Disabled, "checked_at": rfc3339(t.CheckedAt),
	})
	return &logical.Response{Data: data}, nil
}

// pathListBindings lists the names of a kind's bindings.
func pathListBindings(k target.Kind) *framework.Path {
	bindings, _ := pathsOf(k)
	return &framework.Path{
		Pattern: bindings + "/?$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: bindings, Navigation: true,
		},
		Fields:          pageFields(),
		Operations:      lists("List the "+string(k)+" bindings.", "Names of bindings.", handleFor(k, (*backend).listBindings)),
		HelpSynopsis:    "List the " + string(k) + " bindings.",
		HelpDescription: "Returns names in order. `after` and `limit` page through long lists.",
	}
}

func (b *backend) listBindings(ctx context.Context, _ *logical.Request, d *framework.FieldData, k target.Kind) (*logical.Response, error) {
	limit := 0
	if err := setInt(d, "limit", &limit, 1, longestPage); err != nil {
		return nil, err
	}
	names, err := bindingNames(ctx, b.store, k)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(page(names, d.Get("after").(string), limit)), nil
}
