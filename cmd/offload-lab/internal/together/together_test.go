package together

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/fleet"
	"app-offload/functions/pool"
)

// A new gateway gets what the service's fleet would send it: nothing of a part with too few contributing gateways.
func TestWhatFewHaveLearnedIsNotTold(t *testing.T) {
	trial := Trial{Config: fleet.DefaultConfig()}
	part := func(name string) pool.Parts { return pool.Parts{name: {Matrix: []float64{10}, Moments: []float64{5}}} }
	all := []pool.Parts{part("cloud/a"), part("cloud/a"), part("cloud/a"), part("cloud/b"), part("cloud/b")}
	told := trial.prior(all, rand.New(rand.NewPCG(1, 1)))
	require.Contains(t, told, "cloud/a")
	require.NotContains(t, told, "cloud/b")
}

// One fleet gives no interval.
func TestTheIntervalOfOneFleet(t *testing.T) {
	r := &Result{}
	for start := range r.Costs {
		for first := range r.Costs[start] {
			r.Costs[start][first] = []float64{float64(3 - start)}
		}
	}
	mean, less, ci := r.Mean(1, 0)
	require.InDelta(t, 2, mean, 0)
	require.InDelta(t, 1, less, 0)
	require.True(t, math.IsInf(ci, 1))
	r.Costs[0][0], r.Costs[1][0] = []float64{3, 3}, []float64{2, 1}
	_, less, ci = r.Mean(1, 0)
	require.InDelta(t, 1.5, less, 1e-12)
	require.InDelta(t, 1.96*0.5, ci, 1e-12)
}
