// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChallengesAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	nonce := challenge{offered: true, code: "use_dpop_nonce", nonce: "n"}
	for line, want := range map[string]challenge{
		``:                              {},
		`Bearer`:                        {bearer: true},
		`Bearer error="use_dpop_nonce"`: {bearer: true},
		`DPoP`:                          {offered: true},
		`DPoP error="use_dpop_nonce"`:   nonce,
		`dpop error=use_dpop_nonce`:     nonce,
		`DPoP Error = "use_dpop_nonce"`: nonce,
		`DPoP algs="a b",error="use_dpop_nonce", d="\"q\", error=\"x\""`: nonce,
		`DPoP error="use_dpop_nonce", error="invalid_token"`:             nonce,
		`DPoP error="invalid_token"`:                                     {offered: true, code: "invalid_token"},
		`Bearer realm="DPoP", error="invalid_dpop_proof"`:                {bearer: true},
		`Bearer realm="x", DPoP error="use_dpop_nonce"`:                  {offered: true, bearer: true, code: "use_dpop_nonce", nonce: "n"},
		`DPoP algs="EdDSA", Bearer error="invalid_token"`:                {offered: true, bearer: true},
		`DPoPish error="use_dpop_nonce"`:                                 {},
		`DPoP error="use_dpop_nonce`:                                     {offered: true},
		`Negotiate YII==, DPoP error="invalid_dpop_proof", algs=""`:      {offered: true, code: "invalid_dpop_proof"},
	} {
		got := challengeIn(http.Header{"Www-Authenticate": {line}, "Dpop-Nonce": {"n"}})
		require.Equal(t, want, got, line)
	}
	require.Equal(t, challenge{offered: true, bearer: true, code: "use_dpop_nonce", nonce: "n"}, challengeIn(http.Header{
		"Www-Authenticate": {`Bearer`, `DPoP error="use_dpop_nonce"`}, "Dpop-Nonce": {"n"},
	}))
	require.True(t, nonce.wantsProofs())
	require.True(t, challenge{offered: true}.wantsProofs())
	require.False(t, challenge{offered: true, bearer: true, code: "invalid_token"}.wantsProofs())
}
