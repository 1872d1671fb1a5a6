package hard

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

func filter(t *testing.T, c Config) Filter {
	t.Helper()
	f, err := New(c)
	require.NoError(t, err)
	require.NotEmpty(t, f.String())
	return f
}

// The file holds what KubeEdge Sedna's own classes (hard_example_mining.py at 2c30e569) say of random examples.
func TestSednaGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/sedna.json")
	require.NoError(t, err)
	var raw []map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b, &raw))
	seen := 0
	for i, r := range raw {
		number := func(key string) (v float64) {
			if r[key] != nil {
				require.NoError(t, json.Unmarshal(r[key], &v))
			}
			return v
		}
		list := func(key string) (v []float64) {
			if r[key] != nil {
				require.NoError(t, json.Unmarshal(r[key], &v))
			}
			return v
		}
		e := &Example{Boxes: list("boxes"), Scores: list("scores")}
		for key, c := range map[string]Config{
			"Threshold":    {Filter: Threshold, Threshold: number("threshold")},
			"IBT":          {Filter: IBT, Threshold: number("threshold"), Box: number("box")},
			"CrossEntropy": {Filter: CrossEntropy, Threshold: number("threshold")},
		} {
			if r[key] == nil {
				continue
			}
			seen++
			var want bool
			require.NoError(t, json.Unmarshal(r[key], &want))
			require.Equal(t, want, filter(t, c).Hard(e), "case %d, %s", i, key)
		}
	}
	require.Equal(t, 182, seen)
}

// What Sedna leaves open, and the filters that it does not have.
func TestFilters(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		e      Example
		want   bool
	}{
		"edge":                      {Default(EdgeOnly), Example{}, false},
		"cloud":                     {Default(CloudOnly), Example{}, true},
		"sure of one class":         {Default(CrossEntropy), Example{Scores: []float64{1, 0}}, false},
		"one class only":            {Default(CrossEntropy), Example{Scores: []float64{0.1}}, false},
		"equal":                     {Default(CrossEntropy), Example{Scores: []float64{0.25, 0.25, 0.25, 0.25}}, true},
		"no probabilities":          {Default(CrossEntropy), Example{Scores: []float64{-1, 2}}, false},
		"not a number":              {Default(CrossEntropy), Example{Scores: []float64{math.NaN(), 1}}, false},
		"margin, near":              {Default(Margin), Example{Scores: []float64{0.1, 0.5, 0.4}}, true},
		"margin, far":               {Default(Margin), Example{Scores: []float64{0.1, 0.7, 0.2}}, false},
		"margin, falling":           {Default(Margin), Example{Scores: []float64{0.45, 0.44, 0.11}}, true},
		"margin of one":             {Default(Margin), Example{Scores: []float64{0.4}}, false},
		"band, below":               {Default(Band), Example{Error: 0.85, Threshold: 1}, true},
		"band, above":               {Default(Band), Example{Error: 1.15, Threshold: 1}, true},
		"band, clearly strange":     {Default(Band), Example{Error: 1.3, Threshold: 1}, false},
		"band without a threshold":  {Default(Band), Example{}, false},
		"energy, like the training": {Default(Energy), Example{Logits: []float64{9, 1, 0}}, false},
		"energy, strange":           {Default(Energy), Example{Logits: []float64{1, 1, 0}}, true},
		"energy of nothing":         {Default(Energy), Example{}, false},
		"threshold of nothing":      {Default(Threshold), Example{}, false},
	} {
		require.Equal(t, c.want, filter(t, c.config).Hard(&c.e), name)
	}
	require.InDelta(t, -math.Log(math.E+math.E*math.E), Free([]float64{1, 2}, 1), 1e-12)
	require.InDelta(t, -1000-2*math.Log(2), Free([]float64{1000, 1000}, 2), 1e-9, "no overflow")
	n := 0
	f := filter(t, Config{Filter: Random, Threshold: 0.3, Seed: 7})
	for range 10_000 {
		if f.Hard(&Example{}) {
			n++
		}
	}
	require.InDelta(t, 3000, n, 200)
	_, err := New(Config{Filter: "sedna", Threshold: 2, Box: -1})
	require.ErrorContains(t, err, "Hard.Filter")
	require.ErrorContains(t, err, "Hard.Threshold")
	require.ErrorContains(t, err, "Hard.Box")
}

func TestFiltersAllocateNothing(t *testing.T) {
	e := &Example{Boxes: []float64{0.4}, Scores: []float64{0.4, 0.6}, Logits: []float64{1, 2}, Error: 1, Threshold: 1}
	for _, name := range []string{EdgeOnly, CloudOnly, Random, Threshold, CrossEntropy, IBT, Margin, Band, Energy} {
		f := filter(t, Default(name))
		require.Zero(t, testing.AllocsPerRun(100, func() { f.Hard(e) }), name)
	}
	w, err := NewWatch(WatchConfig{})
	require.NoError(t, err)
	sample := []float64{1, 2, 3}
	w.Add(sample...)
	require.Zero(t, testing.AllocsPerRun(100, func() { w.Add(sample...) }))
}

