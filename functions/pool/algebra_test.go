package pool

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcomes are the statistics of n outcomes with answers of about a size.
func outcomes(r *rand.Rand, d, n int, size float64) (p Part, squares float64) {
	p = Part{make([]float64, d*(d+1)/2), make([]float64, d)}
	for range n {
		x := make([]float64, d)
		norm := 0.0
		for i := range x {
			x[i] = r.NormFloat64()
			norm += x[i] * x[i]
		}
		y := size * r.NormFloat64()
		squares += y * y
		for i := range x {
			x[i] /= math.Sqrt(norm)
			p.Moments[i] += x[i] * y
			for k := 0; k <= i; k++ {
				p.Matrix[i*(i+1)/2+k] += x[i] * x[k]
			}
		}
	}
	return p, squares
}

// solved is (M + ridge·1)⁻¹·m by elimination.
func solved(p Part, ridge float64) []float64 {
	d := len(p.Moments)
	rows := make([][]float64, d)
	for i := range rows {
		for k := range d {
			rows[i] = append(rows[i], p.At(i, k))
		}
		rows[i][i] += ridge
		rows[i] = append(rows[i], p.Moments[i])
	}
	for i := range d {
		for r := range d {
			if f := rows[r][i] / rows[i][i]; r != i {
				for k := i; k <= d; k++ {
					rows[r][k] -= f * rows[i][k]
				}
			}
		}
	}
	x := make([]float64, d)
	for i := range x {
		x[i] = rows[i][d] / rows[i][i]
	}
	return x
}

// The energy of statistics is mᵀ·(M + ridge·1)⁻¹·m, at most the sum of the squares of the answers; if M is not that of outcomes it has no bound.
func TestEnergy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		d := 1 + r.IntN(4)
		p, squares := outcomes(r, d, 1+r.IntN(8), 2)
		ridge := 0.01 + r.Float64()
		want := 0.0
		for i, v := range solved(p, ridge) {
			want += v * p.Moments[i]
		}
		got := p.energy(ridge)
		require.InEpsilon(t, want, got, 1e-6)
		require.LessOrEqual(t, got, squares*(1+1e-9))
	}
	require.True(t, math.IsInf(Part{[]float64{-1}, []float64{1}}.energy(0.5), 1))
	require.InDelta(t, 2, Part{[]float64{1.5}, []float64{2}}.energy(0.5), 1e-12)
}

// Shortening leaves statistics of answers of up to MaxAnswer unchanged, and reduces others to those of such answers.
func TestTaming(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		d := 1 + r.IntN(4)
		for _, size := range []float64{0.1, 100} {
			p, _ := outcomes(r, d, 30, size)
			before := p.times(1)
			p.tame()
			require.Equal(t, before.Matrix, p.Matrix)
			ridge := tiny * (1 + p.Weight())
			if before.energy(ridge) <= MaxAnswer*MaxAnswer*before.Weight() {
				require.Equal(t, before, p)
				continue
			}
			require.InEpsilon(t, MaxAnswer*MaxAnswer*p.Weight(), p.energy(ridge), 1e-9)
			for i := range p.Moments {
				require.InEpsilon(t, before.Moments[i]/before.Moments[0], p.Moments[i]/p.Moments[0], 1e-9, "only the length changes")
			}
		}
	}
	for _, none := range []Part{{[]float64{-1}, []float64{5}}, {[]float64{0}, []float64{5}}, {[]float64{0}, []float64{0}}} { // no outcome has weight
		none.tame()
		require.Zero(t, none.Moments[0])
	}
}

// A clipped part has at most the norm, and exactly the norm if it had more; a matrix without full rank is lifted slightly.
func TestClipping(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		p, _ := outcomes(r, 4, 10+r.IntN(40), 1)
		is := p.norm()
		for _, norm := range []float64{is / 3, is, is * 3} {
			c := Parts{"bandit/cloud": p}.Clip(norm)["bandit/cloud"]
			require.InEpsilon(t, min(is, norm), c.norm(), 1e-9)
			require.InEpsilon(t, p.At(2, 1)*min(norm/is, 1), c.At(2, 1), 1e-9)
		}
	}
	for name, p := range map[string]Part{"cloud/a": {[]float64{-0.5e-9}, []float64{0}}, "local/a": {[]float64{1, 2, 4}, []float64{0, 0}}} {
		require.NoError(t, Parts{name: p}.Check())
		c := Parts{name: p}.Clip(1e6)[name]
		for i := range p.Moments {
			require.InDelta(t, p.At(i, i)+tiny*(1+p.Weight()), c.At(i, i), 1e-12*(1+p.Weight()))
		}
		_, whole := c.root(0)
		require.True(t, whole)
	}
}

