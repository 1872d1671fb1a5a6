package judge

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/oracle"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/policy"
)

func compare(t *testing.T, names string, belief float64, episodes int) map[string]Score {
	t.Helper()
	c := sim.DefaultConfig()
	c.Beliefs.Edge, c.Tasks = belief, 250
	w, err := sim.NewWorld(c, trace.Synthetic(7, 12, 4, 4))
	require.NoError(t, err)
	field, err := Field(names, policy.DefaultConfig())
	require.NoError(t, err)
	scores, err := Compare(t.Context(), w, field, Options{Episodes: episodes, Seed: 3, Search: oracle.Search{Limit: 3000, Beam: 300}})
	require.NoError(t, err)
	byName := map[string]Score{}
	for _, s := range scores {
		s.DecisionMicros = 0 // a clock does not repeat
		byName[s.Policy] = s
	}
	return byName
}

func TestEqualSeedsGiveEqualScores(t *testing.T) {
	names := "random,bandit,cost"
	require.Equal(t, compare(t, names, 1, 2), compare(t, names, 1, 2))
}

// The ranking of the policies is the known one, on the code's own recordings.
func TestPoliciesRankAsTheyShould(t *testing.T) {
	s := compare(t, "random,article,deadline,greedy,cost", 1, 6)
	for name, one := range s {
		t.Logf("%s: regret %.3f, p99 %.1f s", name, one.Regret, one.P99T)
		require.GreaterOrEqual(t, one.Regret, -1e-9, "no policy is better than the oracle")
		require.True(t, one.RegretCI95[0] <= one.Regret && one.Regret <= one.RegretCI95[1])
	}
	require.Less(t, s["cost"].Regret, s["greedy"].Regret)
	require.Less(t, s["greedy"].Regret, s["deadline"].Regret)
	require.Less(t, s["deadline"].Regret, s["random"].Regret)
	require.Less(t, s["deadline"].Regret, s["article"].Regret, "the published formula is no better than a coin, but for its bound on lateness")
	require.InDelta(t, 0.5, s["random"].CloudShare, 0.05)
}

// The service's own corrections fix a wrong belief for every policy.
func TestCorrectionsMendAWrongBelief(t *testing.T) {
	wrong, right := compare(t, "cost,defer", 2.5, 6), compare(t, "cost,defer", 1, 6)
	for name := range map[string]bool{"cost": true, "defer": true} {
		t.Logf("%s: %.3f, with the truth %.3f", name, wrong[name].Regret, right[name].Regret)
		require.Less(t, wrong[name].Regret, right[name].Regret+0.04)
	}
}

func TestTheOracleCanBeChargedForTheTail(t *testing.T) {
	c := sim.DefaultConfig()
	c.Tasks, c.Rates = 200, [2]float64{4, 4}
	w, err := sim.NewWorld(c, trace.Synthetic(7, 12, 4, 4))
	require.NoError(t, err)
	scores, err := Compare(t.Context(), w, nil, Options{Episodes: 4, Seed: 3, Search: oracle.Search{Limit: 3000, Beam: 300}, Tail: sim.Tail{PerSecond: 1, From: 4, To: 8}})
	require.NoError(t, err)
	require.Equal(t, []string{"oracle", "oracle+tail"}, []string{scores[0].Policy, scores[1].Policy})
	require.Greater(t, scores[1].Regret, scores[0].Regret, "judged by the same cost, it pays for what it was charged")
	require.Less(t, scores[1].P95T, scores[0].P95T)
}

func TestFieldNamesWhatThereIs(t *testing.T) {
	_, err := Field("wisdom", policy.DefaultConfig())
	require.ErrorContains(t, err, `"wisdom" does not exist`)
	all, err := Field(Default(), policy.DefaultConfig())
	require.NoError(t, err)
	require.Greater(t, len(all), 8)
}

func TestStudent(t *testing.T) {
	for freedom, want := range map[float64]float64{6: 2.447, 9: 2.262, 99: 1.984} {
		require.InEpsilon(t, want, student95(freedom), 0.01)
	}
}
