package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// The share of reversed decisions is the configured one, and each decision's propensity is its true probability.
func TestExplore(t *testing.T) {
	w, err := NewWorld(DefaultConfig(), trace.Synthetic(1, 3, 3, 3))
	require.NoError(t, err)
	env, err := NewEnv(w)
	require.NoError(t, err)
	for _, name := range []string{"cost", "random", "bandit"} {
		p, err := policy.New(name, policy.DefaultConfig())
		require.NoError(t, err)
		explored, n := 0, 0
		_, learns := p.(policy.Learner)
		x := Explore(p, 0.2, 5)
		_, still := x.(policy.Learner)
		require.Equal(t, learns, still, name)
		for seed := range uint64(5) {
			Play(env, w.Draw(seed), x, func(_ *Situation, d decision.Decision, _ Info) {
				n++
				if d.Reason == decision.Explored {
					explored++
				}
				if name == "cost" {
					want := 0.8
					if d.Reason == decision.Explored {
						want = 0.2
					}
					require.InDelta(t, want, d.Propensity, 1e-12)
				}
				if name == "random" {
					require.InDelta(t, 0.5, d.Propensity, 1e-12)
				}
			})
		}
		if name != "bandit" { // which explores by itself too
			require.InDelta(t, 0.2, float64(explored)/float64(n), 0.03, name)
		}
	}
}
