package wait

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

// A node that accepts no tasks counts as just busy, so that bids for the link are not distorted.
func TestOccupy(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	for _, ahead := range []float64{0, 0.05, 10} {
		s := host.State{QueueCycles: 0.1}
		occupy(m, &s, ahead)
		e := m.EstimateWork(nil, 0, 0, &s)
		require.Greater(t, e.LocalTime, ahead)
		require.LessOrEqual(t, e.LocalTime, 2*ahead+0.1)
		s.QueueCycles *= 100
		was := s
		occupy(m, &s, ahead)
		require.Equal(t, was, s)
	}
}