// No window of an hour or a day holds more than its budget, whatever the wall clock does and however often the process restarts.
func TestBudget(t *testing.T) {
	const hour, day = 10, 50
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	c := clock.New(fake)
	b := NewBudget(hour, day, c)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
	start := fake.Booted()
	var taken []time.Duration
	for range 20_000 {
		d := time.Duration(r.IntN(1200)) * time.Second / 4
		fake.Advance(d)
		if r.IntN(100) == 0 {
			fake.Step(time.Duration(r.IntN(2000)-1000) * time.Hour)
		}
		if r.IntN(10) == 0 {
			saved := b.Save()
			text, err := json.Marshal(saved)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(text, &saved))
			c = clock.New(fake) // the process starts again on the same boot, with another epoch of stamps
			b = NewBudget(hour, day, c)
			b.Load(saved)
		}
		if b.Take() {
			taken = append(taken, fake.Booted()-start)
		}
	}
	require.Greater(t, len(taken), 500)
	for i := range taken {
		if i >= hour {
			require.GreaterOrEqual(t, taken[i]-taken[i-hour], time.Hour, "%d", i)
		}
		if i >= day {
			require.GreaterOrEqual(t, taken[i]-taken[i-day], 24*time.Hour, "%d", i)
		}
	}
	h, d, refused := b.Spent()
	require.LessOrEqual(t, h, hour)
	require.LessOrEqual(t, d, day)
	require.NotZero(t, refused)
	free := NewBudget(0, 0, c)
	for range 1000 {
		require.True(t, free.Take())
	}
	fake.Advance(48 * time.Hour)
	h, d, _ = free.Spent()
	require.Zero(t, h+d)
}

// One value beyond all measure makes no score that is no number.
func TestAWatchStaysFinite(t *testing.T) {
	w, err := NewWatch(WatchConfig{})
	require.NoError(t, err)
	for i := range 5000 {
		w.Add(1, float64(i%7))
	}
	for _, v := range []float64{1e200, -1e200, 1, math.MaxFloat64, 1} {
		score, _ := w.Add(v, 3)
		require.False(t, math.IsInf(score, 0) || math.IsNaN(score), "%g after %g", score, v)
	}
}

// A watch is silent over normal data, correlated or not, and signals a shift of the mean soon.
func TestWatch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
	normal := map[string]func(shift float64) []float64{
		"an error": func(shift float64) []float64 { return []float64{0.02 + 0.005*(r.NormFloat64()+shift)} },
		"an embedding": func(shift float64) []float64 {
			common := r.NormFloat64() // all values move together
			list := make([]float64, 16)
			for i := range list {
				list[i] = float64(i) + common + r.NormFloat64() + shift*1.5
			}
			return list
		},
	}
	for name, sample := range normal {
		w, err := NewWatch(WatchConfig{})
		require.NoError(t, err)
		alarms := 0
		for range 20_000 {
			if _, drift := w.Add(sample(0)...); drift {
				alarms++
			}
		}
		require.Less(t, alarms, 40, name)
		w.Add(math.NaN())
		w.Add(1, 2, 3)
		after := 0
		for after < 400 {
			after++
			if _, drift := w.Add(sample(1.5)...); drift {
				break
			}
		}
		require.Less(t, after, 100, "%s: samples until the shift is seen", name)
		w.Reset()
		score, drift := w.Add(sample(9)...)
		require.Zero(t, score)
		require.False(t, drift)
	}
	_, err := NewWatch(WatchConfig{Reference: 1})
	require.Error(t, err)
}

// The hardest share leaves, also when all examples become harder; equal examples do not leave at once.
func TestTheHardestShare(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
	for _, name := range []string{Random, Threshold, CrossEntropy, Margin, Band, Energy} {
		c := Default(name)
		c.Share = 0.1
		f := filter(t, c)
		example := func(shift float64) *Example {
			p := 0.5 + shift/10 + r.Float64()/4
			return &Example{Boxes: []float64{p}, Scores: []float64{p, 1 - p}, Logits: []float64{3 * p, 0}, Error: p, Threshold: 0.5}
		}
		for _, shift := range []float64{0, 1} {
			for range recentExamples {
				f.Hard(example(shift))
			}
			n, easiest, hardestLeft := 0, math.Inf(1), math.Inf(-1)
			for range 4000 {
				e := example(shift)
				h, _ := f.Hardness(e)
				if f.Hard(e) {
					n++
					easiest = min(easiest, h)
				} else {
					hardestLeft = max(hardestLeft, h)
				}
			}
			require.InDelta(t, 400, n, 100, "%s %g", name, shift)
			if name != Random {
				require.Less(t, hardestLeft-easiest, 0.25, name)
			}
		}
		same := 0
		e := &Example{Boxes: []float64{0.6}, Scores: []float64{0.6, 0.4}, Logits: []float64{1, 0}, Error: 0.6, Threshold: 0.5}
		for range 3 * recentExamples {
			if f.Hard(e) {
				same++
			}
		}
		require.Less(t, same, recentExamples, name)
		require.False(t, f.Hard(&Example{Scores: []float64{math.NaN()}}) && name != Random)
		require.Zero(t, testing.AllocsPerRun(100, func() { f.Hard(e) }), name)
	}
	_, err := New(Config{Filter: CloudOnly, Share: 0.1})
	require.ErrorContains(t, err, "Hard.Share")
}
