package sim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// An episode never changes, task for task: published figures of a seed stay comparable.
func TestAnEpisodeGoesAsItAlwaysWent(t *testing.T) {
	var b strings.Builder
	for _, belief := range []float64{1, 2.5} {
		w := world(t, func(c *Config) { c.Tasks, c.Rates, c.Beliefs.Edge = 60, [2]float64{2, 6}, belief })
		for _, name := range []string{"cost", "bandit", "random", "defer"} {
			p, err := policy.New(name, policy.DefaultConfig())
			require.NoError(t, err)
			fmt.Fprintf(&b, "%s, belief %g\n", name, belief)
			Play(env(t, w), w.Draw(3), p, func(s *Situation, d decision.Decision, i Info) {
				l := &s.State.Link
				fmt.Fprintf(&b, "%d %v took %.9g done %.9g missed %v J %.9g bytes %.9g cost %.9g | cpu %.9g own %.9g queue %d %.9g link %.9g %.9g %.9g %d %d %.9g | here %.9g there %.9g p %.9g\n",
					i.Job, i.Cloud, i.Took, i.Done, i.Missed, i.Joules, i.Bytes, i.Cost, s.State.CPU, s.State.OwnCPU, s.State.QueueTasks, s.State.QueueCycles,
					l.Goodput, l.RTT, l.RTT95, l.BacklogTasks, l.BacklogBytes, l.BacklogShare, s.Estimate.LocalTime, s.Estimate.CloudTime, d.Propensity)
			})
		}
	}
	golden.Require(t, "episode.golden", b.String())
}

// The mix is drawn by its shares; the last kind gets the remainder of rounding.
func TestKindsAreDrawnByTheirShares(t *testing.T) {
	c := DefaultConfig()
	for u, want := range map[float64]int{0: 0, 0.44999: 0, 0.45: 1, 0.74: 1, 0.7501: 2, 0.99: 2, 1: 2} {
		require.Equal(t, want, c.pickKind(u), "draw %v", u)
	}
}

// A mark restores everything: later actions leave no trace.
func TestAMarkBringsEverythingBack(t *testing.T) {
	w := world(t, func(c *Config) { c.Tasks = 40 })
	play := func(e *Env, n int, action func(int) int) (all []Info) {
		for i := range n {
			_, _, _, _, info := e.Step(action(i))
			all = append(all, info)
		}
		return all
	}
	mixed := func(i int) int { return i % NumActions }
	e := env(t, w)
	e.Reset(5)
	play(e, 10, mixed)
	back := e.Mark()
	before := *e.Situation()
	want := play(e, 20, mixed)
	back()
	require.Equal(t, before, *e.Situation())
	play(e, 7, func(int) int { return Cloud })
	back()
	require.Equal(t, before, *e.Situation())
	require.Equal(t, want, play(e, 20, mixed))
}
