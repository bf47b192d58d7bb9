// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package drain

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatIsUnderWayEndsAndNothingBeginsAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group
		require.True(t, g.Enter())
		go func() {
			time.Sleep(time.Minute)
			g.Leave()
		}()
		require.False(t, g.Drain(time.Second), "it has not ended")
		require.False(t, g.Enter(), "no more")
		require.True(t, g.Drain(time.Hour))
		g.Wait()
	})
}
