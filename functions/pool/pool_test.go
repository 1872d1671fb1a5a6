package pool

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// seen is the part of some outcomes of a kind, whose x are shares.
func seen(rng *rand.Rand, d, outcomes int, answer float64) Part {
	rows, moments := make([][]float64, d), make([]float64, d)
	for i := range rows {
		rows[i] = make([]float64, d)
	}
	for range outcomes {
		x, sum := make([]float64, d), 0.0
		for i := range x {
			x[i] = rng.Float64()
			sum += x[i]
		}
		for i := range x {
			for k := range x {
				rows[i][k] += x[i] * x[k] / sum / sum
			}
			moments[i] += x[i] / sum * answer * (0.5 + rng.Float64())
		}
	}
	return Make(rows, moments)
}

// The sum of parts is the part of all outcomes, in any order of addition, and leaves the added parts unchanged.
func TestTheSumOfPartsIsThePartOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
		var all []Parts
		whole, backward := Parts{}, Parts{}
		wantM, wantm := [3]float64{}, [2]float64{}
		for range nodes {
			p := seen(rng, 2, 1+rng.IntN(50), 1)
			all = append(all, Parts{Local + "a": p})
			for i := range wantM {
				wantM[i] += p.Matrix[i]
			}
			for i := range wantm {
				wantm[i] += p.Moments[i]
			}
		}
		first := all[0][Local+"a"].times(1)
		for i := range all {
			whole.Add(all[i])
			backward.Add(all[len(all)-1-i])
		}
		require.Equal(t, first, all[0][Local+"a"])
		for i := range wantM {
			require.InDelta(t, wantM[i], whole[Local+"a"].Matrix[i], 1e-9)
			require.InDelta(t, wantM[i], backward[Local+"a"].Matrix[i], 1e-9)
		}
		for i := range wantm {
			require.InDelta(t, wantm[i], whole[Local+"a"].Moments[i], 1e-9)
		}
		require.NoError(t, whole.Check())
	})
}

// Any contribution changes a sum by at most the norm, stays valid, and cannot answer more than MaxAnswer.
func TestAContributionChangesNoMoreThanItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		norm := rapid.Float64Range(0.1, 1000).Draw(t, "norm")
		for kind, d := range dims {
			size := math.Pow(10, rapid.Float64Range(-9, 6).Draw(t, "size"))
			p := seen(rng, d, 1+rng.IntN(100), 1).times(size)
			for i := range p.Moments {
				p.Moments[i] *= math.Pow(10, 12*rng.Float64()-6)
			}
			ps := Parts{kind + "a": p}
			if ps.Check() != nil {
				continue // beyond 1e12
			}
			c := ps.Clip(norm)
			require.NoError(t, c.Check())
			got := c[kind+"a"]
			require.LessOrEqual(t, got.norm(), norm*(1+1e-9))
			require.LessOrEqual(t, got.energy(tiny*(1+got.Weight())), MaxAnswer*MaxAnswer*got.Weight()*(1+1e-6)+1e-12)
		}
	})
}

func TestWhatCannotBeStatisticsIsRefused(t *testing.T) {
	good := Part{[]float64{1, 0.5, 1}, []float64{1, 1}}
	for _, row := range []struct {
		why  string
		name string
		part Part
		want string
	}{
		{"a good one", Local + "a", good, ""},
		{"NaN", Local + "a", Part{[]float64{1, math.NaN(), 1}, []float64{1, 1}}, "not finite"},
		{"Inf", Local + "a", Part{[]float64{1, 0.5, 1}, []float64{1, math.Inf(-1)}}, "not finite"},
		{"huge", Local + "a", Part{[]float64{1e13, 0.5, 1}, []float64{1, 1}}, "too large"},
		{"negative", Local + "a", Part{[]float64{1, 0, -1}, []float64{1, 1}}, "semidefinite"},
		{"heavy, and off by rounding", Local + "a", Part{[]float64{1e6, 1e6, 1e6 - 1e-3}, []float64{1, 1}}, ""},
		{"heavy, and off by more", Local + "a", Part{[]float64{1e6, 1e6, 1e6 - 1e-2}, []float64{1, 1}}, "semidefinite"},
		{"indefinite", Local + "a", Part{[]float64{1, 2, 1}, []float64{1, 1}}, "semidefinite"},
		{"a dimension too few", Bandit + "local", good, "expected 4 and 10"},
		{"none at all", Local + "a", Part{}, "expected 2 and 3"},
		{"an unknown kind", "other/a", good, "no such"},
		{"about nothing", Local, good, "no such"},
		{"a control character", Local + "\n", good, "no such"},
	} {
		err := Parts{row.name: row.part}.Check()
		if row.want == "" {
			require.NoError(t, err, row.why)
			continue
		}
		require.ErrorContains(t, err, row.want, row.why)
	}
	many := Parts{}
	for i := range MaxParts + 1 {
		many[Local+string(rune('a'+i))] = good
	}
	require.ErrorContains(t, many.Check(), "at most")
}

// Noise leaves statistics valid, and has the requested deviation.
func TestNoiseIsOfItsDeviationAndLeavesPartsValid(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, deviation := range []float64{0.1, 10, 1000} {
		squares, count := 0.0, 0
		for range 500 {
			ps := Parts{Bandit + "local": seen(rng, 4, 20, 1), Cloud + "a": seen(rng, 1, 20, 1)}
			before := ps[Bandit+"local"].At(1, 0) // no shift touches it
			ps.Noise(deviation, func(string) func() float64 { return rng.NormFloat64 })
			require.NoError(t, ps.Check())
			off := ps[Bandit+"local"].At(1, 0) - before
			squares, count = squares+off*off, count+1
		}
		require.InEpsilon(t, deviation, math.Sqrt(squares/float64(count)), 0.15)
	}
}

func TestAPriorWeighsNoMoreThanItMay(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	ps := Parts{Local + "much": seen(rng, 2, 5000, 1), Local + "little": seen(rng, 2, 3, 1)}
	w := ps.Weigh(20)
	require.InDelta(t, 20, w[Local+"much"].Weight(), 1e-9)
	require.Equal(t, ps[Local+"little"], w[Local+"little"])
}

// Nearly invalid statistics are accepted, and any number of them added up still are valid: otherwise a few nodes could make all others reject the
// sum.
func TestASumOfWhatHardlyIsStatisticsIsStatistics(t *testing.T) {
	sum := Parts{}
	for range 50 {
		hardly := Parts{Local + "a": {[]float64{0, 0, -0.9e-9}, []float64{0, 0}}}
		require.NoError(t, hardly.Check())
		sum.Add(hardly.Clip(20))
	}
	sum.Add(Parts{Local + "a": {[]float64{1, 0, 0}, []float64{1, 0}}}.Clip(20))
	require.NoError(t, sum.Check())
}
