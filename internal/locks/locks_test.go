// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package locks

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestAKeyIsHeldByOneAndOthersAreFree(t *testing.T) {
	t.Parallel()
	var l Keyed
	unlock, err := l.TryLock("a")
	require.NoError(t, err)
	_, err = l.TryLock("a")
	require.ErrorIs(t, err, ErrTaken)
	other, err := l.TryLock("b")
	require.NoError(t, err)
	other()
	unlock()
	unlock, err = l.TryLock("a")
	require.NoError(t, err)
	unlock()
	require.Empty(t, l.held, "what nobody holds is forgotten")
}

func TestWhoWaitsLongestIsNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Keyed
		unlock, err := l.Lock(t.Context(), "a")
		require.NoError(t, err)
		turns := make(chan int, 3)
		for n := range cap(turns) {
			go func() {
				release, err := l.Lock(t.Context(), "a")
				if err == nil {
					turns <- n
					release()
				}
			}()
			synctest.Wait()
		}
		_, err = l.TryLock("a")
		require.ErrorIs(t, err, ErrTaken)
		unlock()
		synctest.Wait()
		close(turns)
		var order []int
		for n := range turns {
			order = append(order, n)
		}
		require.Equal(t, []int{0, 1, 2}, order)
		require.Empty(t, l.held)
	})
}

func TestAWaitCanBeLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l Keyed
		unlock, err := l.Lock(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := l.Lock(ctx, "a")
			left <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		unlock()
		require.Empty(t, l.held)
	})
}
