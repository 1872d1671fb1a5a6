// Package pool implements the arithmetic of statistics that several nodes combine.
//
// A Part holds the sums of one linear regression: M = Σ x·xᵀ and m = Σ x·y over its outcomes. The parts of nodes add up to exactly the part that one
// node with all outcomes would have, which does not hold for their weights M⁻¹·m. A part contains no reading and no name of a device.
//
// Nothing in this package is safe for concurrent use.
package pool

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Part is the statistics of one regression. Matrix is the lower triangle of M, row by row: d·(d+1)/2 numbers for d of Moments.
type Part struct {
	Matrix  []float64 `json:"matrix"`
	Moments []float64 `json:"moments"`
}

// Parts are the parts of a node or of a fleet, by the name of the regression: its kind, a slash, and its subject.
type Parts map[string]Part

// The kinds of regressions, and the dimension of each one's x.
const (
	Bandit = "bandit/" // and the target: the error of a predicted time over four shares of it
	Local  = "local/"  // and the class: work that operators do over a fixed part and predicted work
	Cloud  = "cloud/"  // and the class: the logarithm of measured over predicted time of the cloud
	All    = "all/"    // and the target: the same over all classes
)

var dims = map[string]int{Bandit: 4, Local: 2, Cloud: 1, All: 1}

const (
	// MaxParts bounds a contribution.
	MaxParts = 256
	maxName  = 300 // bytes
	tiny     = 1e-9
)

// Make builds a part from the lower triangle of a symmetric matrix.
func Make(rows [][]float64, moments []float64) Part {
	p := Part{Moments: slices.Clone(moments)}
	for i := range rows {
		p.Matrix = append(p.Matrix, rows[i][:i+1]...)
	}
	return p
}

// At returns an element of M.
func (p Part) At(i, k int) float64 {
	i, k = max(i, k), min(i, k)
	return p.Matrix[i*(i+1)/2+k]
}

// Weight is the trace of M. No outcome adds more than 1 to it, so it is a lower bound of their number.
func (p Part) Weight() (sum float64) {
	for i := range p.Moments {
		sum += p.At(i, i)
	}
	return sum
}

// Check returns an error if the parts cannot be statistics: numbers must be finite, matrices positive semidefinite, and names and sizes those of a
// kind.
func (ps Parts) Check() error {
	if len(ps) > MaxParts {
		return fmt.Errorf("%d parts, at most %d are allowed", len(ps), MaxParts)
	}
	for name, p := range ps {
		kind, about, _ := strings.Cut(name, "/")
		d, known := dims[kind+"/"]
		if !known || about == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return fmt.Errorf("part %.64q: no such statistics", name)
		}
		if len(p.Moments) != d || len(p.Matrix) != d*(d+1)/2 {
			return fmt.Errorf("part %.64q: %d moments and %d elements of a matrix, expected %d and %d", name, len(p.Moments), len(p.Matrix), d, d*(d+1)/2)
		}
		for _, v := range slices.Concat(p.Matrix, p.Moments) {
			if !(math.Abs(v) <= 1e12) { // also rejects NaN
				return fmt.Errorf("part %.64q: a number is not finite, or too large", name)
			}
		}
		if !p.sound() {
			return fmt.Errorf("part %.64q: its matrix is not positive semidefinite, so no outcomes lead to it", name)
		}
	}
	return nil
}

// sound reports whether M is positive semidefinite, but for rounding.
func (p Part) sound() bool {
	_, ok := p.root(tiny * (1 + math.Abs(p.Weight())))
	return ok
}

// root returns the Cholesky root of M + ridge·1, or false if that is not positive definite.
func (p Part) root(ridge float64) (root [4][4]float64, ok bool) {
	for i := range p.Moments {
		for k := 0; k <= i; k++ {
			rest := p.At(i, k)
			if i == k {
				rest += ridge
			}
			for j := range k {
				rest -= root[i][j] * root[k][j]
			}
			if i != k {
				root[i][k] = rest / root[k][k]
				continue
			}
			if !(rest > 0) {
				return root, false
			}
			root[i][i] = math.Sqrt(rest)
		}
	}
	return root, true
}

