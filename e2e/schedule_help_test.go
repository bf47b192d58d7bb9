// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	// shortestPeriod is the least rotation_period, in seconds. The next rotation
	// lies up to a tenth of it early.
	shortestPeriod = 60
	earliest       = shortestPeriod * time.Second * 9 / 10
	// begins is how long after its time a scheduled rotation begins at the latest,
	// on a node that was there at that time.
	begins = 10 * time.Second
)

// scheduled are the fields by which a binding is rotated on a schedule, with
// more of them.
func scheduled(more object) object {
	fields := object{"rotate_on": "schedule"}
	maps.Copy(fields, more)
	return fields
}

// bindScheduled binds a connector, and returns the answer.
func bindScheduled(e *vaulttest.Engine, name string, ref c1test.ConnectorRef, more object) *api.Secret {
	fields := scheduled(more)
	fields["app_id"], fields["connector_id"] = ref.AppID, ref.ConnectorID
	return e.MustWrite("connectors/"+name, fields)
}

// bindScheduledDecoy binds a decoy, and returns the answer.
func bindScheduledDecoy(e *vaulttest.Engine, name, id string, more object) *api.Secret {
	fields := scheduled(more)
	fields["decoy_id"] = id
	return e.MustWrite("decoys/"+name, fields)
}

// fieldsOf are the names of an answer's fields.
func fieldsOf(secret *api.Secret) []string { return slices.Sorted(maps.Keys(secret.Data)) }

// without returns a copy that lacks some fields.
func without(data object, names ...string) object {
	rest := maps.Clone(data)
	for _, name := range names {
		delete(rest, name)
	}
	return rest
}

// complete reports material whose parts do not belong together, or which does
// not say until when it is good.
func complete(vended *api.Secret) error {
	var missing []error
	for _, name := range []string{"client_id", "client_secret", "credential_id", "fingerprint_sha256", "last_vault_rotation"} {
		if text(vended.Data[name]) == "" {
			missing = append(missing, fmt.Errorf("no %s", name))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	switch {
	case fingerprint(vended.Data["client_secret"]) != vended.Data["fingerprint_sha256"]:
		return errors.New("the fingerprint is not the secret's")
	case number(vended.Data["version"]) < 1:
		return fmt.Errorf("version %v", vended.Data["version"])
	case number(vended.Data["ttl"]) < 1:
		return fmt.Errorf("ttl %v", vended.Data["ttl"])
	case vended.LeaseID != "" || vended.LeaseDuration != 0 || vended.Renewable:
		return errors.New("there is a lease")
	default:
		return nil
	}
}

// inParallel runs do for 0 to n-1, as many at a time as there are workers, and
// returns the first error.
func inParallel(workers, n int, do func(int) error) error {
	var (
		group  sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
	)
	for range min(workers, n) {
		group.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// until waits for a moment.
func until(at time.Time) { <-time.After(time.Until(at)) }

// rotated are the journal's entries of rotations, oldest first.
func rotated(tenant *c1test.Tenant) []c1test.Entry {
	return slices.DeleteFunc(tenant.Journal(), func(entry c1test.Entry) bool {
		return entry.Op != c1test.OpRotateConnector && entry.Op != c1test.OpRotateDecoy
	})
}
