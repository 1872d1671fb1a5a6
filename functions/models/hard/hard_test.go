package hard

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
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

// The file contains the results of KubeEdge Sedna's own classes (hard_example_mining.py at 2c30e569) for random examples.
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

// Cases that Sedna leaves open, and filters that it does not have.
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
		"threshold, at":             {Config{Filter: Threshold, Threshold: 0.5}, Example{Boxes: []float64{0.5}}, false},
		"margin, at":                {Config{Filter: Margin, Threshold: 0.25}, Example{Scores: []float64{0.5, 0.25}}, false},
		"margin of equals":          {Default(Margin), Example{Scores: []float64{0.5, 0.5}}, true},
		"band, at":                  {Config{Filter: Band, Width: 0.25}, Example{Error: 5, Threshold: 4}, true},
		"band, beyond":              {Config{Filter: Band, Width: 0.25}, Example{Error: 5.1, Threshold: 4}, false},
		"band, of a small one":      {Config{Filter: Band, Width: 0.25}, Example{Error: 0.4, Threshold: 0.25}, false},
		"cross entropy, at":         {Config{Filter: CrossEntropy}, Example{Scores: []float64{0.5, 0.5}}, false},
		"ibt, at":                   {Config{Filter: IBT, Threshold: 0.5, Box: 0.5}, Example{Boxes: []float64{0.5, 0.9}}, true},
		"ibt, fewer":                {Config{Filter: IBT, Threshold: 0.5, Box: 0.5}, Example{Boxes: []float64{0.5, 0.9, 0.9}}, false},
		"ibt, certain and not":      {Config{Filter: IBT, Threshold: 0.5, Box: 0.5}, Example{Boxes: []float64{0, 1}}, true},
		"ibt of no share":           {Config{Filter: IBT, Threshold: 0.5, Box: 0.5}, Example{Boxes: []float64{0, 1.1}}, false},
		"energy, at":                {Config{Filter: Energy, Threshold: -1, Temperature: 1}, Example{Logits: []float64{1}}, false},
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

// No window of an hour or a day exceeds its budget, whatever the wall clock does and however often the process restarts.
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
	for range 3_000 {
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
			c = clock.New(fake) // the process restarts on the same boot, with another epoch of stamps
			b = NewBudget(hour, day, c)
			b.Load(saved)
		}
		if b.Take() {
			taken = append(taken, fake.Booted()-start)
		}
	}
	require.Greater(t, len(taken), 100)
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

// One extreme value does not make the score NaN or infinite.
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

// A watch is silent for normal data, correlated or not, and soon signals a shift of the mean.
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
	}
	_, err := NewWatch(WatchConfig{Reference: 1})
	require.Error(t, err)
}

// The hardest share is selected, even when all examples become harder; equal examples are not all selected.
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
	least := filter(t, Config{Filter: Margin, Threshold: 0.2, Share: 1e-300})
	for range recentExamples {
		require.False(t, least.Hard(&Example{Scores: []float64{0.5, 0.5}}))
	}
	_, err := New(Config{Filter: CloudOnly, Share: 0.1})
	require.ErrorContains(t, err, "Hard.Share")
}

// Hardness is the value that the filter compares, with a sign that increases with hardness; examples without the needed output have none.
func TestHardnessByHand(t *testing.T) {
	e := &Example{Boxes: []float64{0.4, 0.8}, Scores: []float64{0.1, 0.6, 0.3}, Logits: []float64{1, 1}, Error: 3, Threshold: 4}
	for name, want := range map[string]float64{Threshold: -0.6, Margin: -0.3, Band: -0.25, IBT: 0.5, Energy: -1 - math.Ln2} {
		h, ok := filter(t, Default(name)).(interface {
			Hardness(e *Example) (float64, bool)
		}).Hardness(e)
		require.True(t, ok, name)
		require.InDelta(t, want, h, 1e-12, name)
		_, ok = filter(t, Default(name)).(interface {
			Hardness(e *Example) (float64, bool)
		}).Hardness(&Example{})
		require.False(t, ok, "%s of nothing", name)
	}
	require.InDelta(t, -3-2*math.Log(1+math.Exp(-1)), Free([]float64{1, 3}, 2), 1e-12)
	_, ok := filter(t, Default(Margin)).Hardness(&Example{Scores: []float64{1}})
	require.False(t, ok, "one score has no margin")
	f := filter(t, Config{Filter: Margin, Threshold: 0.2, Share: 0.5}).(*hardest)
	require.Equal(t, "the hardest 50 % of the last 500 by: first − second < 0.2", f.String())
	for name, want := range map[string]float64{Random: 0.3, Margin: 0.2, Energy: -5, Threshold: 0.5, IBT: 0.5} {
		require.InDelta(t, want, Default(name).Threshold, 0, name)
	}
}

