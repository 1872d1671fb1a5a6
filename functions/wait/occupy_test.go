package wait

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

// A node that accepts no tasks counts as busy for twice the time it may be ahead, unless its queue is longer.
func TestANodeThatTakesNothingCountsAsBusy(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	busy := func(cycles float64) float64 {
		s := &host.State{QueueCycles: cycles, Cores: 1}
		return m.EstimateWork(nil, 0, 0, s).LocalTime
	}
	for _, cycles := range []float64{0, 0.5, 1, 100} {
		s := &host.State{QueueCycles: cycles, Cores: 1}
		occupy(m, s, 1)
		require.InEpsilon(t, 2, m.EstimateWork(nil, 0, 0, s).LocalTime, 1e-9, "%v", cycles)
	}
	long := 1e6
	require.Greater(t, busy(long), 1.0)
	s := &host.State{QueueCycles: long, Cores: 1}
	occupy(m, s, 1)
	require.InDelta(t, long, s.QueueCycles, 0)
	s = &host.State{QueueCycles: 100, Cores: 1}
	occupy(m, s, busy(100))
	require.InEpsilon(t, 200, s.QueueCycles, 1e-9, "exactly as long is not longer")
}
