// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Package c1 is a HashiCorp Vault secrets engine that rotates C1 connector
// credentials and decoys and returns their one-time material as Vault
// responses.
package c1

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/drain"
	"github.com/c1-community/vault-plugin-c1/internal/locks"
	"github.com/c1-community/vault-plugin-c1/internal/store"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

const backendHelp = `
The C1 secrets engine holds one C1 (conductor.one) identity and hands out
credentials that C1 shows exactly once: those of connectors, and of decoys,
which are honey-credentials that raise a finding when somebody uses them.

Write config, then bind a name to a connector or a decoy under connectors/ or
decoys/, then read or write connector-creds/:name or decoy-creds/:name. Each of
those ROTATES the credential at C1 or hands out the stored one, as the binding's
rotate_on says: give a policy for rotate_on=read only to the credential's owner.
`

// seams are what tests replace; the zero value is the released behaviour.
type seams struct {
	now       func() time.Time  // the clock, time.Now
	transport http.RoundTripper // towards C1, built from config
	lockWait  time.Duration     // longest wait for a target's turn, maxLockWait
	// identityTokenFile holds the JWT of a federated mount; from the environment.
	identityTokenFile string
}

// backend is one mount. All that matters is in storage; what is held here can
// be dropped at any time.
type backend struct {
	*framework.Backend
	seams
	version string
	node    *node
	store   *store.Store
	tally   *tally
	kinds   map[target.Kind]kind

	sessions sessionCache
	locks    locks.Keyed // of binding names, and then of targets: in this order
	shared   sharedRotations
	agenda   *agenda.Agenda
	work     drain.Group // rotations and settlements under way
	life     context.Context
	end      context.CancelFunc // of life, when the plugin stops

	replan replanner
}

// Factory returns the engine's factory for a plugin of this version, which
// must be the one that the plugin is registered with.
func Factory(version string) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		b := newBackend(version, seams{identityTokenFile: os.Getenv(identityTokenFileEnv)})
		if err := b.Setup(ctx, conf); err != nil {
			return nil, err
		}
		return b, nil
	}
}

// New returns the engine without storage: enough for a generator of
// documentation to walk its paths.
func New(version string) *framework.Backend {
	return newBackend(version, seams{}).Backend
}

func newBackend(version string, s seams) *backend {
	clock := s.now
	if clock == nil {
		clock = time.Now
	}
	// The wall clock alone, since what is remembered must be what storage gives, and to
	// the millisecond, since each state holds half a dozen times.
	s.now = func() time.Time { return clock().Truncate(time.Millisecond) }
	if s.lockWait == 0 {
		s.lockWait = maxLockWait
	}
	b := &backend{seams: s, version: version, tally: newTally(), kinds: map[target.Kind]kind{
		target.Connector: connectorKind{}, target.Decoy: decoyKind{}, target.Identity: identityKind{},
	}}
	b.life, b.end = context.WithCancel(context.Background())
	b.replan.wanted.Store(true) // the process before may have died while it was at it
	b.Backend = &framework.Backend{
		Help:           strings.TrimSpace(backendHelp),
		BackendType:    logical.TypeLogical,
		RunningVersion: version,
		PathsSpecial: &logical.Paths{
			SealWrapStorage: []string{configKey, targetPrefix, store.NamesPrefix},
		},
		Paths:          paths(),
		Secrets:        secrets(),
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Invalidate:     b.invalidate,
		Clean:          b.clean,
	}
	return b
}

// paths and secrets are the same in each mount of a process, and would be most of what
// an idle one takes.
var (
	paths   = sync.OnceValue(anchoredPaths)
	secrets = sync.OnceValue(allSecrets)
)

// anchoredPaths leave nothing for the framework to anchor, which would change the
// paths of every mount.
func anchoredPaths() []*framework.Path {
	all := allPaths()
	for _, path := range all {
		path.Pattern = "^" + path.Pattern // all end with $
	}
	return all
}

// allPaths are in the order in which docs/api.md describes them. No two match the same
// request, since a name holds no slash.
func allPaths() []*framework.Path {
	return slices.Concat(
		[]*framework.Path{pathConfig(), pathRotateRoot()},
		ofBothKinds(pathHistory),
		ofBothKinds(pathRotate),
		ofBothKinds(pathPause, pathResume),
		[]*framework.Path{pathAdopt()},
		[]*framework.Path{pathConnector(), pathListBindings(target.Connector), pathDecoy(), pathListBindings(target.Decoy)},
		[]*framework.Path{pathConnectorCreds(), pathDecoyCreds(), pathKVFolders()},
		ofBothKinds(pathKVData, pathKVMetadata, pathKVList),
		[]*framework.Path{pathLookup(), pathStatus(), pathCheck(), pathMetrics()},
	)
}

// ofBothKinds are paths that connectors and decoys have alike.
func ofBothKinds(declare ...func(target.Kind) *framework.Path) []*framework.Path {
	var both []*framework.Path
	for _, k := range bindableKinds {
		for _, path := range declare {
			both = append(both, path(k))
		}
	}
	return both
}

func allSecrets() []*framework.Secret {
	return []*framework.Secret{
		secretCreds(target.Connector, connectorCredsFields()),
		secretCreds(target.Decoy, decoyCredsFields()),
	}
}

// Setup keeps the storage for the worker, which runs outside of any request.
func (b *backend) Setup(ctx context.Context, conf *logical.BackendConfig) error {
	b.node = &node{SystemView: conf.System}
	known := *conf
	known.System = b.node
	if err := b.Backend.Setup(ctx, &known); err != nil {
		return err
	}
	b.store = newStore(conf.StorageView, b.version, b.now)
	b.agenda = b.newAgenda()
	return nil
}

// newStore returns the engine's store on a mount's storage.
func newStore(s logical.Storage, version string, now func() time.Time) *store.Store {
	return store.New(s, store.Options{
		Now: now, Version: version, Listed: bindingPrefix,
		Remember: []string{configKey, bindingPrefix, targetPrefix},
	})
}

// initialize wakes the worker so that what fell due while no process ran is
// settled. It rotates nothing by itself.
func (b *backend) initialize(context.Context, *logical.InitializationRequest) error {
	b.wake()
	return nil
}

// periodic only wakes the worker: Vault holds its state lock while it runs.
func (b *backend) periodic(context.Context, *logical.Request) error {
	b.wake()
	return nil
}

func (b *backend) invalidate(_ context.Context, key string) {
	b.store.Invalidate(key)
	switch key {
	case configKey:
		b.sessions.drop()
	case agenda.WatermarkKey:
		b.agenda.Forget()
	}
}

// clean stops the intake and waits for what is under way, for as long as one
// call to C1 may take. On a mount that is being disabled it then ends what
// Vault has no lease for, since the storage that knows of it is about to go.
func (b *backend) clean(ctx context.Context) {
	b.end()
	timeout := defaultRequestTimeout
	if cfg, err := readConfig(ctx, b.store); err == nil && cfg != nil {
		timeout = cfg.RequestTimeout
	}
	if !b.work.Drain(timeout) {
		b.Logger().Warn("stopping while a call to C1 is under way; it is settled from the stored attempt")
	}
	if b.System().Tainted() && b.WriteSafeReplicationState() {
		b.endEverything(ctx)
	}
	b.sessions.drop()
	b.store.Enable(false)
}