// The first fiftieth of the window only fills it; then the window holds the latest examples, in order.
func TestTheWindowOfTheHardest(t *testing.T) {
	f := filter(t, Config{Filter: Threshold, Share: 1}).(*hardest)
	for n := range 2*recentExamples + 7 {
		hard := f.Hard(&Example{Boxes: []float64{float64(-n)}}) // each is harder than all before
		require.Equal(t, n >= recentExamples/50, hard, "%d", n)
		require.Len(t, f.sorted, min(n+1, recentExamples))
		for i, h := range f.sorted {
			require.InDelta(t, max(n+1-recentExamples, 0)+i, h, 0)
		}
	}
}

// Each number of a filter has its range, including the ends.
func TestTheRangesOfAFilter(t *testing.T) {
	for name, c := range map[string]struct {
		config        Config
		at            func(c *Config) *float64
		low, high     float64
		below, beyond float64
	}{
		"Threshold":   {Default(Margin), func(c *Config) *float64 { return &c.Threshold }, 0, 1, -0.01, 1.01},
		"energy":      {Default(Energy), func(c *Config) *float64 { return &c.Threshold }, -1e6, 1e6, -1.1e6, 1.1e6},
		"Temperature": {Default(Energy), func(c *Config) *float64 { return &c.Temperature }, 0.001, 1000, 0.0009, 1001},
		"Box":         {Default(IBT), func(c *Config) *float64 { return &c.Box }, 0, 1, -0.01, 1.01},
		"Width":       {Default(Band), func(c *Config) *float64 { return &c.Width }, 0, 10, -0.01, 10.1},
		"Share":       {Default(Margin), func(c *Config) *float64 { return &c.Share }, 0, 1, -0.01, 1.01},
	} {
		for v, valid := range map[float64]bool{c.low: true, c.high: true, c.below: false, c.beyond: false, math.NaN(): false} {
			config := c.config
			*c.at(&config) = v
			require.Equal(t, valid, config.Validate() == nil, "%s = %g", name, v)
		}
	}
	for _, all := range []string{EdgeOnly, CloudOnly} {
		require.ErrorContains(t, Config{Filter: all, Share: 0.1}.Validate(), "Hard.Share")
	}
}

// Draws with the same seed are equal, and draws without a seed are not.
func TestDrawsFollowTheirSeed(t *testing.T) {
	draws := func(seed uint64) (bits uint64) {
		f := filter(t, Config{Filter: Random, Threshold: 0.5, Seed: seed})
		for range 64 {
			if bits <<= 1; f.Hard(nil) {
				bits++
			}
		}
		return bits
	}
	require.Equal(t, draws(7), draws(7))
	require.NotEqual(t, draws(7), draws(8))
	require.NotEqual(t, draws(0), draws(0))
}

// Scores are standard deviations: for white noise with a known variance they are those of the published chart, in any unit.
func TestScoresHaveNoUnit(t *testing.T) {
	play := func(unit float64) (scores []float64) {
		r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test
		w, err := NewWatch(WatchConfig{Reference: 100})
		require.NoError(t, err)
		for n := range 2000 {
			shift := 0.
			if n >= 1500 {
				shift = 1
			}
			score, _ := w.Add(unit * (10 + r.NormFloat64() + shift))
			scores = append(scores, score)
		}
		return scores
	}
	usual := play(1)
	for i, score := range play(1000) {
		require.InDelta(t, usual[i], score, 1e-3*(1+math.Abs(usual[i])))
	}
	require.Less(t, slices.Max(usual[:1500]), 8.)
	require.Greater(t, usual[1999], 2.)
	require.Less(t, usual[1999], 100.)
	w, err := NewWatch(WatchConfig{Reference: 100})
	require.NoError(t, err)
	for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		w.Add(v)
	}
	require.Zero(t, w.n, "what is no number is passed over")
}

