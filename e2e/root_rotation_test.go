// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const identityLife = 90 * 24 * time.Hour

// ownMount is a mount that logs in with an identity of its own.
type ownMount struct {
	server    *vaulttest.Server
	mount     string
	c1        *c1test.Tenant
	identity  c1test.Identity
	principal string // whose the identity is
}

// newOwnMount configures a mount for a new identity of a tenant.
func newOwnMount(s *vaulttest.Server, mount string, tenant *c1test.Tenant, extra object, options ...c1test.IdentityOption) *ownMount {
	id := tenant.NewIdentity(append([]c1test.IdentityOption{c1test.ExpiresIn(identityLife)}, options...)...)
	m := &ownMount{server: s, mount: mount, c1: tenant, identity: id}
	for _, c := range tenant.LiveCredentials() {
		if c.ClientID == id.ClientID {
			m.principal = c.ServicePrincipalID
		}
	}
	s.Mount(mount)
	s.ConfigureAs(mount, tenant, id, extra)
	return m
}

func (m *ownMount) root() (*api.Secret, error) {
	return m.server.Root.Logical().Write(m.mount+"/config/rotate-root", nil)
}

// alive are the client IDs of the mount's principal that are alive at C1.
func (m *ownMount) alive() (ids []string) {
	for _, c := range m.c1.LiveCredentials() {
		if c.ServicePrincipalID == m.principal {
			ids = append(ids, c.ClientID)
		}
	}
	return ids
}

// works reports an error unless the credential in config is alive, and rotates the
// mount's connector.
func (m *ownMount) works(t *testing.T) error {
	t.Helper()
	cfg, err := m.server.Root.Logical().Read(m.mount + "/config")
	if err != nil {
		return err
	}
	id := cfg.Data["client_id"]
	if live := m.alive(); !slices.Contains(live, id.(string)) {
		t.Errorf("%s: the credential in config, %s, is dead at C1; alive are %v", m.mount, id, live)
	}
	_, err = m.server.Root.Logical().Write(m.mount+"/connectors/app/rotate", nil)
	return err
}

// rest reports an error unless nothing is left to be done: the credential in config is
// the only one of its principal, and status names nothing.
func (m *ownMount) rest() error {
	cfg, err := m.server.Root.Logical().Read(m.mount + "/config")
	if err != nil {
		return err
	}
	status, err := m.server.Root.Logical().Read(m.mount + "/status")
	if err != nil {
		return err
	}
	if live := m.alive(); len(live) != 1 || live[0] != cfg.Data["client_id"] || status.Data["healthy"] != true || fmt.Sprint(status.Data["rotating"]) != "0" {
		return fmt.Errorf("%s: config has %v, alive are %v, status %v", m.mount, cfg.Data["client_id"], live, status.Data)
	}
	return nil
}

// rootStep is a point of a rotation of the mount's identity at which all above C1 dies.
type rootStep struct {
	name    string
	op      string // at which C1 holds it; %s is create or delete of the identity's kind
	when    c1test.When
	commits bool
	write   heldWrite // instead, or once C1 has made the credential
	made    bool      // once C1 has made it
}

func rootSteps() []rootStep {
	const before, after = vaulttest.BeforeWrite, vaulttest.AfterWrite
	return []rootStep{
		{name: "nothing is stored", write: heldWrite{before, targetKeys}},
		{name: "the attempt is stored, C1 is not asked", write: heldWrite{after, targetKeys}},
		{name: "C1 has the request and never carries it out", op: "create", when: c1test.BeforeCommit},
		{name: "C1 has the request and carries it out after the death", op: "create", when: c1test.BeforeCommit, commits: true},
		{name: "C1 has carried it out and not answered", op: "create", when: c1test.AfterCommit, commits: true},
		{name: "the new credential is not stored", write: heldWrite{before, "config"}, made: true},
		{name: "the new credential is stored, its record is not", write: heldWrite{after, "config"}, made: true},
		{name: "the record is not stored", write: heldWrite{before, targetKeys}, made: true},
		{name: "the record is stored, nobody was answered", write: heldWrite{after, targetKeys}, made: true},
	}
}

