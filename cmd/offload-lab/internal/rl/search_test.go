package rl

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// valley is a problem with a known optimum: noise shared by all candidates, on a bowl that is narrow in one direction and wide in another.
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

// A stopped and resumed search finds the same numbers, to the bit.
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
	for _, want := range []string{`Steps = "0"`, `Elite = "0"`, `Episodes = "0"`, `Candidates = "0"`, `Spread = "0"`} {
		require.ErrorContains(t, err, want)
	}
}

// A generation moves to the mean of its best, with their spread and noise that falls to zero; the result averages the last third.
func TestAGenerationMovesToItsBest(t *testing.T) {
	var mu sync.Mutex
	var drawn []float64
	c := SearchConfig{Seed: 3, Steps: 60, Candidates: 10, Elite: 3, Episodes: 2, Spread: 1, Noise: 0.3}
	s, err := NewSearch(c, []float64{5}, func() (Player, error) {
		return func(x []float64, _ uint64) float64 {
			mu.Lock()
			defer mu.Unlock()
			drawn = append(drawn, x[0])
			return x[0]
		}, nil
	})
	require.NoError(t, err)
	require.Equal(t, []float64{5}, s.Found(), "the start, before anything is known")
	var means []float64
	for generation := 1; !s.Finished(); generation++ {
		middle := s.state.Mean[0]
		drawn = nil
		p := s.Update()
		require.InDelta(t, -middle, p.Return, 1e-12)
		require.Equal(t, Progress{Steps: 20 * generation, Episodes: 2, Return: p.Return}, p)
		slices.Sort(drawn)
		require.Len(t, drawn, 20)
		best := []float64{drawn[0], drawn[2], drawn[4]} // each plays twice
		mean := (best[0] + best[1] + best[2]) / 3
		variance := (best[0]*best[0]+best[1]*best[1]+best[2]*best[2])/3 - mean*mean
		require.InDelta(t, mean, s.state.Mean[0], 1e-12)
		require.InDelta(t, math.Sqrt(max(variance, 0))+0.3*(1-float64(generation)/3), s.state.Spread[0], 1e-9)
		means = append(means, mean)
	}
	require.Len(t, means, 3)
	require.InDelta(t, means[2], s.Found()[0], 1e-12, "of the last third")
	require.Equal(t, 60, s.Taken())
}

func TestTheRangesOfASearch(t *testing.T) {
	fine := SearchConfig{Steps: 1, Candidates: 2, Elite: 1, Episodes: 1, Spread: 10, Noise: 10}
	require.NoError(t, fine.Validate())
	for _, change := range []func(*SearchConfig){
		func(c *SearchConfig) { c.Candidates = 1 }, func(c *SearchConfig) { c.Spread = 10.1 }, func(c *SearchConfig) { c.Noise = 10.1 }, func(c *SearchConfig) { c.Noise = -0.1 },
		func(c *SearchConfig) { c.Spread = math.NaN() }, func(c *SearchConfig) { c.Noise = math.NaN() },
	} {
		c := fine
		change(&c)
		require.Error(t, c.Validate(), "%+v", c)
	}
	fine.Noise = 0
	require.NoError(t, fine.Validate())
}