// Spending counts for an hour and for a day, and the status reports it at any time.
func TestWhatWasSpentRunsOut(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	b := NewBudget(3, 100, clock.New(fake))
	for range 5 {
		b.Take()
	}
	for _, step := range []struct {
		wait      time.Duration
		hour, day int
	}{{0, 3, 3}, {59 * time.Minute, 3, 3}, {2 * time.Minute, 0, 3}, {22 * time.Hour, 0, 3}, {2 * time.Hour, 0, 0}} {
		fake.Advance(step.wait)
		hour, day, refused := b.Spent()
		require.Equal(t, [2]int{step.hour, step.day}, [2]int{hour, day}, "after %v more", step.wait)
		require.EqualValues(t, 2, refused)
	}
	require.EqualValues(t, 3, b.Taken())
	require.Empty(t, b.Save().Spent)
	fake.Advance(72 * time.Hour) // more than there are slots
	for i := range 4 {
		require.Equal(t, i < 3, b.Take())
	}
	fake.Advance(5 * time.Minute)
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 3}, b.Save().Spent)
}

// A value that was constant in the reference is drift once it changes, and its score is finite.
func TestAConstantThatChangesIsDrift(t *testing.T) {
	w, err := NewWatch(WatchConfig{Reference: 50})
	require.NoError(t, err)
	for range 1000 {
		score, drift := w.Add(5)
		require.False(t, drift)
		require.InDelta(t, 0, score, 1e-6)
	}
	passed := [][]float64{{math.NaN()}, {1, 2}, nil}
	for _, sample := range passed {
		_, drift := w.Add(sample...)
		require.False(t, drift)
	}
	score, drift := w.Add(6)
	require.True(t, drift)
	require.False(t, math.IsInf(score, 0) || math.IsNaN(score))
	for _, sample := range passed {
		again, drift := w.Add(sample...)
		require.True(t, drift, "what is passed over changes nothing")
		require.InDelta(t, score, again, 0)
	}
}

// The statistic calculated by hand: of 1 to 10 and then 20, with a weight of a half. A score at the limit is no drift.
func TestTheStatisticOfAWatch(t *testing.T) {
	w, err := NewWatch(WatchConfig{Reference: 10, Weight: 0.5})
	require.NoError(t, err)
	for v := range 10 {
		w.Add(float64(v+1), 7, 0)
	}
	require.Equal(t, []float64{5.5, 7, 0}, w.mean)
	require.Equal(t, []float64{82.5, 0, 0}, w.sum)
	require.Equal(t, []float64{5.5, 7, 0}, w.recent)
	require.InDelta(t, math.Sqrt(7.25*7.25/(82.5/9/3)/3), w.statistic([]float64{20, 7, 0}), 1e-9)
	require.Equal(t, []float64{12.75, 7, 0}, w.recent)
	for _, c := range []struct {
		score float64
		drift bool
	}{{8, false}, {8.1, true}} {
		w.score = c.score
		for _, sample := range [][]float64{nil, {1}} {
			score, drift := w.Add(sample...)
			require.InDelta(t, c.score, score, 0)
			require.Equal(t, c.drift, drift)
		}
	}
}

// Each number of a watch has its range.
func TestTheRangesOfAWatch(t *testing.T) {
	for c, valid := range map[WatchConfig]bool{
		{Reference: 10}: true, {Reference: 9}: false, {Reference: 1_000_000}: true, {Reference: 1_000_001}: false, {Reference: -1}: false,
		{Weight: 1}: true, {Weight: 1e-9}: true, {Weight: 1.1}: false, {Weight: -1}: false, {Limit: 0.1}: true, {Limit: -1}: false, {Limit: math.NaN()}: false,
	} {
		_, err := NewWatch(c)
		require.Equal(t, valid, err == nil, "%+v", c)
	}
}