// createOp is what C1's API calls the creation of a credential of this kind.
func createOp(personal bool) string {
	if personal {
		return c1test.OpCreatePersonalClient
	}
	return c1test.OpCreateServicePrincipalCredential
}

// TestRootRotationSurvivesADeathAtEachStep kills the plugin and the whole server at
// each step of a rotation of the mount's identity, of a service principal and of a
// person. At any time the credential in config is alive; in the end nothing else is.
func TestRootRotationSurvivesADeathAtEachStep(t *testing.T) {
	t.Parallel()
	kept, err := os.ReadFile(matrixFile)
	require.NoError(t, err)
	require.Contains(t, string(kept), rootMatrixText(), "%s does not say what this test proves", matrixFile)
	for _, v := range victims() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			gate := vaulttest.NewStorageGate(t)
			server := startServer(t, vaulttest.Options{Storage: v.storage, Gate: gate})
			var tenants []string
			for i := range 2 * len(rootSteps()) {
				tenants = append(tenants, fmt.Sprintf("tenant-%d", i))
			}
			emulator := server.Emulator(c1test.Options{Tenants: tenants})
			var mounts []*ownMount
			var barriers []*c1test.Barrier
			var answers sync.WaitGroup
			for i, tenant := range emulator.Tenants() {
				step, personal := rootSteps()[i/2], i%2 == 1
				options := []c1test.IdentityOption{c1test.DisplayName(step.name)}
				if personal {
					options = append(options, c1test.PersonalClient())
				}
				m := newOwnMount(server, fmt.Sprintf("c1-%d", i), tenant, object{"root_grace_period": 0, "request_timeout": longRequest.String()}, options...)
				server.BindConnector(m.mount, "app", tenant.Connector(), object{"rotate_on": "schedule"})
				mounts = append(mounts, m)
			}
			vaulttest.Eventually(t, time.Minute, func() error { // the first looks are over
				for _, m := range mounts {
					cfg, err := server.Root.Logical().Read(m.mount + "/config")
					if err != nil || cfg.Data["identity_expires_at"] == "" {
						return fmt.Errorf("%s was not looked at: %w", m.mount, err)
					}
				}
				return nil
			})
			for i, m := range mounts {
				barriers = append(barriers, holdRootRotation(t, m, rootSteps()[i/2], createOp(i%2 == 1), gate, &answers))
			}
			v.kill(t, server)
			for i, barrier := range barriers {
				if barrier != nil && rootSteps()[i/2].commits {
					barrier.Release()
				}
			}
			answers.Wait()
			v.restart(server)
			began := time.Now()
			for i, m := range mounts {
				t.Run(fmt.Sprintf("%s, personal %v", rootSteps()[i/2].name, i%2 == 1), func(t *testing.T) {
					vaulttest.Eventually(t, time.Minute, func() error { return m.works(t) })
					eventuallyWithin(t, matrixSettled+2*longRequest-time.Since(began)+time.Minute, m.rest)
					answer, err := m.root()
					require.NoError(t, err)
					require.Contains(t, m.alive(), answer.Data["client_id"])
					require.NoError(t, m.works(t))
				})
			}
		})
	}
}

// cellWorks: the credential in config was alive at any time; in the end no other one of
// its owner was, status named nothing, and the next rotation succeeded.
const cellWorks = "works"

