// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const (
	// checkedAtOnce is how many bindings one call looks at if it does not say.
	checkedAtOnce = 100
	// checkFor bounds one call, so that it ends before Vault gives it up.
	checkFor = 45 * time.Second
	// clockWarning is how far apart the clocks may be before it is told.
	clockWarning = time.Minute
	// certificateWarning is how long before a certificate of ca_cert ends it is told.
	certificateWarning = 30 * 24 * time.Hour
)

// Severities of findings.
const (
	severityError   = "error"   // it does not work, or will not
	severityWarning = "warning" // it works, and somebody should look
)

func pathCheck() *framework.Path {
	return &framework.Path{
		Pattern:      "check$",
		DisplayAttrs: display("check", "mount"),
		Fields: map[string]*framework.FieldSchema{
			"after": {Type: framework.TypeString, Description: "Continue after this binding: next from the previous answer. With it, the mount itself is not checked again."},
			"limit": {Type: framework.TypeInt, Description: "Look at no more than this many bindings, 1 to 1000. Default: 100."},
		},
		Operations: only(logical.UpdateOperation, forwarded(&framework.PathOperation{
			Summary:  "Find out what does not work, or soon will not, and the cure. Changes nothing.",
			Callback: handle((*backend).check),
			Responses: answer("What was found.", map[string]*framework.FieldSchema{
				"ok":       {Type: framework.TypeBool, Required: true, Description: "No finding is an error."},
				"findings": {Type: framework.TypeSlice, Required: true, Description: "What was found: severity (error or warning), about, finding, cure."},
				"checked":  {Type: framework.TypeInt, Required: true, Description: "How many bindings were looked at."},
				"next":     {Type: framework.TypeString, Required: true, Description: "The last binding looked at, if there are more: give it as after; else empty."},
				"roles":    {Type: framework.TypeStringSlice, Required: true, Description: "The roles of the mount's identity at C1."},
			}),
			// The node that acts is the one to be checked.
		})),
		HelpSynopsis: "Find out what does not work, or soon will not, and the cure.",
		HelpDescription: `
Looks at the mount from the inside: its identity and when that expires, C1's clock
compared with this machine's, ca_cert, the stored entries, and each binding's
target at C1. Sends C1 one request per binding, within the limits in config and
after those of callers; a mount with many bindings is checked page by page (after,
limit). Rotates nothing.
`,
	}
}

// finding is something that a person should know.
type finding struct{ severity, about, text, cure string }

// checkup is one check of the mount.
type checkup struct {
	*backend
	found   []finding
	roles   []string
	checked int
	next    string
}

func (c *checkup) note(severity, about, cure, format string, args ...any) {
	c.found = append(c.found, finding{severity, about, fmt.Sprintf(format, args...), cure})
}

func (b *backend) check(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	limit := checkedAtOnce
	if err := setInt(d, "limit", &limit, 1, 1000); err != nil {
		return nil, err
	}
	c := &checkup{backend: b, roles: []string{}}
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	if err := c.run(ctx, d.Get("after").(string), limit); err != nil {
		return nil, err
	}
	findings, ok := []any{}, true
	for _, f := range c.found {
		findings = append(findings, map[string]any{"severity": f.severity, "about": f.about, "finding": f.text, "cure": f.cure})
		ok = ok && f.severity != severityError
	}
	return &logical.Response{Data: map[string]any{
		"ok": ok, "findings": findings, "checked": c.checked, "next": c.next, "roles": c.roles,
	}}, nil
}

func (c *checkup) run(ctx context.Context, after string, limit int) error {
	cfg, err := readConfig(ctx, c.store)
	if store.Unreadable(err) {
		c.note(severityError, "config", cureStorage, "%s", err)
		return nil
	}
	if err != nil {
		return err
	}
	if cfg == nil {
		c.note(severityError, "config", "write config", "this mount is not configured")
		return nil
	}
	if after == "" {
		if reached, err := c.checkMount(ctx, cfg); err != nil || !reached {
			return err
		}
	}
	return c.checkBindings(ctx, after, limit)
}

const cureStorage = "if it has a newer format, run the newer plugin again; else restore the entry from a snapshot (docs/operations.md, Backup and restore)"

