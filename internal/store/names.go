// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/hashicorp/vault/sdk/helper/keysutil"
	"github.com/hashicorp/vault/sdk/helper/salt"
	"github.com/hashicorp/vault/sdk/logical"
)

// NamesPrefix is the folder of the two entries that all other names depend on.
// Without them nothing that is stored can be found again.
const NamesPrefix = "names/"

const (
	saltKey   = NamesPrefix + "salt"
	policyKey = NamesPrefix + "policy"

	// mostNames bounds the keys that are remembered: a binding's and its
	// target's.
	mostNames = 2 * mostRemembered
)

// names holds what entries are named with: a salt for keyed hashes, and a
// policy that encrypts names.
type names struct {
	salt   *secret[salt.Salt]
	policy *secret[keysutil.EncryptedKeyStorageWrapper]

	mu   sync.Mutex
	keys map[Key]string // as storage sees them
}

// newNames returns the names of a mount that encrypts those in one folder.
func newNames(listed string) *names {
	openListed := func(ctx context.Context, entry *logical.StorageEntry) (*keysutil.EncryptedKeyStorageWrapper, error) {
		return openPolicy(ctx, entry, listed)
	}
	return &names{
		salt:   newSecret(saltKey, makeSalt, openSalt),
		policy: newSecret(policyKey, makePolicy, openListed),
		keys:   map[Key]string{},
	}
}

// known returns a key as storage sees it, or "" if that is to be worked out.
func (n *names) known(key Key) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.keys[key]
}

func (n *names) learn(key Key, raw string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.keys) >= mostNames {
		for other := range n.keys { // any will do
			delete(n.keys, other)
			break
		}
	}
	n.keys[key] = raw
}

// invalidate forgets both secrets if the key is one of theirs, and reports
// whether it is.
func (n *names) invalidate(key string) bool {
	if key != saltKey && key != policyKey {
		return false
	}
	n.salt.forget()
	n.policy.forget()
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.keys)
	return true
}

// Prepare makes what entries are named with, unless it is there. Otherwise the
// first write of a name does.
func (s *Store) Prepare(ctx context.Context) error {
	if _, err := s.names.salt.get(ctx, s, true); err != nil {
		return err
	}
	_, err := s.names.policy.get(ctx, s, true)
	return err
}

// secret is an entry that names depend on. It is made once in the life of a
// mount, by the node that may write, and read once in the life of a process.
type secret[T any] struct {
	key   string
	fresh func(context.Context) (*logical.StorageEntry, error)
	open  func(context.Context, *logical.StorageEntry) (*T, error)
	turn  chan struct{} // held while it is read or made

	// made may not be stored yet; the turn guards it. A write that failed may
	// still be carried out, and must not replace another secret: so the same
	// one is written again.
	made *logical.StorageEntry

	mu     sync.Mutex
	opened *T
	age    int // how often it was forgotten
}

func newSecret[T any](key string, fresh func(context.Context) (*logical.StorageEntry, error),
	open func(context.Context, *logical.StorageEntry) (*T, error),
) *secret[T] {
	return &secret[T]{key: key, fresh: fresh, open: open, turn: make(chan struct{}, 1)}
}

func (c *secret[T]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = nil
	c.age++
}

func (c *secret[T]) known() (opened *T, age int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened, c.age
}

// get returns the secret. If there is none it is made, or else the secret is
// nil: a reader must not write, since it may be on a standby.
func (c *secret[T]) get(ctx context.Context, s *Store, create bool) (*T, error) {
	if opened, _ := c.known(); opened != nil {
		return opened, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	opened, age := c.known()
	if opened != nil {
		return opened, nil
	}
	entry, err := s.Get(ctx, c.key)
	if err == nil && entry == nil && create {
		entry, err = c.create(ctx, s)
	}
	if err != nil || entry == nil {
		return nil, err
	}
	if opened, err = c.open(ctx, entry); err != nil {
		return nil, &UnreadableError{What: "what entries are named with", Key: c.key, Cause: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age == age {
		c.opened = opened
	}
	return opened, nil
}

// create stores a new secret; the turn is held.
func (c *secret[T]) create(ctx context.Context, s *Store) (*logical.StorageEntry, error) {
	if c.made == nil {
		made, err := c.fresh(ctx)
		if err != nil {
			return nil, err
		}
		made.Key = c.key
		c.made = made
	}
	if err := s.Put(ctx, c.made); err != nil {
		return nil, err
	}
	return c.made, nil
}

// The SDK makes and opens both on a storage of its own choice of keys. It gets
// one in memory, so that each is a single read or write of the mount's.

func saltConfig() *salt.Config {
	return &salt.Config{Location: saltKey, HashFunc: salt.SHA256Hash, HMAC: sha256.New, HMACType: "hmac-sha256"}
}

func makeSalt(ctx context.Context) (*logical.StorageEntry, error) {
	scratch := &logical.InmemStorage{}
	if _, err := salt.NewSalt(ctx, scratch, saltConfig()); err != nil {
		return nil, err
	}
	return scratch.Get(ctx, saltKey)
}

func openSalt(ctx context.Context, entry *logical.StorageEntry) (*salt.Salt, error) {
	if len(entry.Value) == 0 {
		return nil, errors.New("it is empty") // the SDK would make another one
	}
	scratch := &logical.InmemStorage{}
	if err := scratch.Put(ctx, entry); err != nil {
		return nil, err
	}
	return salt.NewSalt(ctx, scratch, saltConfig())
}

func makePolicy(ctx context.Context) (*logical.StorageEntry, error) {
	const name = "names"
	scratch := &logical.InmemStorage{}
	policy := keysutil.NewPolicy(keysutil.PolicyConfig{
		Name: name, Type: keysutil.KeyType_AES256_GCM96,
		Derived: true, KDF: keysutil.Kdf_hkdf_sha256, ConvergentEncryption: true,
		VersionTemplate: keysutil.EncryptedKeyPolicyVersionTpl,
	})
	if err := policy.Rotate(ctx, scratch, rand.Reader); err != nil {
		return nil, err
	}
	return scratch.Get(ctx, "policy/"+name) // not the archive, which is for keys that were replaced
}

func openPolicy(ctx context.Context, entry *logical.StorageEntry, folder string) (*keysutil.EncryptedKeyStorageWrapper, error) {
	scratch := &logical.InmemStorage{}
	if err := scratch.Put(ctx, entry); err != nil {
		return nil, err
	}
	policy, err := keysutil.LoadPolicy(ctx, scratch, entry.Key)
	if err != nil {
		return nil, err
	}
	if policy.LatestVersion == 0 {
		return nil, errors.New("it holds no key")
	}
	return keysutil.NewEncryptedKeyStorageWrapper(keysutil.EncryptedKeyStorageConfig{
		Policy: policy, Prefix: folder, CacheSize: mostRemembered,
	})
}

// onlyKey is a storage that only learns under which key an entry would be.
type onlyKey struct {
	logical.Storage
	key string
}

func (o *onlyKey) Get(_ context.Context, key string) (*logical.StorageEntry, error) {
	o.key = key
	return nil, nil
}
