package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/pool"
)

// Pooled is a learner whose statistics can be put together with those of other nodes. Both methods are safe for concurrent use with all others.
type Pooled interface {
	Learner
	// Statistics are what own outcomes have taught, without any prior, of the regressions that had at least that many.
	Statistics(atLeast int64) pool.Parts
	// StatisticsAnew keeps what own outcomes have taught so far out of the statistics, as other predictions were off by it.
	StatisticsAnew()
	// Prior has what follows from own outcomes follow from these statistics as well. It replaces the prior before it; none ends it. The parts are
	// valid; those of other learners are ignored.
	Prior(parts pool.Parts)
}

// PoolLayout names what the numbers in a bandit's statistics mean. It changes with the context of an arm.
const PoolLayout = "bandit-1"

func partOf(target decision.Target) string { return pool.Bandit + target.String() }

// Statistics gives an arm's sums without its ridge, which forgetting keeps whole.
func (b *bandit) Statistics(atLeast int64) pool.Parts {
	b.learning.Lock()
	defer b.learning.Unlock()
	parts := pool.Parts{}
	for i := range b.newest.Arms {
		a := &b.newest.Arms[i]
		if a.Count-a.Before.Count < max(atLeast, 1) {
			continue
		}
		rows := make([][]float64, dims)
		for k := range rows {
			row := a.Matrix[k]
			row[k] -= ridges[i]
			for l := range row {
				row[l] -= a.Before.Matrix[k][l]
			}
			row[k] = max(row[k], 0)
			rows[k] = row[:]
		}
		moments := a.Moments
		for k := range moments {
			moments[k] -= a.Before.Moments[k]
		}
		parts[partOf(decision.Target(i))] = pool.Make(rows, moments[:])
	}
	return parts
}

// StatisticsAnew notes the sums so far, which are forgotten as they are in the arm.
func (b *bandit) StatisticsAnew() {
	b.learning.Lock()
	defer b.learning.Unlock()
	for i := range b.newest.Arms {
		a := &b.newest.Arms[i]
		a.Before = sums{a.Matrix, a.Moments, a.Count}
		for k := range dims {
			a.Before.Matrix[k][k] -= ridges[i]
		}
	}
}

// Prior changes what is believed of both targets at once.
func (b *bandit) Prior(parts pool.Parts) {
	b.learning.Lock()
	defer b.learning.Unlock()
	for i := range b.newest.Arms {
		p, known := parts[partOf(decision.Target(i))]
		a := &b.newest.Arms[i]
		a.prior = prior{}
		for k := range dims {
			for l := 0; known && l < dims; l++ {
				a.prior.matrix[k][l] = p.At(k, l)
			}
		}
		copy(a.prior.moments[:], p.Moments)
		a.prior.weight = p.Weight()
		a.solve()
	}
	b.publish()
}

// sums are what outcomes have left in an arm.
type sums struct {
	Matrix  [dims]vector
	Moments vector
	Count   int64
}

// prior is what the outcomes of others add to an arm.
type prior struct {
	matrix  [dims]vector
	moments vector
	weight  float64
}

// withPrior adds the prior to the sums: all of it until there are as many own outcomes, then ever less of it, whatever was forgotten since.
func (a *arm) withPrior() (matrix [dims]vector, moments vector) {
	matrix, moments = a.Matrix, a.Moments
	if a.prior.weight == 0 {
		return matrix, moments
	}
	by := min(1, a.prior.weight/float64(max(a.Count, 1)))
	for i := range matrix {
		for k := range matrix[i] {
			matrix[i][k] += by * a.prior.matrix[i][k]
		}
		moments[i] += by * a.prior.moments[i]
	}
	return matrix, moments
}

var _ Pooled = (*bandit)(nil)
