// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"sync/atomic"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// node is what Vault tells of itself. Before each operation the SDK asks whether
// this node may write, and each question is a call from process to process. On
// the node that may, Vault's last word is good: a node that loses the right starts
// the engine anew, and the worker asks again. Should it be wrong once, storage
// refuses the write, and Vault is asked again.
type node struct {
	logical.SystemView
	role atomic.Pointer[role] // nil where this node may not write
}

// role is a node's place in a cluster.
type role struct {
	replication consts.ReplicationState
	localMount  bool
}

// ReplicationState is Vault's, or its last word.
func (n *node) ReplicationState() consts.ReplicationState {
	if r := n.role.Load(); r != nil {
		return r.replication
	}
	return n.SystemView.ReplicationState()
}

// LocalMount is Vault's, or its last word.
func (n *node) LocalMount() bool {
	if r := n.role.Load(); r != nil {
		return r.localMount
	}
	return n.SystemView.LocalMount()
}

// mayWrite asks Vault whether this node may write, and lets storage remember
// only if so.
func (b *backend) mayWrite() bool {
	n := b.node
	n.role.Store(&role{replication: n.SystemView.ReplicationState(), localMount: n.SystemView.LocalMount()})
	writable := b.WriteSafeReplicationState()
	if !writable {
		n.role.Store(nil)
	}
	b.store.Enable(writable)
	return writable
}
