package policy

import (
	"math"

	"app-offload/functions/decision"
)

// Learner is a policy that learns from what came of its decisions. Observe and Save are safe for concurrent use, with each
// other and with Decide.
type Learner interface {
	Policy
	// Observe takes in one decision with its outcome, however late and in whatever order, by whichever policy.
	Observe(e *decision.Entry)
	// Outcomes is how many of each way have taught it so far.
	Outcomes() (local, cloud int64)
	// Save is what has been learned so far, for Restore after a restart. Writing it to disk is the caller's.
	Save() ([]byte, error)
	// Restore goes on from what Save gave, or reports why it cannot and then changes nothing.
	Restore(saved []byte) error
}

// heir is a policy that goes on with what another one of its kind has learned, as the two share one memory from then on.
// It is called before the heir decides.
type heir interface{ inherit(from Policy) }

// Inherit lets p go on with what from has learned, where the two are of a kind that learns.
func Inherit(p, from Policy) {
	if h, ok := p.(heir); ok && from != nil {
		h.inherit(from)
	}
}

// dims is how many parts a prediction is corrected in.
const dims = 4

type vector [dims]float64

func (v *vector) dot(w *vector) (sum float64) {
	for i := range v {
		sum += v[i] * w[i]
	}
	return sum
}

// arm is a linear regression with forgetting. It keeps the matrix of its normal equations, to which an outcome is a rank-one
// update, and inverts it anew each time: the inverse itself, updated with forgetting, multiplies its rounding errors by
// 1/forget with each outcome, and is worth nothing after some thousand. It is immutable once published.
type arm struct {
	Matrix  [dims]vector // Σ x·xᵀ with forgetting, and ridge on the diagonal
	Moments vector       // Σ x·y with forgetting
	Count   int64
	Before  sums `json:",omitzero"` // what statistics leave out

	prior   prior
	inverse [dims]vector // of Matrix, with the prior's
	weights vector       // inverse·Moments, with the prior's
}

func newArm(ridge float64) arm {
	var a arm
	for i := range a.Matrix {
		a.Matrix[i][i] = ridge
	}
	a.solve()
	return a
}

// width is √(xᵀ A⁻¹ x), by how much the regression may be off at x.
func (a *arm) width(x *vector) float64 {
	sum := 0.0
	for i := range a.inverse {
		sum += x[i] * a.inverse[i].dot(x)
	}
	return math.Sqrt(max(sum, 0))
}

// observe discounts the past by forget and takes one outcome in.
func (a *arm) observe(x *vector, y, forget, ridge float64) {
	a.discount(forget, ridge)
	for i := range x {
		for k := range x {
			a.Matrix[i][k] += x[i] * x[k]
		}
		a.Moments[i] += x[i] * y
	}
	a.solve()
	a.Count++
}

// fade only forgets.
func (a *arm) fade(forget, ridge float64) {
	a.discount(forget, ridge)
	a.solve()
}

// discount takes weight off the past. What is forgotten goes back to the prior: a direction that no outcome has told of for
// long is unknown again, and not less known than at first.
func (a *arm) discount(forget, ridge float64) {
	for i := range a.Matrix {
		for k := range a.Matrix[i] {
			a.Matrix[i][k] *= forget
		}
		a.Matrix[i][i] += (1 - forget) * ridge
		a.Moments[i] *= forget
		for k := range a.Matrix[i] {
			a.Before.Matrix[i][k] *= forget
		}
		a.Before.Moments[i] *= forget
	}
}

// solve finds inverse and weights, and reports whether the matrix has an inverse: always, if it came of outcomes.
func (a *arm) solve() bool {
	matrix, moments := a.withPrior()
	root, ok := cholesky(&matrix)
	if !ok {
		return false
	}
	for k := range root { // column k of the inverse solves root·rootᵀ·column = unit
		var column vector
		for i := k; i < dims; i++ {
			rest := 0.0
			if i == k {
				rest = 1
			}
			for j := k; j < i; j++ {
				rest -= root[i][j] * column[j]
			}
			column[i] = rest / root[i][i]
		}
		for i := dims - 1; i >= 0; i-- {
			rest := column[i]
			for j := i + 1; j < dims; j++ {
				rest -= root[j][i] * column[j]
			}
			column[i] = rest / root[i][i]
		}
		a.inverse[k] = column // the inverse is symmetric
	}
	for i := range a.weights {
		a.weights[i] = a.inverse[i].dot(&moments)
	}
	return true
}

// cholesky is the lower triangle L of L·Lᵀ = m, of which it looks at the lower triangle alone. Only a positive definite
// matrix has one.
func cholesky(m *[dims]vector) (root [dims]vector, ok bool) {
	for i := range m {
		for j := 0; j <= i; j++ {
			rest := m[i][j]
			for k := range j {
				rest -= root[i][k] * root[j][k]
			}
			if i != j {
				root[i][j] = rest / root[j][j]
				continue
			}
			if !(rest > 0) || math.IsInf(rest, 1) {
				return root, false
			}
			root[i][i] = math.Sqrt(rest)
		}
	}
	return root, true
}

// restored completes an arm that was saved, and reports whether outcomes can have led to it.
func (a *arm) restored() bool {
	if a.Count < 0 || !a.solve() {
		return false
	}
	for i := range a.weights {
		if !isNumber(a.weights[i]) {
			return false
		}
		for k := range a.inverse[i] {
			if !isNumber(a.inverse[i][k]) || a.Matrix[i][k] != a.Matrix[k][i] {
				return false
			}
		}
	}
	return true
}

func isNumber(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