// Weighing limits the weight, and scales the other numbers in proportion; impossible answers are shortened there too.
func TestWeighing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	p, _ := outcomes(r, 2, 30, 1)
	for most, by := range map[float64]float64{60: 1, 30: 1, 15: 0.5} {
		w := Parts{"local/a": p}.Weigh(most)["local/a"]
		require.InDelta(t, 30*by, w.Weight(), 1e-9)
		require.InDelta(t, p.Moments[0]*by, w.Moments[0], 1e-9)
	}
	require.Equal(t, p, Parts{"local/a": p}.Weigh(p.Weight())["local/a"])
	require.InDelta(t, 0.1, Parts{"cloud/a": {[]float64{0.5}, []float64{0}}}.Weigh(0.1)["cloud/a"].Weight(), 1e-12)
	for _, light := range []Part{{[]float64{0}, []float64{0}}, {[]float64{-tiny}, []float64{0}}} { // rounding may leave less than nothing
		require.Equal(t, light, Parts{"cloud/a": light}.Weigh(10)["cloud/a"])
	}
	wild := Parts{"cloud/a": {[]float64{4}, []float64{1000}}}.Weigh(10)["cloud/a"]
	require.InDelta(t, MaxAnswer*4, wild.Moments[0], 1e-6)
	require.InDelta(t, 4, wild.Weight(), 1e-12)
}

// Noise is added to each number, and the multiple of the unit matrix that makes the matrix one of outcomes: a power of two times a sixteenth of the
// deviation.
func TestNoiseIsMended(t *testing.T) {
	for draw, shift := range map[float64]float64{0: 0, 1: 0, -0.5: 0, -1.01: 1. / 16, -1.1: 2. / 16, -1.15: 4. / 16, -1.2: 4. / 16, -2: 16. / 16, -3: 32. / 16} {
		ps := Parts{"cloud/a": {[]float64{10}, []float64{5}}}
		ps.Noise(10, func(name string) func() float64 {
			require.Equal(t, "cloud/a", name)
			return func() float64 { return draw }
		})
		if draw == -2 { // the least that is above 0
			require.InDelta(t, 10-20+10*shift, ps["cloud/a"].Weight(), 1e-12)
			continue
		}
		require.InDelta(t, 10+10*draw+10*shift, ps["cloud/a"].Weight(), 1e-9, "draw %g", draw)
	}
	r := rand.New(rand.NewPCG(9, 10))
	for range 100 {
		p, _ := outcomes(r, 4, 5, 1)
		before, drawn := p.times(1), []float64{}
		ps := Parts{"bandit/cloud": p}
		ps.Noise(2, func(string) func() float64 {
			return func() float64 {
				drawn = append(drawn, r.NormFloat64())
				return drawn[len(drawn)-1]
			}
		})
		p = ps["bandit/cloud"]
		require.Len(t, drawn, 14)
		shift := p.Matrix[0] - before.Matrix[0] - 2*drawn[0]
		require.GreaterOrEqual(t, shift, -1e-12)
		for i, v := range p.Matrix {
			want := before.Matrix[i] + 2*drawn[i]
			if i == 0 || i == 2 || i == 5 || i == 9 {
				want += shift
			}
			require.InDelta(t, want, v, 1e-9)
		}
		require.NoError(t, ps.Check())
		require.LessOrEqual(t, p.energy(tiny*(1+p.Weight())), MaxAnswer*MaxAnswer*p.Weight()*(1+1e-6))
	}
}

// The sizes of a part are those of its kind, and its name is a kind and a subject.
func TestPartsAreChecked(t *testing.T) {
	for kind, d := range dims {
		good := func() Part { return Part{make([]float64, d*(d+1)/2), make([]float64, d)} }
		require.NoError(t, Parts{kind + "a": good()}.Check())
		for _, bad := range []Part{
			{good().Matrix, make([]float64, d+1)},
			{good().Matrix, make([]float64, d-1)},
			{make([]float64, d*(d+1)/2+1), good().Moments},
			{make([]float64, d*(d+1)/2-1), good().Moments},
		} {
			require.ErrorContains(t, Parts{kind + "a": bad}.Check(), "expected", "%s %+v", kind, bad)
		}
		for _, v := range []float64{1e12, -1e12} {
			p := good()
			p.Moments[d-1] = v
			require.NoError(t, Parts{kind + "a": p}.Check())
			p.Moments[d-1] = math.Nextafter(v, 2*v)
			require.ErrorContains(t, Parts{kind + "a": p}.Check(), "not finite, or too large")
		}
	}
	one := Part{[]float64{1}, []float64{0}}
	long := "cloud/" + strings.Repeat("x", maxName-6)
	require.NoError(t, Parts{long: one}.Check())
	for _, name := range []string{"", "cloud", "cloud/", "moon/a", "cloud/\n", "cloud/\xff", long + "x"} {
		require.ErrorContains(t, Parts{name: one}.Check(), "no such statistics", "%q", name)
	}
	many := Parts{}
	for i := range MaxParts {
		many["cloud/"+strings.Repeat("x", i+1)] = one
	}
	require.NoError(t, many.Check())
	many["all/a"] = one
	require.ErrorContains(t, many.Check(), "257 parts, at most 256 are allowed")
}
