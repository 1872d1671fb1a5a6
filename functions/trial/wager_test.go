package trial

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A canary that turns bad after a long good time is detected nearly as fast.
func TestCanaryThatTurnsBadIsRolledBack(t *testing.T) {
	w := newWager(0.02, 0.005)
	rng := rand.New(rand.NewPCG(3, 4))
	draw := func(more float64) float64 { return bit(rng.Float64() < 0.2+more) - bit(rng.Float64() < 0.2) }
	for range 100_000 {
		require.False(t, w.bet(draw(0)))
	}
	n := 1
	for ; !w.bet(draw(0.2)); n++ {
		require.Less(t, n, 5000)
	}
	t.Logf("found out after %d pairs", n)
}

func bit(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

// The capital of a wager never grows on observations that are surely within the margin.
func TestWagerDoesNotGainFromWhatIsWithinTheMargin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		margin := rapid.Float64Range(0, 0.5).Draw(t, "margin")
		w := newWager(margin, 0.01)
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			if w.bet(rapid.Float64Range(-1, margin).Draw(t, "x")) {
				t.Fatalf("rejected with a capital of %v", w.capital)
			}
		}
	})
}
