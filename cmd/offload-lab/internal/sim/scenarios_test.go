package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// Every scenario but the usual one is another world, and its episodes can be played to the end.
func TestScenariosDifferAndCanBePlayed(t *testing.T) {
	for _, s := range Scenarios() {
		c, err := ScenarioOf(s.Name)
		require.NoError(t, err)
		if s.Name == "usual" {
			require.Equal(t, DefaultConfig(), c)
		} else {
			require.NotEqual(t, DefaultConfig(), c, s.Name)
		}
		c.Tasks = min(c.Tasks, 120)
		w, err := NewWorld(c, trace.Synthetic(3, 4, 2, 2))
		require.NoError(t, err)
		for _, name := range []string{"defer", "cost"} {
			p, err := policy.New(name, policy.DefaultConfig())
			require.NoError(t, err)
			n := 0
			Play(env(t, w), w.Draw(1), p, func(_ *Situation, _ decision.Decision, i Info) {
				require.True(t, i.Cost > 0 && i.Took > 0, "%s, %s: %+v", s.Name, name, i)
				n++
			})
			require.Equal(t, c.Tasks, n, s.Name)
		}
	}
	_, err := ScenarioOf("paradise")
	require.ErrorContains(t, err, "usual")
}

func TestViewOf(t *testing.T) {
	v, err := ViewOf("")
	require.NoError(t, err)
	require.Equal(t, View{}, v)
	v, err = ViewOf("exact, uncorrected")
	require.NoError(t, err)
	require.Equal(t, View{Exact: true, Uncorrected: true}, v)
	_, err = ViewOf("blind")
	require.ErrorContains(t, err, "exact, still, uncorrected, unguarded")
}
