// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// maxListed bounds how many targets status describes per reason.
const maxListed = 100

func (b *backend) pathsStatus() []*framework.Path {
	count := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeInt, Required: true, Description: description}
	}
	text := func(description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: description}
	}
	return []*framework.Path{{
		Pattern: "status$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationSuffix: "status", Navigation: true,
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Summary:  "Read the health of the mount and what needs a person.",
				Callback: b.handle(b.readStatus),
				// The connection's state is in the memory of the node that acts.
				ForwardPerformanceStandby: true,
				Responses: map[int][]framework.Response{http.StatusOK: {{
					Description: "Health, counts, and what needs a person.",
					Fields: map[string]*framework.FieldSchema{
						"healthy":          {Type: framework.TypeBool, Required: true, Description: "Configured, and nothing needs a person."},
						"configured":       {Type: framework.TypeBool, Required: true, Description: "Whether config was written."},
						"version":          text("Version of the plugin."),
						"tenant":           text("URL of the tenant."),
						"ambiguous":        count("Targets with a rotation of unknown outcome."),
						"drifted":          count("Targets for which C1 holds something other than what was vended."),
						"retiring":         count("Targets with a credential that could not be ended yet."),
						"rotating":         count("Targets with a rotation that began within the last minutes and is open."),
						"attention":        {Type: framework.TypeSlice, Required: true, Description: "What needs a person: kind, IDs, binding, reason and detail; at most 100 per reason."},
						"watermark":        text("Minute up to which due targets were looked at, RFC 3339."),
						"breaker":          text("closed, half-open or open; empty before the first call to C1."),
						"last_success":     text("Last answer from C1, RFC 3339; empty before the first."),
						"latency_ms":       {Type: framework.TypeInt64, Required: true, Description: "Duration of that answer in milliseconds."},
						"token_expires_at": text("End of the access token in use, RFC 3339; empty without one and for a static one."),
						"clock_offset_ms":  {Type: framework.TypeInt64, Required: true, Description: "C1's clock minus this machine's, in milliseconds, when it matters."},
						"token_mints":      {Type: framework.TypeInt64, Required: true, Description: "Access tokens fetched since the client was built."},
						"note":             text("Empty, or why the lists above are incomplete."),
					},
				}}},
			},
		},
		HelpSynopsis: "Health, counts, and what needs a person.",
		HelpDescription: `
Costs what is wrong, not what exists. See docs/operations.md for what each
reason means and what to do. A node that has not called C1 since it started
shows no connection yet.
`,
	}}
}

func (b *backend) readStatus(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	cfg, err := readConfig(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"configured": cfg != nil, "version": b.version, "tenant": "",
		"breaker": "", "last_success": "", "latency_ms": int64(0), "token_expires_at": "",
		"clock_offset_ms": int64(0), "token_mints": int64(0),
		"watermark": "", "note": "",
	}
	if cfg != nil {
		data["tenant"] = cfg.tenant()
	}
	if s := b.sessions.peek(); s != nil {
		h := s.client.Health()
		data["breaker"] = h.Breaker
		data["last_success"] = rfc3339(h.LastSuccess)
		data["latency_ms"] = h.LastLatency.Milliseconds()
		data["token_expires_at"] = rfc3339(h.TokenExpiresAt)
		data["clock_offset_ms"] = h.ClockOffset.Milliseconds()
		data["token_mints"] = h.TokenMints
	}
	mark, err := b.due.watermark(ctx)
	if err != nil {
		return nil, err
	}
	if mark != 0 {
		data["watermark"] = rfc3339(time.Unix(mark*60, 0))
	}
	attention := []any{}
	wrong := 0
	for _, reason := range []string{attentionAmbiguous, attentionDrifted, attentionRetiring} {
		refs, err := attentionRefs(ctx, req.Storage, reason)
		if err != nil {
			return nil, err
		}
		data[reason] = len(refs)
		wrong += len(refs)
		if len(refs) > maxListed {
			refs = refs[:maxListed]
			data["note"] = "attention lists the first 100 targets per reason"
		}
		for _, ref := range refs {
			t, err := readTarget(ctx, req.Storage, ref)
			if err != nil {
				return nil, err
			}
			if t == nil {
				continue
			}
			attention = append(attention, map[string]any{
				"kind": string(ref.Kind), "app_id": ref.AppID, "connector_id": ref.ConnectorID, "decoy_id": ref.DecoyID,
				"binding": t.Binding, "reason": reason, "detail": t.problems()[reason],
			})
		}
	}
	rotating, overdue, err := b.openAttempts(ctx, req.Storage, cfg)
	if err != nil {
		return nil, err
	}
	data["rotating"], data["attention"] = rotating, attention
	data["ambiguous"] = data["ambiguous"].(int) + overdue
	data["healthy"] = cfg != nil && wrong+overdue == 0
	return &logical.Response{Data: data}, nil
}

// openAttempts counts the rotations that have no outcome yet and that nobody
// has marked, from the due entries that each of them wrote.
func (b *backend) openAttempts(ctx context.Context, s logical.Storage, cfg *config) (rotating, overdue int, err error) {
	mark, err := b.due.watermark(ctx)
	if err != nil || mark == 0 || cfg == nil {
		return 0, 0, err
	}
	now := b.now()
	seen := map[targetRef]bool{}
	last := minuteAfter(now.Add(2*cfg.RequestTimeout)) + 1
	for minute := max(mark, minuteOf(now)-watermarkEvery); minute <= last; minute++ {
		refs, err := b.due.list(ctx, minute)
		if err != nil {
			return 0, 0, err
		}
		for _, ref := range refs {
			if seen[ref] || len(seen) >= 10*maxListed {
				continue
			}
			seen[ref] = true
			t, err := readTarget(ctx, s, ref)
			if err != nil {
				return 0, 0, err
			}
			switch {
			case t == nil || t.Attempt == nil || t.Attempt.Unknown != "":
			case now.After(t.Attempt.SettleAt):
				overdue++
			default:
				rotating++
			}
		}
	}
	return rotating, overdue, nil
}

// attentionRefs lists the targets marked for a reason.
func attentionRefs(ctx context.Context, s logical.Storage, reason string) ([]targetRef, error) {
	var refs []targetRef
	for _, k := range []kind{kindConnector, kindDecoy} {
		ids, err := s.List(ctx, attentionPrefix+reason+"/"+string(k)+"/")
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if ref, ok := parseTargetKey(string(k), strings.TrimSuffix(id, "/")); ok {
				refs = append(refs, ref)
			}
		}
	}
	return refs, nil
}
