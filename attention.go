// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"

	"github.com/c1-community/vault-plugin-c1/internal/store"
)

// A mark attention/<reason>/<name> says that a target needs a person, so that
// status costs what is wrong and not what exists.
const attentionPrefix = "attention/"

// markKey is the mark of a target that storage knows by this name.
func markKey(reason, name string) store.Key {
	return store.Fixed(attentionPrefix + reason + "/" + name)
}

func putMark(ctx context.Context, s *store.Store, reason string, ref targetRef) error {
	name, err := s.Name(ctx, targetKey(ref))
	if err != nil {
		return err
	}
	return s.Mark(ctx, markKey(reason, name))
}

func dropMark(ctx context.Context, s *store.Store, reason string, ref targetRef) error {
	name, err := s.Name(ctx, targetKey(ref))
	if err != nil {
		return err
	}
	return s.Remove(ctx, markKey(reason, name))
}

// markedFor lists the names of the targets that are marked for a reason.
func markedFor(ctx context.Context, s *store.Store, reason string) ([]string, error) {
	return s.List(ctx, attentionPrefix+reason+"/")
}
