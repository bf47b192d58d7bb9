// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"testing"
	"time"
)

const pollEvery = 100 * time.Millisecond

// Eventually tries until try returns nil, and fails the test with its last
// error when that takes longer than timeout.
func Eventually(t testing.TB, timeout time.Duration, try func() error) {
	t.Helper()
	if err := Poll(pollEvery, timeout, try); err != nil {
		t.Fatalf("not within %s: %v", timeout, err)
	}
}

// Poll tries again and again, at this distance, until try returns nil or its
// timeout has passed, and returns what try returned last.
func Poll(every, timeout time.Duration, try func() error) error {
	deadline := time.Now().Add(timeout)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-ticker.C
	}
}
