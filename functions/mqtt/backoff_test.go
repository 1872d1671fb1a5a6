package mqtt

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffIsFullJitterWithinDoublingBounds(t *testing.T) {
	b := Backoff{Low: 100 * time.Millisecond, High: time.Second}
	seen := map[time.Duration]bool{}
	for i := range 100 {
		d := b.Next()
		require.Positive(t, d)
		require.LessOrEqual(t, d, min(100*time.Millisecond<<min(i, 20), time.Second))
		seen[d] = true
	}
	require.Greater(t, len(seen), 90, "it is random")
	b.Reset()
	require.LessOrEqual(t, b.Next(), 100*time.Millisecond)
	least := Backoff{Low: 1, High: 1}
	require.EqualValues(t, 1, least.Next(), "never 0, which would be no wait")
}
