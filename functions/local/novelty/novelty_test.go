package novelty

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// day returns a noisy daily rhythm of 288 values.
func day(rng *rand.Rand, i int) float64 {
	return 20 + 5*math.Sin(2*math.Pi*float64(i)/288) + 0.3*rng.NormFloat64()
}

func TestWhatWasNeverSeenIsFoundAtOnceAndOnce(t *testing.T) {
	for name, fault := range map[string]func(i int, v float64) float64{
		"spike":     func(i int, v float64) float64 { return v + 30*float64(max(0, 1-i)) },
		"step":      func(_ int, v float64) float64 { return v + 12 },
		"drop":      func(_ int, v float64) float64 { return v - 20 },
		"scatter":   func(i int, v float64) float64 { return v + 6*float64(i%2*2-1) },
		"slow rise": func(i int, v float64) float64 { return v + 0.05*float64(i) },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			d := New(Defaults())
			before, alarms, first := 0, 0, -1
			for i := range 4000 {
				v := day(rng, i)
				if i >= 3000 {
					v = fault(i-3000, v)
				}
				n := d.Feed(v)
				require.True(t, n.Score >= 0 && n.Score < 1, "%v", n)
				switch {
				case n.Score < 0.3 || i < 1000:
				case i < 3000:
					before++
				default:
					if first < 0 {
						first = i - 3000
					}
					alarms++
				}
			}
			require.LessOrEqual(t, before, 2, "false alarms")
			require.GreaterOrEqual(t, first, 0, "not found")
			require.Less(t, first, 300)
			require.Less(t, alarms, 25, "a lasting fault must not alarm at each value")
		})
	}
}

// Units do not matter: scaling by a power of two and negation change no score.
func TestScoresDependOnNoUnit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 300).Draw(t, "values")
		scale := math.Ldexp(1, rapid.IntRange(-40, 40).Draw(t, "power"))
		if rapid.Bool().Draw(t, "negative") {
			scale = -scale
		}
		a, b := New(Defaults()), New(Defaults())
		for _, v := range values {
			x, y := a.Feed(v), b.Feed(v*scale)
			require.InDelta(t, x.Score, y.Score, 1e-12)
			if x.Score > 0 && scale > 0 {
				require.Equal(t, x, y)
			}
		}
	})
}

func TestNoFiniteValueBreaksIt(t *testing.T) {
	extremes := []float64{0, math.Copysign(0, -1), 1, -1, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1e300, -1e300, math.Inf(1), math.Inf(-1)}
	rapid.Check(t, func(t *rapid.T) {
		d := New(Options{
			Short: rapid.Float64Range(1, 10).Draw(t, "short"), Medium: 20, Long: 1e6,
			Memory: rapid.SampledFrom([]float64{1, 100, math.Inf(1)}).Draw(t, "memory"), Quiet: 50,
		})
		for _, v := range rapid.SliceOfN(rapid.SampledFrom(extremes), 1, 100).Draw(t, "values") {
			n := d.Feed(v)
			require.True(t, n.Score >= 0 && n.Score < 1, "%v after %v", n, v)
		}
		// It still handles ordinary values.
		for i := range 1000 {
			n := d.Feed(float64(i % 7))
			require.False(t, math.IsNaN(n.Score))
		}
	})
}

func TestAConstantStreamIsNotNewUntilItChanges(t *testing.T) {
	d := New(Defaults())
	for range 1000 {
		require.Zero(t, d.Feed(42).Score)
	}
	n := d.Feed(42.001)
	require.Greater(t, n.Score, 0.5)
	require.True(t, n.High)
}

func TestFeedAllocatesNothing(t *testing.T) {
	d := New(Defaults())
	v := 0.0
	require.Zero(t, testing.AllocsPerRun(1000, func() { v += 1.5; d.Feed(v) }))
}

func BenchmarkFeed(b *testing.B) {
	d := New(Defaults())
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.Feed(day(rng, i))
	}
}

// TestScoresAreAsRecorded checks the scores of a stream that changes in a different way every 200 values: their sum, and how often each feature was
// the newest and above its previous range.
func TestScoresAreAsRecorded(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	d := New(Options{Short: 4, Medium: 15, Long: 60, Memory: 80, Quiet: 6})
	for _, row := range []struct {
		change func(i int, v float64) float64
		want   string
	}{
		{func(_ int, v float64) float64 { return v }, "16.5622 [24 2 0 6 2 10 12] [8 0 0 2 1 4 8]"},
		{func(i int, v float64) float64 { return v + 0.3*float64(i%40) }, "11.9394 [25 2 5 10 2 1 0] [25 2 5 9 2 0 0]"},
		{func(i int, v float64) float64 { return v * (1 + 0.2*float64(i%2)) }, "10.1194 [20 2 3 8 1 7 8] [3 0 0 8 1 6 1]"},
		{func(i int, v float64) float64 { return v + 9*float64(i/100) }, "5.8510 [4 1 1 24 10 8 2] [4 1 1 0 1 1 0]"},
		{func(int, float64) float64 { return 12 }, "1.4123 [1 0 2 0 3 0 0] [0 0 0 0 1 0 0]"},
		{func(_ int, v float64) float64 { return v }, "7.1772 [20 1 0 10 3 9 5] [10 1 0 1 0 6 5]"},
	} {
		sum, newest, above := 0.0, [features]int{}, [features]int{}
		for i := range 200 {
			n := d.Feed(row.change(i, day(rng, d.Seen())))
			if sum += n.Score; n.Score > 0 {
				newest[n.Feature]++
				if n.High {
					above[n.Feature]++
				}
			}
		}
		require.Equal(t, row.want, fmt.Sprintf("%.4f %v %v", sum, newest, above))
	}
	// The mean of the marks follows the latest thousands of values, however many there were.
	const many = 50_000
	sum := 0.0
	for i := range many {
		sum += d.Feed(day(rng, d.Seen()) + 10*float64(i/(many/2))).Score
	}
	require.Equal(t, "2538.9644", fmt.Sprintf("%.4f", sum))
}
