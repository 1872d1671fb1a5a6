package trace

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The parts are disjoint and complete. A kind with a single recording is in both.
func TestPartsShareNoRecording(t *testing.T) {
	set := Synthetic(1, 10, 7, 1)
	learn, err := set.Only(Learn)
	require.NoError(t, err)
	judged, err := set.Only(Judged)
	require.NoError(t, err)
	names := map[string]int{}
	for _, part := range []*Set{learn, judged} {
		for _, kind := range [][]Series{part.Links, part.CPUs} {
			for _, s := range kind {
				names[s.Name]++
			}
		}
		require.Len(t, part.RTTs, 1)
	}
	require.Len(t, names, 17)
	for name, n := range names {
		require.Equal(t, 1, n, name)
	}
	require.Len(t, judged.Links, 3)
	require.Len(t, judged.CPUs, 2)
	all, err := set.Only(All)
	require.NoError(t, err)
	require.Equal(t, set, all)
	_, err = set.Only("best")
	require.ErrorContains(t, err, `"best"`)
}