// energy returns mᵀ·(M + ridge·1)⁻¹·m: for real outcomes at most Σ y².
func (p Part) energy(ridge float64) (sum float64) {
	root, ok := p.root(ridge)
	if !ok {
		return math.Inf(1)
	}
	var solved [4]float64 // root·solved = m
	for i, rest := range p.Moments {
		for k := range solved[:i] {
			rest -= root[i][k] * solved[k] // #nosec G602 -- k < i < 4
		}
		solved[i] = rest / root[i][i] // #nosec G602 -- i < 4
		sum += solved[i] * solved[i]  // #nosec G602 -- i < 4
	}
	return sum
}

// MaxAnswer is the mean size of y, as the root of the mean square, to which Clip limits a part. Larger answers mean that predictions are wrong by
// several times, which a node has to find out itself.
const MaxAnswer = 3

// Clip returns copies in which each part is limited to a norm, of its matrix and its moments together, and its answers to MaxAnswer. So any
// contribution changes a sum by at most the norm. The parts must be valid.
func (ps Parts) Clip(norm float64) Parts {
	clipped := make(Parts, len(ps))
	for name, p := range ps {
		p = p.times(1)
		if _, whole := p.root(0); !whole { // valid parts could add up to an invalid one
			p.lift(tiny * (1 + p.Weight()))
		}
		p.tame()
		clipped[name] = p.times(min(norm/p.norm(), 1))
	}
	return clipped
}

// lift adds a multiple of the unit matrix to M.
func (p Part) lift(by float64) {
	for i := range p.Moments {
		p.Matrix[i*(i+1)/2+i] += by
	}
}

// tame shortens the moments to those of answers of at most MaxAnswer.
func (p Part) tame() {
	weight := p.Weight()
	is, most := p.energy(tiny*(1+weight)), MaxAnswer*MaxAnswer*max(weight, 0)
	if is <= most {
		return
	}
	by := math.Sqrt(most / is) // 0 where is is infinite
	for i := range p.Moments {
		p.Moments[i] *= by
	}
}

func (p Part) norm() float64 {
	sum := 0.0
	for i, m := range p.Moments {
		sum += m * m
		for k := range p.Moments {
			sum += p.At(i, k) * p.At(i, k)
		}
	}
	return math.Sqrt(sum)
}

// times returns a copy in which each outcome counts so many times.
func (p Part) times(by float64) Part {
	c := Part{slices.Clone(p.Matrix), slices.Clone(p.Moments)}
	for _, all := range [][]float64{c.Matrix, c.Moments} {
		for i := range all {
			all[i] *= by
		}
	}
	return c
}

// Weigh returns copies with at most the weight of a given number of outcomes, for a prior that as many own outcomes outweigh.
func (ps Parts) Weigh(most float64) Parts {
	weighed := make(Parts, len(ps))
	for name, p := range ps {
		weighed[name] = p.times(min(most/max(p.Weight(), 0), 1))
		weighed[name].tame()
	}
	return weighed
}

// Add adds other parts to ps.
func (ps Parts) Add(others Parts) {
	for name, p := range others {
		sum, known := ps[name]
		if !known {
			ps[name] = p.times(1)
			continue
		}
		for i, v := range p.Matrix {
			sum.Matrix[i] += v
		}
		for i, v := range p.Moments {
			sum.Moments[i] += v
		}
	}
}

// Noise adds Gaussian noise of a standard deviation to each number of M and m, using the draws that normal returns for a part, and then a multiple of
// the unit matrix that makes M positive semidefinite again. Processing after the noise costs no privacy.
func (ps Parts) Noise(deviation float64, normal func(name string) func() float64) {
	for name, p := range ps {
		draw := normal(name)
		for _, all := range [][]float64{p.Matrix, p.Moments} {
			for i := range all {
				all[i] += deviation * draw()
			}
		}
		shift := 0.0
		for !p.sound() {
			step := max(shift, deviation/16)
			p.lift(step)
			shift += step
		}
		p.tame()
	}
}
