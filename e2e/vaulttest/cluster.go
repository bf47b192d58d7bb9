// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Join starts more nodes of this server's raft cluster, which stand by until the
// active one is gone.
func (s *Server) Join(nodes int) []*Server {
	s.t.Helper()
	var joined []*Server
	for range nodes {
		joined = append(joined, s.join())
	}
	for _, node := range joined {
		node.eventually(node.votes)
	}
	return joined
}

func (s *Server) join() *Server {
	s.t.Helper()
	if s.options.Storage != Raft {
		s.t.Fatal("only servers on raft make a cluster")
	}
	node := &Server{t: s.t, instance: newInstance(s.t, s.options), outputs: s.outputs}
	node.rootToken, node.unsealKey = s.rootToken, s.unsealKey
	node.Root = node.Client(s.rootToken)
	s.t.Cleanup(func() {
		node.t.Helper()
		node.searchForSecrets()
		node.Stop()
		node.reportTrouble()
		_ = os.RemoveAll(node.dir)
	})
	node.answers(node.Root)
	node.eventually(func() error {
		_, err := node.Root.Sys().RaftJoin(&api.RaftJoinRequest{LeaderAPIAddr: s.addr})
		return err
	})
	// The key once: for a second one that comes while the node joins, Vault runs
	// its standby loop twice, and such a node never steps down.
	node.eventually(func() error {
		_, err := node.Root.Sys().Unseal(s.unsealKey)
		return err
	})
	node.eventually(func() error {
		status, err := node.Root.Sys().SealStatus()
		if err == nil && status.Sealed {
			err = errors.New("still sealed")
		}
		return err
	})
	node.eventually(func() error {
		health, err := node.Root.Sys().Health()
		if err == nil && !health.Standby {
			err = errors.New("not standing by yet")
		}
		if err == nil {
			_, err = node.Root.Sys().ListMounts() // by way of the active node
		}
		return err
	})
	return node
}

// votes reports an error until this node counts when a leader is elected, for
// which Vault takes its time.
func (s *Server) votes() error {
	configuration, err := s.Root.Logical().Read("sys/storage/raft/configuration")
	if err != nil {
		return err
	}
	config, _ := configuration.Data["config"].(map[string]any)
	servers, _ := config["servers"].([]any)
	for _, server := range servers {
		if peer, _ := server.(map[string]any); "http://"+fmt.Sprint(peer["node_id"]) == s.addr && peer["voter"] == true {
			return nil
		}
	}
	return errors.New("has no vote yet")
}

// Active reports whether this node is the one that acts.
func (s *Server) Active() bool {
	health, err := s.Root.Sys().Health()
	return err == nil && health.Initialized && !health.Sealed && !health.Standby
}

// Cluster is a raft cluster of which nodes die and come back.
type Cluster struct {
	t     testing.TB
	Nodes []*Server
}

// NewCluster starts a server on raft with the plugin registered, and joins more
// until there are as many nodes.
func NewCluster(t testing.TB, nodes int) *Cluster {
	t.Helper()
	first := Start(t, Options{Storage: Raft})
	first.RegisterPlugin()
	return &Cluster{t: t, Nodes: append([]*Server{first}, first.Join(nodes-1)...)}
}

// Leader returns the node that acts, as soon as there is one which serves
// requests.
func (c *Cluster) Leader() *Server {
	c.t.Helper()
	var leader *Server
	Eventually(c.t, startTimeout, func() error {
		for _, node := range c.Nodes {
			if node.Active() {
				leader = node
				_, err := node.Root.Sys().ListMounts()
				return err
			}
		}
		return errors.New("no node is active")
	})
	return leader
}

// Return starts a node again after Kill or Stop, and opens it. It returns once
// the node serves requests, by itself or by way of the active one.
func (s *Server) Return() {
	s.t.Helper()
	fatalIf(s.t, s.run())
	s.answers(s.Root)
	s.eventually(func() error {
		_, err := s.Root.Sys().Unseal(s.unsealKey)
		return err
	})
	s.Serves()
}

// Serves waits until this node answers requests of the cluster, whether it
// stands by or is active.
func (s *Server) Serves() {
	s.t.Helper()
	s.eventually(func() error {
		_, err := s.Root.Sys().ListMounts()
		return err
	})
}

// StepDown has the active node give up leadership, and returns once another
// node, or the same, acts again.
func (c *Cluster) StepDown() {
	c.t.Helper()
	leader := c.Leader()
	Eventually(c.t, startTimeout, func() error {
		if !leader.Active() {
			return nil
		}
		// Again, if Vault had not finished becoming active the last time. It may
		// cut the answer off together with all other requests.
		err := leader.Root.Sys().StepDown()
		if !leader.Active() {
			return nil
		}
		return errors.Join(errors.New("it has not stepped down yet"), err)
	})
	c.Leader()
}

// KillLeader ends the active node with SIGKILL, and returns it once another one
// acts.
func (c *Cluster) KillLeader() *Server {
	c.t.Helper()
	leader := c.Leader()
	leader.Kill()
	c.Leader()
	return leader
}

// InstallPlugin puts the plugin in another version beside the one that is there, on
// every node, and into the catalog. It is built from the sources in that version, or
// taken from a binary, whose own version counts then. It returns the version.
func (c *Cluster) InstallPlugin(version, binary string) string {
	c.t.Helper()
	var plugin *builtPlugin
	var err error
	if binary == "" {
		plugin, err = build(thePlugin, version, raceEnabled)
	} else {
		plugin, err = pluginAt(binary)
	}
	fatalIf(c.t, err)
	said, err := exec.CommandContext(c.t.Context(), plugin.path, "-version").Output()
	fatalIf(c.t, err)
	fields := strings.Fields(string(said)) // vault-plugin-c1 VERSION (COMMIT)
	if len(fields) < 2 || fields[0] != PluginName {
		c.t.Fatalf("%s is no %s", plugin.path, PluginName)
	}
	version = fields[1]
	command := ""
	for _, node := range c.Nodes {
		command = node.place(plugin, version)
	}
	fatalIf(c.t, c.Leader().Root.Sys().RegisterPlugin(&api.RegisterPluginInput{
		Name: PluginName, Type: api.PluginTypeSecrets, Command: command, SHA256: plugin.sha256, Version: version,
	}))
	return version
}
