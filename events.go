// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// sendEvent sends an event of type c1/<name>, for which nobody waits. A lost
// event changes nothing, so failures are only logged.
func (b *backend) sendEvent(ctx context.Context, name string, metadata ...string) {
	send := func() {
		err := logical.SendEvent(context.WithoutCancel(ctx), b, "c1/"+name, metadata...)
		if err != nil && !errors.Is(err, framework.ErrNoEvents) {
			b.Logger().Debug("could not send an event", "event_type", "c1/"+name, "error", err)
		}
	}
	if !b.work.enter() {
		send() // the plugin is stopping
		return
	}
	go func() {
		defer b.work.leave()
		send()
	}()
}
