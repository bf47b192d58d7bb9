// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLeaksAreFoundWhereverTheyAre(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-of-the-emulator"
	const at = "printed: "
	for name, leak := range map[string]func(t *testing.T, s *Server){
		"in a file": func(t *testing.T, s *Server) {
			require.NoError(t, os.WriteFile(filepath.Join(s.dir, "data", "vault.db"), []byte(at+secret), 0o600))
		},
		"in what a command printed": func(_ *testing.T, s *Server) { s.Collect("stderr", []byte(at+secret)) },
		"in an answer":              func(t *testing.T, s *Server) { get(t, s, http.StatusOK, "/v1/c1/status", at+secret) },
		"in a refused vend": func(t *testing.T, s *Server) {
			get(t, s, http.StatusConflict, "/v1/c1/connector-creds/github", at+secret)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := emptyServer(t)
			require.Empty(t, s.Leaks([]string{secret}))
			leak(t, s)
			leaks := s.Leaks([]string{"another", secret})
			require.Len(t, leaks, 1)
			require.Equal(t, len(at), leaks[0].Offset)
			require.NotContains(t, leaks[0].String(), secret)
		})
	}
}

func TestEachOfManySecretsIsFound(t *testing.T) {
	t.Parallel()
	secrets := []string{"", "short", "short"}
	for i := range 2000 {
		secrets = append(secrets, fmt.Sprintf("secret-token:c1:v1:%d:the-same-in-the-middle:%016d", i, i*i))
	}
	find := newFinder(secrets)
	text := strings.Repeat("secret-token:c1:v1:7:the-same-in-the-middle:0000000000000048, and nothing more. ", 3)
	require.Equal(t, -1, find.in([]byte(text)))
	require.Equal(t, -1, find.in(nil))
	for _, secret := range secrets[1:] {
		require.Equal(t, len(text), find.in([]byte(text+secret)))
		require.Equal(t, 0, find.in([]byte(secret+text)))
		require.Equal(t, -1, find.in([]byte(secret[1:]+text)))
	}
	require.Equal(t, -1, newFinder(nil).in([]byte(text)))
}

func TestVendingMayShowASecret(t *testing.T) {
	t.Parallel()
	s := emptyServer(t)
	for _, path := range []string{"/v1/c1/connector-creds/github", "/v1/some/mount/decoy-creds/bait", "/v1/sys/wrapping/unwrap"} {
		require.Equal(t, "a-secret", get(t, s, http.StatusOK, path, "a-secret"))
	}
	require.Empty(t, s.Leaks([]string{"a-secret"}))
}

func emptyServer(t *testing.T) *Server {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	return &Server{t: t, instance: &instance{dir: dir}, outputs: &outputs{}}
}

// get sends a request through the recorder to a server with a fixed answer.
func get(t *testing.T, s *Server, status int, path, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	require.NoError(t, err)
	resp, err := (&recorder{outputs: s.outputs, next: http.DefaultTransport}).RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(got)
}
