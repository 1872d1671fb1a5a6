package score

import (
	"math"
	"sync"
	"sync/atomic"
)

// regression learns how the actual work of operators, in Mcycles, depends on the predicted work of the task: a fixed part for each task, and a part
// in proportion. It is least squares with forgetting over relative errors, so that small tasks count as much as large ones. Reading takes no lock.
//
// A smoothed ratio cannot separate the two parts: see TestRegressionPredictsBetterThanARatio.
type regression struct {
	latest atomic.Pointer[line] // the published line
	mu     sync.Mutex           // guards newest
	newest line                 // Count is 0 where only other nodes have measured
}

// line is work = base·floor + slope·cycles, with the sums it was computed from. It is immutable, and the format on disk.
type line struct {
	Base  float64    `json:"base"`
	Slope float64    `json:"slope"`
	A     [3]float64 `json:"a"` // Σ x·xᵀ, symmetric: xx, xy, yy
	B     [2]float64 `json:"b"` // Σ x·y
	Mean  float64    `json:"mean"`
	Count int64      `json:"count"`

	Before *line `json:"before,omitempty"` // sums excluded from statistics, nil for the configuration
	prior  prior
}

const (
	floorCycles = 0.03 // Mcycles, 10 µs of the default node: below it errors are absolute rather than relative
	lineRidge   = 2e-3 // weight of the configuration in measurements, which decides in directions that no task covers
)

// fresh is the line of the configuration: no base, slope 1. It counts as one measurement.
func fresh() line { return line{Slope: 1, A: [3]float64{1, 0, 1}, B: [2]float64{0, 1}} }

// The first measurements are each published, since each one matters; later only every few, as a copy costs more than learning does.
const (
	eachMatters = 1000
	publishEach = 8
)

// observe adds one measurement, bounded by limit as a factor on the prediction.
func (r *regression) observe(cycles, measured, smoothing, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin()
	r.newest.take(cycles, between(measured, cycles/limit, (cycles+floorCycles)*limit), 1-smoothing)
	if n := r.newest.Count; n < eachMatters || n%publishEach == 0 {
		r.publish()
	}
}

// begin starts a line before its first measurement. The caller holds mu.
func (r *regression) begin() {
	if r.newest.Count == 0 {
		p := r.newest.prior
		r.newest = fresh()
		r.newest.prior = p
	}
}

// publish makes the learned line the one that predicts. The caller holds mu.
func (r *regression) publish() {
	l := r.newest
	r.latest.Store(&l)
}

// restore continues from a saved line.
func (r *regression) restore(l line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.prior = r.newest.prior
	r.newest = l
	r.publish()
}

func (l *line) take(cycles, measured, keep float64) {
	scale := cycles + floorCycles
	x, y, m := floorCycles/scale, cycles/scale, measured/scale
	l.A = [3]float64{l.A[0]*keep + x*x, l.A[1]*keep + x*y, l.A[2]*keep + y*y}
	l.B = [2]float64{l.B[0]*keep + x*m, l.B[1]*keep + y*m}
	l.Count++
	l.Mean += (cycles - l.Mean) / float64(min(l.Count, int64(1/max(1-keep, 1e-6))))
	l.solve()
}

// solve computes base and slope by least squares, with a ridge towards the configuration. Neither falls below 0, where more data would mean less
// work.
func (l *line) solve() {
	by := l.prior.share(l.Count)
	a, b, c := l.A[0]+by*l.prior.a[0]+lineRidge, l.A[1]+by*l.prior.a[1], l.A[2]+by*l.prior.a[2]+lineRidge
	u, v := l.B[0]+by*l.prior.b[0], l.B[1]+by*l.prior.b[1]+lineRidge
	det := a*c - b*b // at least lineRidge²
	l.Base, l.Slope = (c*u-b*v)/det, (a*v-b*u)/det
	if l.Base < 0 {
		l.Base, l.Slope = 0, v/c
	}
	if l.Slope < 0 {
		l.Base, l.Slope = u/a, 0
	}
}

// factor returns work over prediction for a task of so many cycles, or otherwise without a measurement.
func (r *regression) factor(cycles, limit, otherwise float64) float64 {
	l := r.latest.Load()
	if l == nil || !(cycles > 0) {
		return otherwise
	}
	return between(l.Slope+l.Base*floorCycles/cycles, 1/limit, limit*(1+floorCycles/cycles))
}

// mean returns the mean cycles of the latest tasks, 1 before the first.
func (r *regression) mean() float64 {
	if l := r.latest.Load(); l != nil && l.Mean > 0 {
		return l.Mean
	}
	return 1
}

// valid reports whether the line can be the result of observations.
func (l *line) valid() bool {
	for _, v := range [...]float64{l.Base, l.Slope, l.A[0], l.A[1], l.A[2], l.B[0], l.B[1], l.Mean} {
		if !(math.Abs(v) <= 1e12) { // also rejects NaN
			return false
		}
	}
	if l.Before != nil && (l.Before.Before != nil || !l.Before.valid() || l.Before.Count > l.Count) {
		return false
	}
	return l.Base >= 0 && l.Slope >= 0 && l.A[0] >= 0 && l.A[2] >= 0 && l.A[0]*l.A[2] >= l.A[1]*l.A[1]*(1-1e-9)-1e-12 && l.Count > 0 && l.Mean >= 0
}
