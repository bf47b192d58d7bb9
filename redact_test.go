// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// What holds a secret can be logged by accident and shows none, by any verb.
func TestWhatHoldsASecretPrintsNone(t *testing.T) {
	t.Parallel()
	const hidden = "hidden-hidden-hidden"
	cfg := config{ClientID: "calm-otter@acme.conductor.one/spc", ClientSecret: hidden, AccessToken: hidden}
	held := target.Credential{ClientID: "someone", Material: map[string]any{"client_secret": hidden}}
	made := material{ClientID: "someone", Data: map[string]any{"client_secret": hidden}, identity: &cfg}
	for _, value := range []any{
		cfg, &cfg, held, &held, made, &made,
		target.State{Current: &held},
		&target.State{Current: &held},
		target.Result{Material: held.Material},
		session{config: &cfg},
		&session{config: &cfg},
		order{session: &session{config: &cfg}},
		rotated{sharedRotation: &sharedRotation{t: &target.State{Current: &held}}},
	} {
		for _, form := range []any{value, []any{value}, map[string]any{"x": value}, struct{ X any }{value}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				text := strings.ToLower(fmt.Sprintf(verb, form))
				require.NotContains(t, text, hidden, "%T by %s", value, verb)
				require.NotContains(t, text, hex.EncodeToString([]byte(hidden)), "%T by %s", value, verb)
			}
		}
	}
	require.Equal(t, "config{calm-otter@acme.conductor.one/spc at https://acme.conductor.one}", fmt.Sprintf("%+v", &cfg))
}
