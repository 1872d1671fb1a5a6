package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/pool"
)

// Pooled is a learner whose statistics can be combined with those of other nodes. Its methods are safe for concurrent use.
type Pooled interface {
	Learner
	// Statistics returns the statistics of own outcomes, without any prior, of the regressions with at least that many.
	Statistics(atLeast int64) pool.Parts
	// StatisticsAnew excludes the own outcomes so far from the statistics, as they are the errors of other predictions.
	StatisticsAnew()
	// Prior adds these statistics of other nodes to those of own outcomes. It replaces the previous prior; an empty one removes it. The parts are valid;
	// parts of other learners are ignored.
	Prior(parts pool.Parts)
}

// PoolLayout names the layout of a bandit's statistics. It changes with the context of an arm.
const PoolLayout = "bandit-1"

func partOf(target decision.Target) string { return pool.Bandit + target.String() }

// Statistics returns an arm's sums without its ridge, which forgetting leaves unchanged.
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

// StatisticsAnew stores the sums so far, which are then forgotten at the rate of the arm.
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

// Prior sets the prior of both targets in one step.
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

// sums are the sums over outcomes in an arm.
type sums struct {
	Matrix  [dims]vector
	Moments vector
	Count   int64
}

// prior is the contribution of other nodes' outcomes to an arm.
type prior struct {
	matrix  [dims]vector
	moments vector
	weight  float64
}

// withPrior adds the prior to the sums: with full weight until there are as many own outcomes, forgotten ones included, then with ever less.
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
