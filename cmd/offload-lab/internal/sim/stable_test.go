package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// In no world whose work fits node and link together does a policy's queue grow without bound: the last tasks are done in a bounded time. If the
// gateway knows no deadlines, the bound is patience for three times 10 s.
func TestNoPolicyDiverges(t *testing.T) {
	const episodes = 5
	config := policy.DefaultConfig()
	config.PPOWeights = "../../../../res/policies/ppo.json"
	article, greedy := config, config
	article.WeightedPreset, greedy.CostShadow = "article", false
	contestants := map[string]policy.Config{"weighted": config, "deadline": config, "cost": config, "bandit": config, "ppo": config, "defer": config, "article": article, "greedy": greedy}
	variants := map[string]string{"article": "weighted", "greedy": "cost"}
	for _, scenario := range []string{"usual", "unknown", "cpu-steps", "pareto", "no-deadlines", "tight", "cloud-50"} {
		c, err := ScenarioOf(scenario)
		require.NoError(t, err)
		w, err := NewWorld(c, trace.Synthetic(3, 12, 6, 6))
		require.NoError(t, err)
		played, bound := env(t, w), 13.0 // s
		if c.NoDeadlines {
			bound = 3 * config.CostPatience
		}
		for name, config := range contestants {
			kind := name
			if v, ok := variants[name]; ok {
				kind = v
			}
			sum, last := 0.0, 0
			for seed := range uint64(episodes) {
				p, err := policy.New(kind, config)
				require.NoError(t, err)
				Play(played, w.Draw(seed), p, func(_ *Situation, _ decision.Decision, info Info) {
					if info.Job >= c.Tasks*3/4 {
						sum, last = sum+info.Took, last+1
					}
				})
			}
			if mean := sum / float64(last); mean > bound {
				t.Errorf("%s under %s: the last quarter of the tasks took %.1f s on average", scenario, name, mean)
			}
		}
	}
}
