package together

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
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
	r.Costs[0][0], r.Costs[1][0] = []float64{3, 3, 3}, []float64{2, 1, 0}
	_, less, ci = r.Mean(1, 0)
	require.InDelta(t, 2, less, 1e-12)
	require.InDelta(t, 1.96*math.Sqrt(1.0/3), ci, 1e-12)
}

// A trial never changes: the costs of the first tasks by start, for policies that learn and that do not, with and without noise.
func TestATrialGoesAsItAlwaysWent(t *testing.T) {
	c := sim.DefaultConfig()
	c.Tasks, c.Rates, c.Unknown = 150, [2]float64{3, 5}, sim.Unknown{Kind: 0.7, Task: 0.3}
	w, err := sim.NewWorld(c, trace.Synthetic(7, 6, 3, 3))
	require.NoError(t, err)
	var b strings.Builder
	for _, one := range []Trial{{Policy: "bandit"}, {Policy: "cost"}, {Policy: "bandit", Epsilon: 5}} {
		one.Learn, one.Judge, one.Nodes, one.Fleets, one.Newcomers, one.Seed, one.Config = w, w, 4, 2, 2, 3, fleet.DefaultConfig()
		one.Config.MinOutcomes = 5
		r, err := one.Run(t.Context())
		require.NoError(t, err)
		for start, name := range Starts {
			fmt.Fprintf(&b, "%s ε %g, %s:", one.Policy, one.Epsilon, name)
			for first := range Firsts {
				fmt.Fprintf(&b, " %.7g", r.Costs[start][first])
			}
			b.WriteByte('\n')
		}
	}
	golden.Require(t, "trial.golden", b.String())
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = (&Trial{Fleets: 1}).Run(ended)
	require.ErrorIs(t, err, context.Canceled)
	_, err = (&Trial{Learn: w, Judge: w, Nodes: 1, Fleets: 1, Policy: "luck"}).Run(t.Context())
	require.ErrorContains(t, err, "luck")
}
