package rl

import (
	"math"
	"slices"
)

// Norm keeps running means and variances and scales values to zero mean and unit variance.
type Norm struct {
	Mean, Var []float64
	Low, High []float64 // the smallest and largest values seen: the range of training
	Count     float64
}

// clipAt is the limit of normalised values, so that a single outlier does not affect the network.
const clipAt = 10

// tiny is added to variances, so that constant values are not divided by zero.
const tiny = 1e-8

// NewNorm starts with mean 0 and variance 1, with negligible weight.
func NewNorm(size int) *Norm {
	n := &Norm{Mean: make([]float64, size), Var: make([]float64, size), Low: make([]float64, size), High: make([]float64, size), Count: 1e-4}
	for k := range n.Var {
		n.Var[k], n.Low[k], n.High[k] = 1, math.Inf(1), math.Inf(-1)
	}
	return n
}

func (n *Norm) clone() *Norm {
	return &Norm{slices.Clone(n.Mean), slices.Clone(n.Var), slices.Clone(n.Low), slices.Clone(n.High), n.Count}
}

// Add adds rows of values with the parallel form of Welford's sums.
func (n *Norm) Add(x []float64) {
	size := len(n.Mean)
	rows := float64(len(x) / size)
	total := n.Count + rows
	for k := range n.Mean {
		var sum, squares float64
		for i := k; i < len(x); i += size {
			sum += x[i]
			n.Low[k], n.High[k] = min(n.Low[k], x[i]), max(n.High[k], x[i])
		}
		mean := sum / rows
		for i := k; i < len(x); i += size {
			squares += (x[i] - mean) * (x[i] - mean)
		}
		delta := mean - n.Mean[k]
		n.Mean[k] += delta * rows / total
		n.Var[k] = (n.Var[k]*n.Count + squares + delta*delta*n.Count*rows/total) / total
	}
	n.Count = total
}

// Apply writes the normalised rows of x to dst.
func (n *Norm) Apply(dst, x []float64) {
	size := len(n.Mean)
	for k := range n.Mean {
		mean, factor := n.Mean[k], 1/math.Sqrt(n.Var[k]+tiny)
		for i := k; i < len(x); i += size {
			dst[i] = min(max((x[i]-mean)*factor, -clipAt), clipAt)
		}
	}
}
