// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// Logins with DPoP and of workloads fit the description, requests too; so do the
// challenges and refusals.
func TestProvedAndFederatedLoginsKeepTheContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	client := &http.Client{Transport: f.recorder}
	issuer := c1test.NewIssuer("https://ci.example")
	login := func(in c1test.LoginRequest) (string, error) {
		in.URL, in.Audience, in.Now = f.c1.URL(), f.c1.Audience(), time.Now()
		return c1test.Login(ctx, client, in)
	}

	workload := f.c1.NewFederatedIdentity(issuer.Trust("job"))
	for subject, code := range map[string]string{"job": "", "another": "invalid_grant"} {
		_, err := login(c1test.LoginRequest{
			ClientID: workload.ClientID, SubjectToken: issuer.Token(subject, f.c1.Audience(), time.Now()),
		})
		if code == "" {
			assert.NoError(t, err, subject)
			continue
		}
		assert.EqualError(t, err, code, subject)
	}

	bound := f.c1.NewIdentity(c1test.RequireDPoP())
	prover := c1test.NewProver()
	f.c1.SetDPoPNonces(true, true)
	_, err := login(c1test.LoginRequest{ClientID: bound.ClientID, ClientSecret: bound.ClientSecret})
	require.EqualError(t, err, "invalid_dpop_proof")
	token, err := login(c1test.LoginRequest{
		ClientID: bound.ClientID, ClientSecret: bound.ClientSecret, Form: c1test.LoginDPoP, Prover: prover,
	})
	require.NoError(t, err)
	require.Equal(t, 2, f.c1.Changes(c1test.OpToken), "the workload's and this one")

	nonce := ""
	for _, want := range []int{http.StatusUnauthorized, http.StatusOK} {
		rq, err := http.NewRequestWithContext(ctx, http.MethodGet, f.c1.URL()+"/api/v1/auth/introspect", http.NoBody)
		require.NoError(t, err)
		proof, err := prover.Prove(rq.Method, rq.URL.String(), token, nonce, time.Now())
		require.NoError(t, err)
		rq.Header.Set("Authorization", "DPoP "+token)
		rq.Header.Set("DPoP", proof)
		response, err := f.recorder.RoundTrip(rq)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode)
		nonce = response.Header.Get("DPoP-Nonce")
	}
	assert.Empty(t, f.recorder.found())
	for _, op := range []string{c1test.OpToken, c1test.OpIntrospect} {
		assert.Positive(t, f.recorder.saw(op, 2), op)
		assert.Positive(t, f.recorder.saw(op, 4), op)
	}
}
