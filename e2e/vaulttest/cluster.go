// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"errors"
	"fmt"
	"os"

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
	node.eventually(func() error {
		status, err := node.Root.Sys().Unseal(s.unsealKey)
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
