package rl

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// valley is a problem whose best is known: noise that all candidates share, on a bowl that is narrow one way and wide another.
func valley() (Player, error) {
	return func(x []float64, seed uint64) float64 {
		noise := rand.New(rand.NewPCG(seed, 1)).NormFloat64()
		return 10 + noise + 4*math.Pow(x[0]-1, 2) + 0.2*math.Pow(x[1]+2, 2)
	}, nil
}

func searchOf(t *testing.T, steps int) *Search {
	t.Helper()
	c := DefaultSearch()
	c.Steps, c.Candidates, c.Elite, c.Episodes = steps, 20, 5, 5
	s, err := NewSearch(c, []float64{0, 0}, valley)
	require.NoError(t, err)
	return s
}

func TestSearchFindsTheLowestPlace(t *testing.T) {
	s := searchOf(t, 10_000)
	for !s.Finished() {
		s.Update()
	}
	require.InDelta(t, 1, s.Found()[0], 0.05)
	require.InDelta(t, -2, s.Found()[1], 0.2)
	require.Equal(t, 10_000, s.Taken())
}

// One that is stopped and resumed finds the same numbers, to the bit.
func TestSearchResumes(t *testing.T) {
	whole, half := searchOf(t, 3000), searchOf(t, 3000)
	for !whole.Finished() {
		whole.Update()
	}
	for half.Taken() < 1500 {
		half.Update()
	}
	var saved bytes.Buffer
	require.NoError(t, half.Save(&saved))
	file := saved.Bytes()
	rest := searchOf(t, 3000)
	require.NoError(t, rest.Resume(bytes.NewReader(file)))
	for !rest.Finished() {
		rest.Update()
	}
	require.Equal(t, whole.Found(), rest.Found())

	other := searchOf(t, 3000)
	other.config.Elite = 4
	require.ErrorContains(t, other.Resume(bytes.NewReader(file)), "other settings")
	require.ErrorContains(t, rest.Resume(bytes.NewReader(file[:10])), "reading a checkpoint")
}

func TestSearchSaysWhatIsWrong(t *testing.T) {
	_, err := NewSearch(SearchConfig{}, []float64{0}, valley)
	for _, want := range []string{"Steps is 0", "Elite is 0", "Episodes is 0", "Candidates is 0", "Spread is 0"} {
		require.ErrorContains(t, err, want)
	}
}