// The content of a budget's file never enlarges the budget.
func TestASpendingThatCannotBe(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	c := clock.New(fake)
	b := NewBudget(5, 5, c)
	spent := make([]uint32, 3*slots)
	for i := range spent {
		spent[i] = math.MaxUint32
	}
	for _, phase := range []time.Duration{-1000 * time.Hour, 0, 1000 * time.Hour} {
		b.Load(Spending{At: c.Moment(), Phase: phase, Spent: spent})
		require.False(t, b.Take(), "%v", phase)
	}
	b.Load(Spending{At: c.Moment(), Phase: -time.Hour, Spent: []uint32{5}})
	fake.Advance(59 * time.Minute)
	require.False(t, b.Take(), "a phase below 0 is no time that has passed")
	b.Load(Spending{At: c.Moment()})
	require.True(t, b.Take())
}

// A restart continues in the current minute, and restores at most a day, and at most a limit for each minute.
func TestABudgetGoesOnWhereItWas(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	c := clock.New(fake)
	for range 10 {
		fake.Advance(47 * time.Second)
		b := NewBudget(100, 1000, c)
		require.Zero(t, b.Save().Phase, "it begins with a whole minute")
		fake.Advance(50 * time.Second)
		require.True(t, b.Take())
		saved := b.Save()
		require.Equal(t, 50*time.Second, saved.Phase)
		require.Equal(t, []uint32{1}, saved.Spent)
		for _, wait := range []time.Duration{0, 9 * time.Second, 15 * time.Second, time.Minute} {
			fake.Advance(wait)
			again := NewBudget(100, 1000, c)
			again.Load(saved)
			at := again.Save()
			passed := saved.Phase + c.Moment().Since(saved.At)
			require.Equal(t, passed%slot, at.Phase)
			require.Len(t, at.Spent, 1+int(passed/slot))
		}
	}
	long := Spending{At: c.Moment(), Spent: make([]uint32, 2*slots)}
	for i := range long.Spent {
		long.Spent[i] = 1
	}
	long.Spent[3] = 1 << 30
	b := NewBudget(1<<30, 1<<30, c)
	b.Load(long)
	hour, day, _ := b.Spent()
	require.Equal(t, []int{60 + 1<<20, slots - 1 + 1<<20}, []int{hour, day})
}

// The hardness of cross entropy is 1 minus the confidence; values that are not probabilities have none. Scores of any sign are valid for the margin.
func TestHardnessOfCrossEntropyAndOfAnyScores(t *testing.T) {
	hardness := func(name string, scores ...float64) (float64, bool) {
		return filter(t, Default(name)).(interface {
			Hardness(e *Example) (float64, bool)
		}).Hardness(&Example{Scores: scores})
	}
	for _, c := range []struct {
		scores []float64
		want   float64
		ok     bool
	}{
		{[]float64{1, 0}, 0, true},
		{[]float64{0.5, 0.5}, 1, true},
		{[]float64{1}, 0, true},
		{nil, 1, false},
		{[]float64{1.5, 0}, 1, false},
		{[]float64{-0.5, 1}, 1, false},
		{[]float64{0.25, 0.75}, -(0.25*math.Log(0.25) + 0.75*math.Log(0.75)) / math.Ln2, true},
	} {
		h, ok := hardness(CrossEntropy, c.scores...)
		require.Equal(t, c.ok, ok, "%v", c.scores)
		require.InDelta(t, c.want, h, 1e-12, "%v", c.scores)
		require.False(t, !ok && filter(t, Default(CrossEntropy)).Hard(&Example{Scores: c.scores}))
	}
	for _, scores := range [][]float64{{-3, -1, -2}, {-1, -2, -3}, {-2, -3, -1}, {3, 5, 4}} {
		h, ok := hardness(Margin, scores...)
		require.True(t, ok)
		require.InDelta(t, -1, h, 1e-12, "%v", scores)
	}
}

// One number has no deviation; that of more is the root of the sum of squared distances from the mean, divided by their number minus one.
func TestMoments(t *testing.T) {
	var m moments
	require.Zero(t, m.deviation())
	m.add(5)
	require.Zero(t, m.deviation())
	m.add(7)
	require.InDelta(t, math.Sqrt2, m.deviation(), 1e-12)
	m.add(12)
	require.InDelta(t, math.Sqrt(13), m.deviation(), 1e-12)
	require.InDelta(t, 8, m.mean, 1e-12)
}
