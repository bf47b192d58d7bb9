// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"maps"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// RequestTimeout is the request_timeout that Configure sets: the engine waits
// twice as long before it settles an unknown outcome.
const RequestTimeout = "2s"

// RegisterPlugin puts the plugin into Vault's catalog, with NAME=value for its
// environment; again is fine.
func (s *Server) RegisterPlugin(env ...string) {
	s.t.Helper()
	fatalIf(s.t, s.Root.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: PluginName, Type: api.PluginTypeSecrets, Command: PluginName,
		SHA256: s.plugin.sha256, Version: PluginVersion, Env: env,
	}))
}

// Mount enables the plugin at a path. On a shared server it is disabled when the
// test ends, which revokes its leases: C1 must be up then.
func (s *Server) Mount(path string, tune ...func(*api.MountConfigInput)) {
	s.t.Helper()
	config := api.MountConfigInput{PluginVersion: PluginVersion}
	for _, f := range tune {
		f(&config)
	}
	fatalIf(s.t, s.Root.Sys().Mount(path, &api.MountInput{Type: PluginName, Config: config}))
	s.t.Cleanup(func() {
		s.t.Helper()
		if s.PID() == 0 || s.options.Measure {
			return
		}
		s.readEverything(strings.TrimSuffix(path, "/"))
		if !s.shared {
			return
		}
		if err := s.Root.Sys().Unmount(path); err != nil {
			s.t.Errorf("disabling %s after the test: %v", path, err)
		}
	})
}

// Emulator starts an emulated C1 with TLS for the length of the test, and has
// its secrets searched for.
func (s *Server) Emulator(o c1test.Options) *c1test.Emulator {
	s.t.Helper()
	o.TLS = true
	e := c1test.StartT(s.t, o)
	s.Watch(e)
	return e
}

// Configure writes a mount's config for a tenant of a watched emulator.
func (s *Server) Configure(mount string, tenant *c1test.Tenant, extra map[string]any) {
	s.t.Helper()
	s.ConfigureAs(mount, tenant, tenant.Identity(), extra)
}

// ConfigureAs is Configure with an identity of the test's own.
func (s *Server) ConfigureAs(mount string, tenant *c1test.Tenant, identity c1test.Identity, extra map[string]any) {
	s.t.Helper()
	e := s.outputs.emulatorOf(tenant)
	if e == nil {
		s.t.Fatal("start the emulator with Server.Emulator, or give it to Server.Watch")
	}
	data := map[string]any{
		"client_id": identity.ClientID, "client_secret": identity.ClientSecret,
		"url": tenant.URL(), "ca_cert": e.CACertPEM(), "request_timeout": RequestTimeout,
	}
	maps.Copy(data, extra)
	s.write(mount, "config", data)
}

// BindConnector binds a name to a connector, with rotate_on=read unless extra
// says otherwise.
func (s *Server) BindConnector(mount, name string, ref c1test.ConnectorRef, extra map[string]any) {
	s.t.Helper()
	data := map[string]any{"app_id": ref.AppID, "connector_id": ref.ConnectorID, "rotate_on": "read"}
	maps.Copy(data, extra)
	s.write(mount, "connectors/"+name, data)
}

// BindDecoy binds a name to a decoy, with rotate_on=write unless extra says
// otherwise.
func (s *Server) BindDecoy(mount, name, decoyID string, extra map[string]any) {
	s.t.Helper()
	data := map[string]any{"decoy_id": decoyID, "rotate_on": "write"}
	maps.Copy(data, extra)
	s.write(mount, "decoys/"+name, data)
}

func (s *Server) write(mount, path string, data map[string]any) {
	s.t.Helper()
	if _, err := s.Root.Logical().Write(strings.TrimSuffix(mount, "/")+"/"+path, data); err != nil {
		s.t.Fatalf("writing %s: %v", path, err)
	}
}