// rootMatrixText is what docs/kill-matrix.md says of the mount's identity.
func rootMatrixText() string {
	var page strings.Builder
	page.WriteString(`
## When the mount rotates its own credential

` + "`TestRootRotationSurvivesADeathAtEachStep`" + ` kills the plugin process, and the Vault
process on another server, at each step of ` + "`config/rotate-root`" + `, of a service
principal's credential (` + "`/spc`" + `) and of a personal one (` + "`/pcc`" + `). *Works* means: at any
time the credential in ` + "`config`" + ` was alive at C1; in the end, with nobody doing anything,
no other one of its owner was, ` + "`status`" + ` named nothing, and the next rotation succeeded.

| when it dies | plugin, /spc | plugin, /pcc | Vault, /spc | Vault, /pcc |
|---|---|---|---|---|
`)
	for _, s := range rootSteps() {
		page.WriteString("| " + s.name + strings.Repeat(" | "+cellWorks, 4) + " |\n")
	}
	return page.String()
}

// holdRootRotation begins a rotation and returns once it is where it is to die. The
// barrier is nil if C1 does not hold it then.
func holdRootRotation(t *testing.T, m *ownMount, step rootStep, create string, gate *vaulttest.StorageGate, answers *sync.WaitGroup) *c1test.Barrier {
	t.Helper()
	arrives := func(arrived <-chan struct{}) {
		t.Helper()
		select {
		case <-arrived:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: %s: it never came there", m.mount, step.name)
		}
	}
	begin := func() {
		answers.Go(func() { _, _ = m.root() }) // dies
	}
	if step.op != "" {
		barrier := m.c1.Hold(create, step.when)
		begin()
		arrives(barrier.Arrived())
		return barrier
	}
	if !step.made {
		hold := gate.Hold(step.write.when, step.write.prefix, m.c1.URL())
		begin()
		arrives(hold.Arrived())
		return nil
	}
	barrier := m.c1.Hold(create, c1test.AfterCommit)
	begin()
	arrives(barrier.Arrived())
	hold := gate.Hold(step.write.when, step.write.prefix, m.c1.URL())
	barrier.Release()
	arrives(hold.Arrived())
	return nil
}

// TestRootRotationsWhileLeadersDie rotates the identity of a mount 50 times while the
// nodes of a cluster die and others use the mount. After each one the mount works.
func TestRootRotationsWhileLeadersDie(t *testing.T) {
	t.Parallel()
	const rootRotations, failoverEach = 50, 5
	cluster := vaulttest.NewCluster(t, 3)
	first := cluster.Nodes[0]
	emulator := first.Emulator(c1test.Options{})
	m := newOwnMount(first, "c1", emulator.Default(), object{"root_grace_period": 0, "request_timeout": "2s"})
	first.BindConnector(m.mount, "app", emulator.Default().Connector(), object{"rotate_on": "schedule"})
	on := func(do func(*api.Client) error) {
		t.Helper()
		vaulttest.Eventually(t, 2*time.Minute, func() error {
			var failed error
			for _, node := range cluster.Nodes {
				if node.PID() == 0 {
					continue
				}
				err := do(node.Root)
				if err == nil {
					return nil
				}
				failed = errors.Join(failed, err)
			}
			return failed
		})
	}
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = cluster.Nodes[1].Root.Logical().Write("c1/connectors/app/rotate", nil)
				}
			}
		})
	}
	seen := map[string]bool{}
	for i := range rootRotations {
		if i%failoverEach == failoverEach-1 {
			cluster.KillLeader().Return()
		}
		on(func(client *api.Client) error {
			answer, err := client.Logical().Write("c1/config/rotate-root", nil)
			if err == nil {
				seen[answer.Data["client_id"].(string)] = true
			}
			return err
		})
		on(func(client *api.Client) error {
			cfg, err := client.Logical().Read("c1/config")
			if err != nil {
				return err
			}
			require.Contains(t, m.alive(), cfg.Data["client_id"])
			_, err = client.Logical().Write("c1/connectors/app/rotate", nil)
			return err
		})
	}
	close(done)
	load.Wait()
	require.Len(t, seen, rootRotations)
	m.server = cluster.Leader()
	eventuallyWithin(t, 3*time.Minute, m.rest)
}