// checkMount looks at what all bindings have in common, and reports whether C1 takes
// the mount's identity.
func (c *checkup) checkMount(ctx context.Context, cfg *config) (reached bool, err error) {
	c.checkCertificates(cfg)
	s, err := c.session(ctx)
	if err != nil {
		return false, err
	}
	asked, cancel := s.bound(ctx)
	defer cancel()
	who, err := s.client.Introspect(asked)
	if err != nil {
		c.note(severityError, "config", "see the finding; then write config, which checks it", "%s", fromC1(err).message)
	} else {
		reached = true
		c.roles = append(c.roles, who.Roles...)
	}
	if offset := s.client.Health().ClockOffset; offset.Abs() > clockWarning {
		c.note(severityWarning, "clock", "correct this machine's clock (NTP)", "C1's clock and this machine's are %s apart", offset.Abs().Round(time.Second))
	}
	id, err := c.identity(ctx, cfg)
	if err != nil {
		return false, err
	}
	switch {
	case id.warning != "":
		c.note(severityError, "config", "write config/rotate-root, or another credential into config", "%s", id.warning)
	case !id.expires.IsZero() && id.next.IsZero():
		c.note(severityWarning, "config", "set root_rotation_period in config", "the mount's credential expires at %s, and the engine does not replace it on a schedule", rfc3339(id.expires))
	}
	return reached, nil
}

// checkCertificates looks when what is trusted beside the system's roots ends.
func (c *checkup) checkCertificates(cfg *config) {
	rest := []byte(cfg.CACert)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // a write of the config refuses it
		}
		if left := certificate.NotAfter.Sub(c.now()); left < certificateWarning {
			c.note(severityWarning, "config", "write a newer ca_cert (with client_secret)", "the certificate %q in ca_cert ends at %s",
				clip(certificate.Subject.String(), 80), rfc3339(certificate.NotAfter))
		}
	}
}

// checkBindings looks at bindings after one, in the order of their paths, until the
// limit or the time is reached.
func (c *checkup) checkBindings(ctx context.Context, after string, limit int) error {
	c.next = after
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	for _, k := range bindableKinds {
		names, err := bindingNames(ctx, c.store, k)
		if err != nil {
			return err
		}
		bindings, _ := pathsOf(k)
		for _, name := range page(names, "", 0) {
			path := bindings + "/" + name
			if path <= after {
				continue
			}
			if c.checked == limit || timeIsUp(ctx) {
				return nil
			}
			goOn, err := c.checkBinding(ctx, s, k, path, name)
			if err != nil {
				return err
			}
			if !goOn {
				return nil
			}
			c.checked++
			c.next = path
		}
	}
	c.next = ""
	return nil
}

func timeIsUp(ctx context.Context) bool { return ctx.Err() != nil }

// checkBinding looks at one binding and its target at C1. It reports whether C1 can be
// asked about others.
func (c *checkup) checkBinding(ctx context.Context, s *session, k target.Kind, path, name string) (goOn bool, err error) {
	bind, err := readBinding(ctx, c.store, k, name)
	switch {
	case store.Unreadable(err):
		c.note(severityError, path, cureStorage, "%s", err)
		return true, nil
	case err != nil || bind == nil:
		return true, err
	}
	t, err := readState(ctx, c.store, bind.Ref)
	switch {
	case store.Unreadable(err):
		c.note(severityError, path, cureStorage, "%s", err)
	case err != nil:
		return false, err
	case t != nil:
		c.checkState(s, path, t)
	}
	if limit := c.System().MaxLeaseTTL(); max(bind.TTL, bind.MaxTTL) > limit {
		c.note(severityWarning, path, "tune max_lease_ttl of the mount, or shorten ttl and max_ttl", "ttl or max_ttl is longer than the mount's maximum of %s, which applies", limit)
	}
	decoy, warning, err := c.lookUpTarget(c1api.Background(ctx, 0), s, bind.Ref)
	switch {
	case concernsAll(err):
		c.note(severityError, "C1", "see the finding, and check again", "%s", fromC1(err).message)
		return false, nil
	case err != nil:
		c.note(severityError, path, "if it is gone at C1, delete the binding; else give the identity its right, or have the feature switched on", "%s", fromC1(err).message)
	case warning != "":
		c.note(severityWarning, path, "switch the decoy on, or give the identity the right to read it", "%s", warning)
	}
	if decoy != nil && t != nil && t.Current != nil && target.Differs(decoy.FingerprintSHA256, t.Current.Fingerprint) && t.Current.Drifted == "" {
		c.note(severityError, path, "rotate it again, and plant the new copy", "C1 shows a different fingerprint from the vended one")
	}
	return true, nil
}

// checkState looks at what is known of a binding's target.
func (c *checkup) checkState(s *session, path string, t *target.State) {
	for _, problem := range t.ProblemList() {
		c.note(severityError, path, "see “Watch it: status” in docs/monitoring.md", "%s", problem)
	}
	if s.serves(t.Tenant) != nil {
		c.note(severityError, path, "write the binding again, or the config of its tenant", "it belongs to the tenant %s, which is not the configured one", t.Tenant)
	}
}
