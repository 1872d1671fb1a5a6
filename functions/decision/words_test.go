package decision

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUniformIsUniform(t *testing.T) {
	const bins, n = 50, 100_000
	for seed := uint64(0); seed < 3; seed++ {
		var count [bins]int
		for i := uint64(1); i <= n; i++ {
			count[int(Uniform(seed, i)*bins)]++
		}
		chi := 0.0
		for _, c := range count {
			chi += math.Pow(float64(c)-n/bins, 2) / (n / bins)
		}
		require.Less(t, chi, 95.0, "chi² of 49 degrees of freedom, seed %d", seed) // 0.01 % lie above
	}
}

func TestWordsGoThroughJSON(t *testing.T) {
	for r := ReasonNone; r <= Reduced; r++ {
		in := Decision{Target: Cloud, Reason: r}
		b, err := json.Marshal(in)
		require.NoError(t, err)
		require.Contains(t, string(b), `"target":"cloud"`)
		var out Decision
		require.NoError(t, json.Unmarshal(b, &out))
		require.Equal(t, in, out)
	}
	require.ErrorContains(t, json.Unmarshal([]byte(`{"target":"moon"}`), &Decision{}), "moon")
	require.Equal(t, "unknown", Reason(200).String())
}
