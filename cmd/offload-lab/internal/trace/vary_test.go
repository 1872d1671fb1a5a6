package trace

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVaryKeepsTheRecordings(t *testing.T) {
	set := Synthetic(3, 4, 4, 4)
	wide := Vary(set, 1, 5)
	require.NoError(t, wide.Validate())
	require.Equal(t, set.Links, wide.Links[:4])
	require.Equal(t, set.CPUs, wide.CPUs[:4])
	require.Equal(t, set.RTTs, wide.RTTs[:4])
	require.Len(t, wide.Links, 20)
	require.Equal(t, wide, Vary(set, 1, 5), "equal seeds, equal sets")
	require.NotEqual(t, wide, Vary(set, 2, 5))
	hot := 0
	for _, all := range [][]Series{wide.Links, wide.CPUs, wide.RTTs} {
		for i := range all {
			require.NoError(t, all[i].check())
			_, err := all[i].Curve(func(v float64) float64 { return v })
			require.NoError(t, err)
		}
	}
	for _, s := range wide.CPUs {
		sum := 0.0
		for _, v := range s.Values {
			require.LessOrEqual(t, v, 100.0)
			sum += v
		}
		if sum/float64(len(s.Values)) > 70 {
			hot++
		}
	}
	require.Positive(t, hot, "a few nodes must be hot")
}
