package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// burn uses about the requested CPU time, however often other threads run.
func TestBurnUsesTheCPUTimeAskedFor(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond} {
		used := spin(threadTime, d)
		require.GreaterOrEqual(t, used, d)
		require.Less(t, used, d+5*time.Millisecond, "some µs beyond, and an interrupt")
	}
}
